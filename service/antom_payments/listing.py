"""Lists of payments: pages, and where in the log to follow from once they were read.

The log's end is read before the first page. Whatever is committed up to there is in the pages, what
comes later is told on the stream after it, and what is committed in between is in both: nothing is
in neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from antom_payments.errors import CursorInvalid, FieldViolation, InvalidRequest
from antom_payments.event_stream import EventStream
from antom_payments.page_token import PageToken, open_token, seal_token
from antom_payments.payment import Payment
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, place_of
from antom_payments.service import Caller, PaymentService

PAGE_BYTES = 512 * 1024
"""Of a page with more than one payment or event: half of what a server sends at most."""


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
class PaymentPage:
    """A page of payments; `next_page_token` is empty on the last."""

    payments: tuple[Payment, ...]
    next_page_token: str
    cursor: str
    """Where the log ended before the first page was read."""


class Listing:
    """Lists payments, page by page.

    Args:
        service: whose payments.
        event_stream: running; whose cursors.
        weigh: bytes of a payment in a response.
    """

    def __init__(
        self, service: PaymentService, event_stream: EventStream, *, weigh: Callable[[Payment], int]
    ) -> None:
        self._service = service
        self._event_stream = event_stream
        self._weigh = weigh

    async def page(self, caller: Caller, asked: PaymentListRequest) -> PaymentPage:
        """The page that is asked for.

        Raises:
            InvalidRequest: the token is none of this list.
            CursorExpired: the log no longer reaches back to the first page.
            LogRewound: the log was restored to a point before the first page.
            MerchantNotFound, StoreUnavailable.
        """
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
        payments = self._fitting(found[: asked.page_size])
        next_page_token = ""
        if len(payments) < len(found):
            place = place_of(payments[-1], asked.order)
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

    def _fitting(self, payments: Sequence[Payment]) -> Sequence[Payment]:
        """As many as fit into a page; at least one."""
        size = 0
        for count, payment in enumerate(payments):
            size += self._weigh(payment)
            if count and size > PAGE_BYTES:
                return payments[:count]
        return payments


def _refusal(description: str) -> InvalidRequest:
    return InvalidRequest([FieldViolation("page_token", description)])
