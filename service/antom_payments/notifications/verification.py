"""Who sent a notification: proven over the raw bytes, before anything in them is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from antom_payments.antom.signing import SignatureInvalid, Verifier

_SIGNED_HEADERS = ("client-id", "request-time", "signature")


class NotVerified(Exception):
    """The sender is not proven; ``reason`` is for metrics and logs and never for the sender."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Sender:
    """An Antom client id that notifications may carry: whose it is, and what verifies them."""

    merchant_account: str
    verifier: Verifier


@dataclass(frozen=True, slots=True)
class Proof:
    """What the headers of a verified notification say."""

    merchant_account: str
    client_id: str
    request_time: str
    key_fingerprint: str


def prove(
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    *,
    uris: Iterable[str],
    senders: Mapping[str, Sender],
) -> Proof:
    """Verify a POST of ``body`` to one of ``uris``, tried in order.

    Args:
        headers: as ASGI gives them: names in lower case.
        body: the exact bytes that came.
        uris: what Antom may have signed as the path.
        senders: by client id.

    Raises:
        NotVerified: in every other case.
    """
    found = _headers(headers)
    if not _is_json(found.get("content-type")):
        raise NotVerified("content_type")
    for name in _SIGNED_HEADERS:
        if not found.get(name):
            raise NotVerified("header_missing")
    client_id, request_time = found["client-id"], found["request-time"]
    sender = senders.get(client_id)
    if sender is None:
        raise NotVerified("client_id_unknown")
    fault = ""
    for uri in uris:
        try:
            key_fingerprint = sender.verifier.verify(
                method="POST",
                uri=uri,
                client_id=client_id,
                time=request_time,
                body=body,
                signature_header=found["signature"],
            )
        except SignatureInvalid as invalid:
            fault = invalid.reason.value
        else:
            return Proof(sender.merchant_account, client_id, request_time, key_fingerprint)
    raise NotVerified(fault)


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that count, each at most once: of two, a proxy may have seen the other."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        if key != "content-type" and key not in _SIGNED_HEADERS:
            continue
        if key in found:
            raise NotVerified("header_duplicate")
        found[key] = value.decode("latin-1").strip()
    return found


def _is_json(content_type: str | None) -> bool:
    """Whether it is JSON, or not said: Antom calls the header optional (antom-api 1.3)."""
    if not content_type:
        return True
    return content_type.partition(";")[0].strip().lower() == "application/json"
