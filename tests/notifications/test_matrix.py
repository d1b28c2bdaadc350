"""What becomes of a notification: a test for each row of the matrix, on both databases.

Each row is an answer, what the database holds after it, and what was counted.
"""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from sqlalchemy import Connection, event, exc, make_url, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine

from antom_payments.antom.signing import Signer, load_private_key
from antom_payments.errors import StoreUnavailable
from antom_payments.notifications import HttpLimits
from antom_payments.payment import CaptureState, EventType, PaymentState
from antom_payments.store.tables import facts, notifications
from notifications.sidecars import (
    CLIENT_ID,
    PATH,
    Antom,
    Held,
    Sidecar,
    Starts,
    events_of,
    message,
    sample,
)
from notifications.wire import Answer, Wire, ask, request

pytestmark = pytest.mark.usefixtures("payment")

ACKNOWLEDGEMENT = (
    b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'
)


def assert_acknowledged(answer: Answer | None) -> None:
    assert answer is not None
    assert answer.status == 200
    assert answer.body == ACKNOWLEDGEMENT
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(ACKNOWLEDGEMENT)),
    }


async def stored(database_url: str, table=notifications) -> list[dict]:
    """The rows of a table, read on a connection of our own."""
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    url = make_url(database_url)
    engine = create_async_engine(url.set(drivername=driver[url.get_backend_name()]))
    try:
        async with engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(select(table))).mappings()]
    finally:
        await engine.dispose()


async def test_a_new_one_is_committed_and_acknowledged(sidecar, store, database_url):
    assert_acknowledged(await sidecar.notify(sample("03")))
    [_, event_] = await events_of(store)
    [row] = await stored(database_url)
    assert event_.type is EventType.PAYMENT_AUTHORIZED
    assert event_.payment.state is PaymentState.AUTHORIZED
    assert event_.notification_id == row["notification_id"]
    assert (row["event_id"], row["outcome"]) == (event_.event_id, "APPLIED")
    assert (row["client_id"], row["request_time"]) == (CLIENT_ID, "2026-03-02T09:30:00Z")
    assert sidecar.metrics.outcomes() == {"accepted": 1}


@pytest.mark.parametrize("later", [0, 3600, 26 * 3600, 60 * 86_400])
async def test_one_seen_before_is_acknowledged_and_changes_nothing(sidecar, store, clock, later):
    headers = sidecar.antom.headers(sample("03"))
    assert_acknowledged(await sidecar.post(sample("03"), headers))
    clock.advance(later)
    assert_acknowledged(await sidecar.post(sample("03"), headers))
    assert len(await events_of(store)) == 2
    assert sidecar.metrics.outcomes() == {"accepted": 1, "duplicate": 1}


async def test_a_hundred_at_once_are_one_event_and_a_hundred_acknowledgements(sidecar, store):
    headers = sidecar.antom.headers(sample("03"))
    answers = await asyncio.gather(*(sidecar.post(sample("03"), headers) for _ in range(100)))
    for answer in answers:
        assert_acknowledged(answer)
    assert len(await events_of(store)) == 2
    assert sidecar.metrics.outcomes() == {"accepted": 1, "duplicate": 99}


