"""PaymentService on gRPC: convert, call the use case, convert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NoReturn

import grpc

from antom_payments.caller import EVERYONE
from antom_payments.errors import DeadlineExceeded
from antom_payments.event_stream import EventStream, Subscription
from antom_payments.grpc_api import convert, list_requests, requests, session_requests, tracing
from antom_payments.grpc_api.errors import answered
from antom_payments.grpc_api.stream import Delivery, OpenStreams, StreamOptions
from antom_payments.listing import PAGE_BYTES, Listing
from antom_payments.payment_event import EventFilter
from antom_payments.service import PaymentService
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["PaymentService"].full_name
STREAM = f"{SERVICE}/StreamPaymentEvents"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long unary calls may take, in seconds, also when the caller set no deadline.

    The use case gets ``margin_seconds`` less than the call has left, at most a tenth, to answer in
    time.
    """

    unary_seconds: float = 30.0
    margin_seconds: float = 0.25


class PaymentServicer(pb_grpc.PaymentServiceServicer):
    """The methods. Errors are raised as they are: `Edge` answers them."""

    def __init__(
        self,
        service: PaymentService,
        event_stream: EventStream,
        *,
        streams: OpenStreams,
        stream_options: StreamOptions,
        deadlines: Deadlines,
        now: Callable[[], datetime],
    ) -> None:
        self._service = service
        self._event_stream = event_stream
        self._listing = Listing(
            service,
            event_stream,
            convert=convert.payment_to_proto,
            weigh=lambda told: told.ByteSize(),
        )
        self._streams = streams
        self._stream_options = stream_options
        self._deadlines = deadlines
        self._now = now

    async def CreateSession(  # noqa: N802 - the contract's name
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """Create a payment and its session; see the contract."""
        asked = session_requests.session_request(request)
        async with self._time_for(context) as budget_seconds:
            answer = await self._service.create_session(
                EVERYONE, asked, budget_seconds=budget_seconds
            )
            if answer.event_id:
                cursor = self._event_stream.cursor_at(answer.payment.last_sequence, answer.event_id)
            else:
                cursor = await self._event_stream.cursor_after(answer.payment.last_sequence)
        return pb.CreateSessionResponse(
            payment=convert.payment_to_proto(answer.payment),
            session=convert.session_to_proto(answer.session) if answer.session else None,
            cursor=cursor,
        )

    async def GetPayment(  # noqa: N802 - the contract's name
        self, request: pb.GetPaymentRequest, context: Context
    ) -> pb.GetPaymentResponse:
        """Read one payment; see the contract."""
        key = requests.payment_key(request)
        async with self._time_for(context) as budget_seconds:
            payment = await self._service.get_payment(
                EVERYONE, key, fresh=requests.wants_fresh(request), budget_seconds=budget_seconds
            )
            cursor = await self._event_stream.cursor_after(payment.last_sequence)
        return pb.GetPaymentResponse(payment=convert.payment_to_proto(payment), cursor=cursor)

    async def ReportSdkEvent(  # noqa: N802 - the contract's name
        self, request: pb.ReportSdkEventRequest, context: Context
    ) -> pb.ReportSdkEventResponse:
        """Pass on what a front end heard from Antom's client SDK; see the contract."""
        key, reported = requests.sdk_event(request)
        async with self._time_for(context):
            payment, next_step = await self._service.report_sdk_event(EVERYONE, key, reported)
            cursor = await self._event_stream.cursor_after(payment.last_sequence)
        return pb.ReportSdkEventResponse(
            payment=convert.payment_to_proto(payment),
            next_step=convert.NEXT_STEPS[next_step],
            cursor=cursor,
        )

    async def ListPayments(  # noqa: N802 - the contract's name
        self, request: pb.ListPaymentsRequest, context: Context
    ) -> pb.ListPaymentsResponse:
        """Read a page of payments; see the contract."""
        asked = list_requests.payment_list_request(request)
        async with self._time_for(context):
            page = await self._listing.page(EVERYONE, asked)
        return pb.ListPaymentsResponse(
            payments=page.payments,
            next_page_token=page.next_page_token,
            cursor=page.cursor,
        )

    async def ListPaymentEvents(  # noqa: N802 - the contract's name
        self, request: pb.ListPaymentEventsRequest, context: Context
    ) -> pb.ListPaymentEventsResponse:
        """Read a page of payment events; see the contract."""
        asked = list_requests.event_list_request(request)
        async with self._time_for(context):
            page, is_last = await self._event_stream.page(
                asked.start,
                self._within_scope(asked.event_filter),
                limit=asked.page_size,
                size_bytes=PAGE_BYTES,
            )
        cursor = page.through.cursor
        return pb.ListPaymentEventsResponse(
            events=convert.events_of(entry.data for entry in page.entries),
            next_page_token="" if is_last else cursor,
            cursor=cursor,
        )

    # The generated stub wants an iterator of messages; this coroutine writes ready bytes itself.
    async def StreamPaymentEvents(  # type: ignore[override]  # noqa: N802 - the contract's name
        self, request: pb.StreamPaymentEventsRequest, context: Context
    ) -> NoReturn:
        """Follow payment events; see the contract.

        The span ends when the stream is open: one that lasts for the stream's quarter of an hour
        would be seen only after it (ops O-04).
        """
        metadata = context.invocation_metadata()
        with tracing.server_span("subscribe", STREAM, metadata) as span, answered(STREAM):
            asked = requests.stream_request(
                request, checkpoint_seconds=self._stream_options.checkpoint_seconds
            )
            subscription = await self._subscribe(asked)
        try:
            delivery = Delivery(
                subscription,
                context,
                replace(self._stream_options, checkpoint_seconds=asked.checkpoint_seconds),
                events_per_second=asked.events_per_second,
                now=self._now,
                subscribed=span.get_span_context(),
                deliveries=self._streams.written,
            )
            with self._streams.following(delivery):
                await delivery.run()
        finally:
            subscription.close()

    async def _subscribe(self, asked: requests.StreamRequest) -> Subscription:
        event_filter = self._within_scope(asked.event_filter)
        if event_filter.payment_request_ids is not None:
            # Named without a merchant, a payment is no key: a snapshot would look at all of them.
            merchants = self._service.named_scope(EVERYONE, event_filter.merchant_accounts or ())
            event_filter = replace(event_filter, merchant_accounts=merchants)
        return await self._event_stream.subscribe(asked.start, event_filter)

    def _within_scope(self, wanted: EventFilter) -> EventFilter:
        """What the caller wants, of what it may see; raises MerchantNotFound."""
        scope = self._service.scope(EVERYONE, wanted.merchant_accounts or ())
        return replace(wanted, merchant_accounts=scope)

    @asynccontextmanager
    async def _time_for(self, context: Context) -> AsyncIterator[float]:
        """Bound what is done inside by the call's deadline and ours; yields the use case's budget.

        Raises DeadlineExceeded. What has left for Antom goes on, see `PaymentService`.
        """
        remaining: float | None = context.time_remaining()
        longest = self._deadlines.unary_seconds
        seconds = longest if remaining is None else min(remaining, longest)
        if seconds <= 0:
            raise DeadlineExceeded
        budget_seconds = seconds - min(self._deadlines.margin_seconds, seconds / 10)
        bound = asyncio.timeout(seconds)
        try:
            async with bound:
                yield budget_seconds
        except TimeoutError:
            if not bound.expired():
                raise
            raise DeadlineExceeded from None
