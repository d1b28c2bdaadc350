"""Page tokens of lists of payments: where the next page begins, sealed. Pure.

Sealed as cursors are, under a version byte of their own: a cursor is no page token, and the other
way round. A token holds what the next page must not lose: the list that it belongs to, the last
payment's place in it, and the cursor that the first page was given.

    base64url( version byte | AES-SIV( list, 16 bytes | time | merchant | id | cursor ) )
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from antom_payments.cursor import CursorSeal
from antom_payments.payment_filter import Place

_VERSION = b"\x20"
"""Cursors have those below."""
_HEAD = struct.Struct(">16sqBB")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a list goes on."""

    list_id: bytes
    """16 bytes that differ for lists with other filters or another order."""
    place: Place
    """The last payment's on the page before; merchant and id of at most 255 bytes."""
    cursor: str
    """Of the log, from before the first page."""


def seal_token(seal: CursorSeal, token: PageToken) -> str:
    """The token as text: about 120 characters, at most 300 with our longest ids."""
    place = token.place
    merchant, payment = place.merchant_account.encode(), place.payment_request_id.encode()
    time = (place.time - _EPOCH) // _MICROSECOND
    head = _HEAD.pack(token.list_id, time, len(merchant), len(payment))
    return seal.seal_bytes(_VERSION, head + merchant + payment + token.cursor.encode())


def open_token(seal: CursorSeal, text: str) -> PageToken:
    """The token that a text seals; raises CursorInvalid when it is none of this log."""
    plain = seal.open_bytes(_VERSION, text)
    list_id, time, merchant_bytes, payment_bytes = _HEAD.unpack_from(plain)
    payment_at = _HEAD.size + merchant_bytes
    cursor_at = payment_at + payment_bytes
    place = Place(
        _EPOCH + time * _MICROSECOND,
        plain[_HEAD.size : payment_at].decode(),
        plain[payment_at:cursor_at].decode(),
    )
    return PageToken(list_id, place, plain[cursor_at:].decode())