async def test_one_that_tells_a_known_fact_otherwise_is_kept_and_concludes_nothing(
    sidecar, store, database_url, caplog
):
    await sidecar.notify(sample("03"))
    other = message("03", paymentAmount={"value": "1", "currency": "SGD"})
    with caplog.at_level(logging.ERROR, "antom_payments"):
        assert_acknowledged(await sidecar.notify(other))
    assert len(await events_of(store)) == 2
    found = await store.payment("default", payment_request_id="paymentRequestId01")
    assert (found.state, found.inquiry_wanted) == (PaymentState.AUTHORIZED, True)
    assert {row["outcome"] for row in await stored(database_url)} == {"APPLIED", "CONFLICT"}
    assert sidecar.metrics.outcomes() == {"accepted": 1, "conflict": 1}
    assert caplog.records


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(message("03", notifyType="REFUND_RESULT"), "unsupported_type", id="refund"),
        pytest.param(message("03", notifyType="NEWS_OF_2027"), "unsupported_type", id="new type"),
        pytest.param(message("03", notifyType=None), "unsupported_type", id="no type"),
        pytest.param(message("03", paymentId=None), "missing", id="a field is missing"),
        pytest.param(message("03", result="S"), "wrong_type", id="a field of another type"),
        pytest.param(message("03", paymentId="1" * 65), "too_long", id="an id that is too long"),
        pytest.param(
            message("03", paymentAmount={"value": "42.00", "currency": "SGD"}),
            "not_an_integer",
            id="an amount with decimals",
        ),
        pytest.param(
            message("03", paymentRequestId="a\x00b"), "unstorable_text", id="a NUL in an id"
        ),
        pytest.param(message("03", x="a\x00b"), "unstorable_text", id="a NUL anywhere"),
        pytest.param(message("03", x="\ud800"), "unstorable_text", id="a lone surrogate"),
        pytest.param(b'{"notifyType":"PAYMENT_RESULT",' * 2 + b"}}", "not_json", id="broken"),
        pytest.param(b'{"paymentId":"1","paymentId":"2"}', "duplicate_key", id="a key twice"),
        pytest.param(b'{"paymentId":"\xff"}', "not_utf8", id="not UTF-8"),
        pytest.param(b"[]", "not_an_object", id="a list"),
        pytest.param(b"[" * 60_000, "nested_too_deep", id="nested without end"),
        pytest.param(b"", "not_json", id="nothing"),
    ],
)
async def test_one_that_is_not_understood_is_quarantined_and_acknowledged(
    sidecar, store, database_url, body, reason
):
    assert_acknowledged(await sidecar.notify(body))
    [row] = await stored(database_url)
    assert row["outcome"] == "QUARANTINED"
    assert row["reason"].partition(":")[0] == reason
    assert len(await events_of(store)) == 1
    assert sidecar.metrics.outcomes() == {f"quarantined/{reason}": 1}


async def test_a_quarantined_one_that_comes_again_is_kept_once(sidecar, database_url, caplog):
    with caplog.at_level(logging.ERROR, "antom_payments"):
        for _ in range(2):
            assert_acknowledged(await sidecar.notify(b"[]"))
    [row] = await stored(database_url)
    assert row["copies"] == 1
    assert caplog.records


@pytest.mark.parametrize(
    "time",
    [
        pytest.param("2026-03-01T08:29:59Z", id="25 h and a second ago"),
        pytest.param("2026-03-02T09:35:01Z", id="in 5 minutes and a second"),
        pytest.param("2026-03-02T09:30:00", id="without an offset"),
        pytest.param("yesterday", id="in words"),
    ],
)
async def test_one_from_outside_the_window_is_kept_and_not_applied(
    sidecar, store, database_url, time
):
    assert_acknowledged(await sidecar.notify(sample("03"), time=time))
    [row] = await stored(database_url)
    assert (row["outcome"], row["reason"]) == ("QUARANTINED", "outside_window")
    assert await stored(database_url, facts) == []
    assert len(await events_of(store)) == 1
    assert sidecar.metrics.outcomes() == {"stale": 1}


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-01T08:30:00Z",
        "2026-03-02T09:35:00Z",
        "1772443800000",
        "2026-03-02T17:30:00+08:00",
        "2026-03-02T17:30:00+0800",
        "2026-03-02T09:30:00.0000000Z",
    ],
)
async def test_one_from_within_the_window_is_applied(sidecar, time):
    assert_acknowledged(await sidecar.notify(sample("03"), time=time))
    assert sidecar.metrics.outcomes() == {"accepted": 1}


async def test_the_last_resend_after_a_day_is_accepted(sidecar, store, clock):
    headers = sidecar.antom.headers(sample("03"))
    clock.advance(24 * 3600 + 22 * 60)
    assert_acknowledged(await sidecar.post(sample("03"), headers))
    assert len(await events_of(store)) == 2


