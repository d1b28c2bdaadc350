"""What is not proven, not asked for or not HTTP: answers that say nothing, and no trace of it."""

from __future__ import annotations

import pytest

from antom_payments.antom.signing import Signer, load_private_key
from antom_payments.notifications import HttpLimits
from notifications.sidecars import (
    CLIENT_ID,
    PATH,
    Antom,
    assert_acknowledged,
    events_of,
    sample,
    stored,
)
from notifications.wire import ask, request

pytestmark = pytest.mark.usefixtures("payment")


def flipped(headers, name, change):
    return [(key, change(value) if key == name else value) for key, value in headers]


def without(headers, name):
    return [(key, value) for key, value in headers if key != name]


REFUSED = {
    "no signature": (lambda h: without(h, "signature"), "header_missing"),
    "no client id": (lambda h: without(h, "client-id"), "header_missing"),
    "no request time": (lambda h: without(h, "request-time"), "header_missing"),
    "an empty signature": (lambda h: flipped(h, "signature", lambda _: ""), "header_missing"),
    "two signatures": (lambda h: [*h, ("Signature", dict(h)["signature"])], "header_duplicate"),
    "two client ids": (lambda h: [*h, ("client-id", CLIENT_ID)], "header_duplicate"),
    "two request times": (lambda h: [*h, ("request-time", "1")], "header_duplicate"),
    "two content types": (
        lambda h: [*h, ("content-type", "application/json")],
        "header_duplicate",
    ),
    "an unknown client": (lambda h: flipped(h, "client-id", lambda _: "X"), "client_id_unknown"),
    "a client of another case": (
        lambda h: flipped(h, "client-id", str.lower),
        "client_id_unknown",
    ),
    "another time": (lambda h: flipped(h, "request-time", lambda t: t + "0"), "signature_mismatch"),
    "another algorithm": (
        lambda h: flipped(h, "signature", lambda s: s.replace("RSA256", "RSA1")),
        "signature_algorithm",
    ),
    "a cut signature": (
        lambda h: flipped(h, "signature", lambda s: s.replace("%3D", "")),
        "signature_encoding",
    ),
    "no pairs": (
        lambda h: flipped(h, "signature", lambda _: "garbage"),
        "signature_header_malformed",
    ),
    "text": (lambda h: flipped(h, "content-type", lambda _: "text/plain"), "content_type"),
    "a form": (
        lambda h: flipped(h, "content-type", lambda _: "application/x-www-form-urlencoded"),
        "content_type",
    ),
}


async def test_whatever_is_not_proven_gets_the_same_answer_and_leaves_no_trace(
    sidecar, store, database_url
):
    headers = sidecar.antom.headers(sample("03"))
    for how, (change, reason) in REFUSED.items():
        before = sidecar.metrics.outcomes()
        answer = await sidecar.post(sample("03"), change(headers))
        assert answer.head == (
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Signature\r\ncontent-length: 0\r\n\r\n"
        ), how
        counted = f"bad_signature/{reason}"
        assert sidecar.metrics.outcomes() == before | {counted: before.get(counted, 0) + 1}, how
    assert await stored(database_url) == []
    assert len(await events_of(store)) == 1


async def test_another_key_or_body_is_not_proven(sidecar, merchant_keys, store):
    own = Antom(
        Signer(load_private_key(merchant_keys.private, setting="test"), CLIENT_ID),
        sidecar.antom.now,
    )
    answers = [
        await sidecar.post(sample("03"), own.headers(sample("03"))),
        await sidecar.post(sample("03") + b" ", sidecar.antom.headers(sample("03"))),
        await sidecar.notify(sample("03"), uri="/notify"),
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.head for answer in answers}) == 1
    assert sidecar.metrics.outcomes() == {"bad_signature/signature_mismatch": 3}
    assert len(await events_of(store)) == 1


async def test_a_body_that_cannot_be_read_is_answered_as_any_other_that_is_not_proven(
    sidecar, store
):
    forged = flipped(
        sidecar.antom.headers(sample("03")), "signature", lambda s: s[:-8] + "AAAAA%3D"
    )
    bodies = [sample("03"), b"", b"{", b"[" * 10_000, b'{"notifyType":1}', b"\xff\x00"]
    answers = [await sidecar.post(body, forged) for body in bodies]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.head for answer in answers}) == 1
    assert len(await events_of(store)) == 1


