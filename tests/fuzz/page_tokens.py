"""Page tokens of lists of payments: a cursor is none, nor is a token a cursor."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from antom_payments.cursor import CursorSeal
from antom_payments.errors import CursorInvalid
from antom_payments.page_token import PageToken, open_token, seal_token
from antom_payments.payment_filter import Place
from fuzz import cursors
from fuzz.sealed_texts import OTHERS, OURS, SealedTexts
from fuzz.target import Kind, Target, must, nothing_more

_IDS = ("p", "order-1", "o" * 64, "\u00e9" * 64)
_TIMES = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC))


def _sealed(seal: CursorSeal) -> dict[str, PageToken]:
    """Tokens of several lists and places, by their text."""
    tokens = [
        PageToken(list_id, Place(time, merchant, payment_request_id), cursor)
        for list_id in (bytes(16), bytes(range(16)))
        for time in _TIMES
        for merchant in ("default", "m" * 64)
        for payment_request_id in _IDS
        for cursor in cursors.sealed(seal)
    ]
    return {seal_token(seal, token): token for token in tokens}


def _opened(text: str) -> PageToken:
    token = open_token(OURS, text)
    with contextlib.suppress(CursorInvalid):
        OURS.open(text)
        must(False, "a page token opens as a cursor, too")
    return token


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """A log's seal."""
    foreign = [*cursors.sealed(OURS), *(text for seal in OTHERS for text in _sealed(seal))]
    tokens = SealedTexts(_sealed(OURS), foreign, _opened)
    yield Target(tokens.make, tokens.check, nothing_more)


KIND = Kind("page_tokens", opened)