async def test_one_of_an_unknown_payment_is_kept_until_the_payment_is_known(
    sidecar, store, database_url
):
    capture = message("06", paymentId="2020010123456789XXXX")
    assert_acknowledged(await sidecar.notify(capture))
    assert len(await events_of(store)) == 1
    [row] = await stored(database_url)
    assert row["outcome"] == "ORPHANED"
    assert sidecar.metrics.outcomes() == {"orphaned": 1}
    assert_acknowledged(await sidecar.notify(sample("03")))
    told = await events_of(store)
    assert [event_.type for event_ in told] == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    assert told[-1].payment.state is PaymentState.SUCCEEDED


@pytest.mark.parametrize(
    "amount",
    [
        {"value": "4201", "currency": "SGD"},
        {"value": "42", "currency": "SGD"},
        {"value": "4200", "currency": "USD"},
        None,
    ],
)
async def test_one_of_another_amount_never_authorises(sidecar, store, database_url, amount, caplog):
    with caplog.at_level(logging.ERROR, "antom_payments"):
        assert_acknowledged(await sidecar.notify(message("03", paymentAmount=amount)))
    [_, event_] = await events_of(store)
    assert event_.type is EventType.AMOUNT_MISMATCH
    assert event_.payment.state is PaymentState.AWAITING_BUYER
    assert event_.payment.inquiry_wanted
    assert len(await stored(database_url)) == 1
    assert sidecar.metrics.outcomes() == {"accepted/amount_mismatch": 1}
    assert caplog.records


# Refused


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


@pytest.mark.parametrize("how", REFUSED)
async def test_one_that_is_not_proven_leaves_no_trace(sidecar, store, database_url, how):
    change, reason = REFUSED[how]
    answer = await sidecar.post(sample("03"), change(sidecar.antom.headers(sample("03"))))
    assert answer.head == (
        b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Signature\r\ncontent-length: 0\r\n\r\n"
    )
    assert await stored(database_url) == []
    assert len(await events_of(store)) == 1
    assert sidecar.metrics.outcomes() == {f"bad_signature/{reason}": 1}


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


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", PATH),
        ("PUT", PATH),
        ("HEAD", PATH),
        ("OPTIONS", PATH),
        ("POST", "/"),
        ("POST", PATH + "/"),
        ("POST", "/antom/%6eotify"),
        ("POST", "//antom/notify"),
        ("POST", "/antom/../antom/notify"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
    ],
)
async def test_other_paths_and_methods_are_answered_404(sidecar, database_url, method, target):
    answer = await sidecar.post(
        sample("03"), sidecar.antom.headers(sample("03")), method=method, target=target
    )
    assert answer.head == b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    assert await stored(database_url) == []
    assert sidecar.metrics.outcomes() == {"not_found": 1}


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


# Not now


def assert_unavailable(answer: Answer | None) -> None:
    assert answer is not None
    assert answer.head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.body == b""


async def test_a_commit_that_fails_is_answered_503_and_leaves_nothing(sidecar, store, database_url):
    def fail(_: Connection) -> None:
        raise exc.OperationalError("COMMIT", None, Exception("disk full"))

    event.listen(Engine, "commit", fail)
    try:
        assert_unavailable(await sidecar.notify(sample("03")))
    finally:
        event.remove(Engine, "commit", fail)
    assert len(await events_of(store)) == 1
    assert await stored(database_url) == []
    assert_acknowledged(await sidecar.notify(sample("03")))
    assert len(await events_of(store)) == 2
    assert sidecar.metrics.outcomes() == {"error/store_unavailable": 1, "accepted": 1}


