"""Who sent a notification: what the headers must be for it to be proven, without a server."""

from __future__ import annotations

import json

import pytest

from antom.golden import SANDBOX_CLIENT_ID, private_key, public_key
from antom_payments.antom.signing import Signer, Verifier, fingerprint
from antom_payments.notifications.verification import NotVerified, Proof, Sender, prove

BODY = b'{"notifyType":"PAYMENT_RESULT"}'
TIME = "2026-03-02T09:30:00Z"
URI = "/antom/notify"
SENDERS = {SANDBOX_CLIENT_ID: Sender("shop", Verifier([public_key("merchant_public")]))}
PROOF = Proof("shop", SANDBOX_CLIENT_ID, TIME, fingerprint(public_key("merchant_public")))


def headers_of(uri: str = URI, **changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """The headers of a signed notification as ASGI gives them; None leaves one out."""
    signer = Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID)
    headers = {
        "content-type": b"application/json; charset=UTF-8",
        "client-id": SANDBOX_CLIENT_ID.encode(),
        "request-time": TIME.encode(),
        "signature": signer.signature_header("POST", uri, TIME, BODY).encode(),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name.encode(), value) for name, value in headers.items() if value is not None]


def proven(headers: list[tuple[bytes, bytes]], *uris: str, body: bytes = BODY) -> Proof:
    return prove(headers, body, uris=uris or (URI,), senders=SENDERS)


def reason(headers: list[tuple[bytes, bytes]], *uris: str, body: bytes = BODY) -> str:
    with pytest.raises(NotVerified) as refused:
        proven(headers, *uris, body=body)
    assert str(refused.value) == refused.value.reason
    return refused.value.reason


def test_a_proof_says_whose_it_is_and_which_key_signed() -> None:
    assert proven(headers_of()) == PROOF


@pytest.mark.parametrize("first", ["/antom/notify", "/antom/notify?x=1"])
def test_any_of_the_paths_may_be_the_one_that_was_signed(first: str) -> None:
    second = {URI: URI + "?x=1", URI + "?x=1": URI}[first]
    assert proven(headers_of(first), first, second) == PROOF
    assert proven(headers_of(second), first, second) == PROOF
    assert reason(headers_of("/other"), first, second) == "signature_mismatch"


def test_without_a_path_nothing_is_proven() -> None:
    with pytest.raises(NotVerified) as refused:
        prove(headers_of(), BODY, uris=(), senders=SENDERS)
    assert refused.value.reason == ""


@pytest.mark.parametrize("name", ["client_id", "request_time", "signature"])
@pytest.mark.parametrize("value", [None, b"", b"  "])
def test_each_header_that_is_signed_must_be_there(name: str, value: bytes | None) -> None:
    assert reason(headers_of(**{name: value})) == "header_missing"


@pytest.mark.parametrize("name", [b"client-id", b"request-time", b"signature", b"content-type"])
def test_of_two_headers_none_is_believed_though_they_are_equal(name: bytes) -> None:
    headers = headers_of()
    assert reason([*headers, (name, dict(headers)[name])]) == "header_duplicate"


def test_other_headers_may_come_twice_and_hold_anything() -> None:
    others = [(b"x-\xff", b"\xff\x00"), (b"x-\xff", b"1"), (b"Signature", b"1")]
    assert proven([*others, *headers_of(), *others]) == PROOF


def test_blanks_around_a_value_do_not_count() -> None:
    padded = [(name, b" \t" + value + b" ") for name, value in headers_of()]
    assert proven(padded) == PROOF


@pytest.mark.parametrize("name", ["client_id", "request_time", "signature"])
def test_bytes_that_are_no_text_are_not_proven_and_raise_nothing_else(name: str) -> None:
    assert reason(headers_of(**{name: b"\xe9"})) in {
        "client_id_unknown",
        "signed_parts_malformed",
        "signature_header_malformed",
    }


def test_the_client_id_must_be_known_and_is_compared_letter_by_letter() -> None:
    for client_id in (b"X", SANDBOX_CLIENT_ID.lower().encode()):
        assert reason(headers_of(client_id=client_id)) == "client_id_unknown"


@pytest.mark.parametrize(
    "content_type",
    [
        *(None, b"", b"application/json", b"Application/JSON", b"application/json ;charset=gbk"),
        b"application/json;a=b;c=d",
    ],
)
def test_json_may_be_said_in_any_way_or_not_at_all(content_type: bytes | None) -> None:
    assert proven(headers_of(content_type=content_type)) == PROOF


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/json2", b";", b"json"])
def test_what_is_not_said_to_be_json_is_not_looked_at(content_type: bytes) -> None:
    assert reason(headers_of(content_type=content_type, signature=None)) == "content_type"


def test_the_exact_bytes_count() -> None:
    spaced = json.dumps(json.loads(BODY)).encode()
    assert reason(headers_of(), body=spaced) == "signature_mismatch"
    assert reason(headers_of(signature=b"garbage")) == "signature_header_malformed"
