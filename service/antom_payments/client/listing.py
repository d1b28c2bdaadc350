"""Lists, page by page or whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_pb2 import Payment
from antom_payments.v1.payment_service_pb2 import (
    ListPaymentEventsRequest,
    ListPaymentEventsResponse,
    ListPaymentsRequest,
    ListPaymentsResponse,
    TimeRange,
)

Between = tuple[datetime | None, datetime | None]
"""From the first time until just before the second, both aware; None is no bound."""
ALWAYS: Final[Between] = (None, None)


@dataclass(frozen=True, slots=True)
class PaymentList:
    """Payments as an asynchronous iterable. Made by `Payments.list_payments`.

    Each iteration reads the list anew, a page when it is needed.
    """

    read_page: Callable[[ListPaymentsRequest], Awaitable[ListPaymentsResponse]]
    request: ListPaymentsRequest

    async def __aiter__(self) -> AsyncIterator[Payment]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for payment in page.payments:
                    yield payment

    async def pages(self) -> AsyncGenerator[ListPaymentsResponse, None]:
        """The same in pages; each has the list's `cursor`, to follow from once all were read."""
        request = ListPaymentsRequest()
        request.CopyFrom(self.request)
        while True:
            page = await self.read_page(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


@dataclass(frozen=True, slots=True)
class EventList:
    """Payment events up to the log's end, as an asynchronous iterable.

    Made by `Payments.list_payment_events`. Each iteration reads the list anew.
    """

    read_page: Callable[[ListPaymentEventsRequest], Awaitable[ListPaymentEventsResponse]]
    request: ListPaymentEventsRequest

    async def __aiter__(self) -> AsyncIterator[PaymentEvent]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for event in page.events:
                    yield event

    async def pages(self) -> AsyncGenerator[ListPaymentEventsResponse, None]:
        """The same in pages, some of them empty; each `cursor` is where to go on later."""
        request = ListPaymentEventsRequest()
        request.CopyFrom(self.request)
        while True:
            page = await self.read_page(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def time_range(between: Between) -> TimeRange:
    """As the contract has it; raises ValueError for naive times, which nobody could place."""
    found = TimeRange()
    for bound, time in zip((found.start_time, found.end_time), between, strict=True):
        if time is not None:
            if time.tzinfo is None:
                raise ValueError("naive time")
            bound.FromDatetime(time)
    return found