async def test_bytes_moved_between_time_and_body_are_not_applied(sidecar):
    time, body = "2026-03-02T09:30:00Z", b'{"x":"a.b"}'
    headers = sidecar.antom.headers(body, time=time)
    answer = await sidecar.post(
        b'b"}', flipped(headers, "request-time", lambda _: time + '.{"x":"a')
    )
    assert answer.status == 401


async def test_a_missing_content_type_is_taken(sidecar):
    headers = without(sidecar.antom.headers(sample("03")), "content-type")
    assert_acknowledged(await sidecar.post(sample("03"), headers))


OTHER_REQUESTS = [
    *((method, PATH) for method in ("GET", "PUT", "HEAD", "OPTIONS", "DELETE", "TRACE")),
    *(("POST", path) for path in ("/", PATH + "/", "/antom/%6eotify", "//antom/notify")),
    ("POST", "/antom/../antom/notify"),
    *(("GET", path) for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json")),
]


async def test_other_paths_and_methods_are_answered_404(sidecar, database_url):
    headers = sidecar.antom.headers(sample("03"))
    for method, target in OTHER_REQUESTS:
        answer = await sidecar.post(sample("03"), headers, method=method, target=target)
        assert answer.head == b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", target
    assert await stored(database_url) == []
    assert sidecar.metrics.outcomes() == {"not_found": len(OTHER_REQUESTS)}


async def test_one_that_is_too_large_or_too_slow_leaves_no_trace(
    service, start_sidecar, database_url
):
    async with start_sidecar(service, limits=HttpLimits(request_seconds=0.3)) as sidecar:
        large = sample("03") + b" " * 70_000
        assert (await sidecar.notify(large)).status == 413
        whole = request(sample("03"), headers=sidecar.antom.headers(sample("03")))
        assert (await ask(sidecar.port, whole[:-1])).status == 408
        assert (await ask(sidecar.port, b"\x00")).status == 400
        assert sidecar.metrics.outcomes() == {
            "malformed/body_bytes": 1,
            "malformed/slow": 1,
            "malformed/framing": 1,
        }
    assert await stored(database_url) == []


@pytest.mark.parametrize("signed", [PATH, PATH + "?tenant=a&x=1"])
async def test_a_query_may_be_signed_or_not(sidecar, signed):
    headers = sidecar.antom.headers(sample("03"), uri=signed)
    assert_acknowledged(await sidecar.post(sample("03"), headers, target=PATH + "?tenant=a&x=1"))


async def test_a_signed_query_that_was_changed_is_not_proven(sidecar):
    headers = sidecar.antom.headers(sample("03"), uri=PATH + "?tenant=a")
    answer = await sidecar.post(sample("03"), headers, target=PATH + "?tenant=b")
    assert answer.status == 401


async def test_behind_a_proxy_that_rewrites_the_path_the_public_one_is_verified(
    service, start_sidecar
):
    async with start_sidecar(service, path="/notify", public_path="/api/notify") as sidecar:
        body = sample("03")
        headers = sidecar.antom.headers(body, uri="/api/notify")
        assert_acknowledged(await sidecar.post(body, headers, target="/notify"))
        own = sidecar.antom.headers(body, uri="/notify")
        assert (await sidecar.post(body, own, target="/notify")).status == 401


async def test_forwarded_headers_are_not_believed(sidecar):
    headers = sidecar.antom.headers(sample("03"), uri="/other")
    lies = [
        ("x-forwarded-prefix", "/other"),
        ("x-forwarded-uri", "/other"),
        ("x-original-url", "/other"),
        ("x-forwarded-path", "/other"),
    ]
    assert (await sidecar.post(sample("03"), headers + lies)).status == 401


async def test_an_absolute_request_target_is_taken_for_its_path(sidecar):
    headers = sidecar.antom.headers(sample("03"))
    target = f"http://merchant.example{PATH}"
    assert_acknowledged(await sidecar.post(sample("03"), headers, target=target))