async def test_a_database_that_is_stuck_is_answered_503_in_time(
    service, store, start_sidecar, database_url
):
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    url = make_url(database_url)
    lock = {
        "sqlite": "BEGIN IMMEDIATE",
        "postgresql": "LOCK TABLE payments IN ACCESS EXCLUSIVE MODE",
    }
    engine = create_async_engine(url.set(drivername=driver[url.get_backend_name()]))
    async with start_sidecar(service, deadline_seconds=0.3) as sidecar:
        async with engine.connect() as connection:
            await connection.execute(text(lock[url.get_backend_name()]))
            assert_unavailable(await sidecar.notify(sample("03")))
            assert sidecar.metrics.outcomes() == {"error/deadline": 1}
        await engine.dispose()
        await sidecar.app.drain()
    assert len(await events_of(store)) == 2, "what had begun was committed late"
    async with start_sidecar(service) as sidecar:
        assert_acknowledged(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {"duplicate": 1}
    assert len(await events_of(store)) == 2


class Failing:
    """A service that fails in a way of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def apply_notification(self, *_: object) -> None:
        raise self.error


async def test_a_database_that_is_down_is_answered_503(start_sidecar):
    async with start_sidecar(Failing(StoreUnavailable())) as sidecar:
        assert_unavailable(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {"error/store_unavailable": 1}


async def test_a_bug_is_answered_503_and_says_nothing(start_sidecar, caplog, capfd):
    error = RuntimeError("card 4111 1111 1111 1111 of ann@example.com")
    with caplog.at_level(logging.DEBUG):
        async with start_sidecar(Failing(error)) as sidecar:
            answer = await sidecar.notify(sample("03"))
            assert_unavailable(answer)
            assert sidecar.metrics.outcomes() == {"error/unexpected": 1}
    [line] = [r for r in caplog.records if "'outcome': 'error'" in str(r.msg)]
    assert "RuntimeError" in str(line.msg)
    said = caplog.text + "".join(str(r.msg) for r in caplog.records) + "".join(capfd.readouterr())
    assert "4111" not in said
    assert "ann@" not in said


async def test_too_many_at_once_are_answered_503_before_any_work(service, start_sidecar):
    held = Held(service)
    async with start_sidecar(held, max_in_flight=2) as sidecar:
        first = [asyncio.create_task(sidecar.notify(sample("03"))) for _ in range(2)]
        for _ in first:
            await held.begun.acquire()
        assert_unavailable(await sidecar.notify(sample("03")))
        held.go_on.set()
        for answer in await asyncio.gather(*first):
            assert_acknowledged(answer)
        assert_acknowledged(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {"overloaded": 1, "accepted": 1, "duplicate": 2}


async def test_draining_answers_503_and_closes_while_what_is_under_way_is_answered(
    service, store, start_sidecar
):
    held = Held(service)
    async with start_sidecar(held) as sidecar:
        under_way = asyncio.create_task(sidecar.notify(sample("03")))
        await held.begun.acquire()
        drained = asyncio.create_task(sidecar.app.drain())
        async with await Wire.connect(sidecar.port) as wire:
            wire.send(request(sample("03"), headers=sidecar.antom.headers(sample("03"))))
            answer = await wire.answer()
            assert_unavailable(answer)
            assert answer.headers["connection"] == "close"
            assert await wire.is_closed()
        held.go_on.set()
        assert_acknowledged(await under_way)
        await drained
        assert sidecar.metrics.outcomes() == {"draining": 1, "accepted": 1}
    assert len(await events_of(store)) == 2


# Paths


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


# Captures


async def test_a_failed_capture_leaves_the_authorisation(sidecar, store):
    await sidecar.notify(sample("03"))
    failed = message("07", paymentId="2020010123456789XXXX")
    assert_acknowledged(await sidecar.notify(failed))
    [*_, event_] = await events_of(store)
    assert event_.type is EventType.CAPTURE_FAILED
    assert event_.payment.state is PaymentState.AUTHORIZED
    assert [c.state for c in event_.payment.captures] == [CaptureState.FAILED]


async def test_payment_and_capture_at_the_same_instant_end_succeeded(sidecar, store):
    capture = message("06", paymentId="2020010123456789XXXX")
    for answer in await asyncio.gather(sidecar.notify(sample("03")), sidecar.notify(capture)):
        assert_acknowledged(answer)
    told = await events_of(store)
    assert len(told) == 3
    assert told[-1].payment.state is PaymentState.SUCCEEDED


async def test_the_acknowledgement_is_antom_s():
    assert json.loads(ACKNOWLEDGEMENT) == json.loads(sample("13"))


async def test_two_sidecars_of_one_database_make_one_event(service, store, start_sidecar: Starts):
    async with start_sidecar(service) as one, start_sidecar(service) as other:
        sidecars: list[Sidecar] = [one, other] * 5
        answers = await asyncio.gather(*(sidecar.notify(sample("03")) for sidecar in sidecars))
    for answer in answers:
        assert_acknowledged(answer)
    assert len(await events_of(store)) == 2
