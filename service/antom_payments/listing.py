"""Lists of payments: pages, and where in the log to follow from once they were read.

The log's end is read before the first page. Whatever is committed up to there is in the pages, what
comes later is told on the stream after it, and what is committed in between is in both: nothing is
in neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from antom_payments.caller import Caller
from antom_payments.errors import CursorInvalid, FieldViolation, InvalidRequest
from antom_payments.event_stream import EventStream
from antom_payments.page_token import PageToken, open_token, seal_token
from antom_payments.payment import Payment
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, place_of
from antom_payments.service import PaymentService

PAGE_BYTES = 512 * 1024
"""Of a page with more than one payment or event: half of what a server sends at most."""
_PAGES_AT_ONCE = 2
"""Lists wait for each other, and leave connections and the event loop to calls about a payment."""
_CONVERTED_AT_ONCE = 64
"""Payments that one turn of the event loop converts."""

Told = TypeVar("Told")
"""A payment as it is answered."""


@dataclass(frozen=True, slots=True)
class PaymentListRequest:
    """A page of payments as asked for."""

    wanted: PaymentFilter
    order: PaymentOrder
    page_size: int
    """At least 1."""
    page_token: str
    """Empty is the first page."""
    list_id: bytes
    """16 bytes of all that must be the same on every page."""


@dataclass(frozen=True, slots=True)
class PaymentPage(Generic[Told]):
    """A page of payments; `next_page_token` is empty on the last."""

    payments: tuple[Told, ...]
    next_page_token: str
    cursor: str
    """Where the log ended before the first page was read."""


class Listing(Generic[Told]):
    """Lists payments, page by page.

    Args:
        service: whose payments.
        event_stream: running; whose cursors.
        convert: makes a payment what is answered,
        weigh: and tells the bytes of that in a response.
    """

    def __init__(
        self,
        service: PaymentService,
        event_stream: EventStream,
        *,
        convert: Callable[[Payment], Told],
        weigh: Callable[[Told], int],
    ) -> None:
        self._service = service
        self._event_stream = event_stream
        self._convert = convert
        self._weigh = weigh
        self._turns = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def page(self, caller: Caller, asked: PaymentListRequest) -> PaymentPage[Told]:
        """The page that is asked for.

        Raises:
            InvalidRequest: the token is none of this list.
            CursorExpired: the log no longer reaches back to the first page.
            LogRewound: the log was restored to a point before the first page.
            MerchantNotFound, StoreUnavailable.
        """
        async with self._turns:
            return await self._page(caller, asked)

    async def _page(self, caller: Caller, asked: PaymentListRequest) -> PaymentPage[Told]:
        token = self._opened(asked) if asked.page_token else None
        if token is None:
            cursor = await self._event_stream.head_cursor()
        else:
            cursor = token.cursor
            await self._event_stream.confirm(cursor)
        found = await self._service.list_payments(
            caller,
            asked.wanted,
            asked.order,
            after=token.place if token else None,
            limit=asked.page_size + 1,
        )
        payments = await self._fitting(found[: asked.page_size])
        next_page_token = ""
        if len(payments) < len(found):
            place = place_of(found[len(payments) - 1], asked.order)
            following = PageToken(asked.list_id, place, cursor)
            next_page_token = seal_token(self._event_stream.seal, following)
        return PaymentPage(tuple(payments), next_page_token, cursor)

    def _opened(self, asked: PaymentListRequest) -> PageToken:
        try:
            token = open_token(self._event_stream.seal, asked.page_token)
        except CursorInvalid:
            raise _refusal("is not a page token of this log's payments") from None
        if token.list_id != asked.list_id:
            raise _refusal("is of a request with other fields: only page_size may differ")
        return token

    async def _fitting(self, payments: Sequence[Payment]) -> list[Told]:
        """As many as fit into a page, at least one, converted; gives way to others in between."""
        told: list[Told] = []
        size = 0
        for payment in payments:
            if told and len(told) % _CONVERTED_AT_ONCE == 0:
                await asyncio.sleep(0)
            one = self._convert(payment)
            size += self._weigh(one)
            if told and size > PAGE_BYTES:
                break
            told.append(one)
        return told


def _refusal(description: str) -> InvalidRequest:
    return InvalidRequest([FieldViolation("page_token", description)])
