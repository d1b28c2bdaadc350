"""A connection to the service, and its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import grpc
from opentelemetry import trace

from antom_payments.client.backoff import Backoff
from antom_payments.client.cursor_store import CursorStore
from antom_payments.client.errors import ConnectionClosed, failure_of
from antom_payments.client.following import (
    Following,
    OnExpired,
    Start,
    start_at,
)
from antom_payments.client.listing import ALWAYS, Between, EventList, PaymentList, time_range
from antom_payments.v1.payment_event_pb2 import PaymentEventType
from antom_payments.v1.payment_pb2 import PaymentState
from antom_payments.v1.payment_service_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    GetPaymentRequest,
    GetPaymentResponse,
    ListPaymentEventsRequest,
    ListPaymentsRequest,
    PaymentOrder,
    ReadMode,
    ReportSdkEventRequest,
    ReportSdkEventResponse,
    StreamPaymentEventsRequest,
)
from antom_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from antom_payments.v1.sdk_event_pb2 import SdkEventCode

if TYPE_CHECKING:
    from antom_payments.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

_Answer = TypeVar("_Answer")

SERVICE_CONFIG: Final = (
    resources.files(__package__).joinpath("service_config.json").read_text("utf-8")
)
"""Retries per unary method on UNAVAILABLE, timeouts, balancing: gRPC's service config, as JSON."""

_OPTIONS: Sequence[tuple[str, str | int]] = (
    ("grpc.service_config", SERVICE_CONFIG),
    # The server allows a ping each 20 seconds; the ping's own timeout is what finds a dead peer.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # gRPC's own limit is two minutes, which a follower would spend deaf after a short outage, and
    # longer than a replica that stops takes calls, so that one that restarted before it is found.
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # Otherwise clients with equal options share one connection and its limit of streams.
    ("grpc.use_local_subchannel_pool", 1),
)
_LOW_MEMORY: Sequence[tuple[str, str | int]] = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
)


@final
class Plaintext:
    """No TLS: whoever is on the way reads and changes everything. For trusted networks."""


PLAINTEXT: Final = Plaintext()
"""Pass as ``credentials`` to connect without TLS."""


@asynccontextmanager
async def connect(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | Plaintext | None = None,
    low_memory: bool = False,
    options: Sequence[tuple[str, str | int]] = (),
) -> AsyncIterator[Payments]:
    """Connect to a payments service; leaving the block closes the connection.

    Connections are made when the first call needs one, and made again when they are lost.

    Args:
        target: a gRPC name such as ``dns:///payments:50051``, balanced over all its addresses.
        credentials: TLS as given; None is TLS with the system's authorities. `PLAINTEXT` is none.
        low_memory: buffer about 0.1 MB of unread events per stream in place of about 4 MB; costs
            throughput on links with a long round trip.
        options: more gRPC channel arguments; they win over this client's.
    """
    chosen = {
        **dict(_OPTIONS),
        **(dict(_LOW_MEMORY) if low_memory else {}),
        **dict(options),
    }
    arguments = list(chosen.items())
    if isinstance(credentials, Plaintext):
        channel = grpc.aio.insecure_channel(target, options=arguments)
    else:
        tls = credentials or grpc.ssl_channel_credentials()
        channel = grpc.aio.secure_channel(target, tls, options=arguments)
    try:
        yield Payments(PaymentServiceStub(channel))
    finally:
        await channel.close()


class Payments:
    """The calls of a payments service. Made by `connect`."""

    def __init__(self, stub: PaymentServiceAsyncStub) -> None:
        self._stub = stub

    async def create_session(
        self, request: CreateSessionRequest, *, timeout_seconds: float | None = None
    ) -> CreateSessionResponse:
        """Create a payment and its session at Antom, or repeat that call.

        Safe to repeat with the same `payment_request_id`, after any failure. Lost connections are
        retried within the timeout: 30 seconds, or ``timeout_seconds`` when that is less.

        Raises:
            InvalidRequest, NotFound: the request is wrong.
            PaymentRequestIdReused, SessionRefused, NewPaymentRequestIdNeeded: this id will not do.
            TryAgain: the outcome may be unknown; repeat the call with the same id.
            CallFailed: anything else.
        """
        return await _answer(self._stub.CreateSession, request, timeout_seconds)

    async def get_payment(
        self,
        *,
        payment_request_id: str = "",
        payment_id: str = "",
        reference_order_id: str = "",
        merchant_account: str = "",
        fresh: bool = False,
        timeout_seconds: float | None = None,
    ) -> GetPaymentResponse:
        """Read one payment, by exactly one of the three ids.

        Several payments may share a `reference_order_id`: the newest is returned. ``fresh`` asks
        Antom first, which takes longer and fails when Antom cannot be asked.

        Raises:
            NotFound: there is none that this caller may see.
            TryAgain: a repetition may work.
            CallFailed: anything else.
            ValueError: not exactly one id was given.
        """
        keys = {
            "payment_request_id": payment_request_id,
            "payment_id": payment_id,
            "reference_order_id": reference_order_id,
        }
        given = [name for name, value in keys.items() if value]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(keys)}")
        request = GetPaymentRequest(
            merchant_account=merchant_account,
            read_mode=ReadMode.READ_MODE_FRESH if fresh else ReadMode.READ_MODE_STORED,
        )
        setattr(request, given[0], keys[given[0]])
        return await _answer(self._stub.GetPayment, request, timeout_seconds)

    async def report_sdk_event(
        self,
        payment_request_id: str,
        event_code: SdkEventCode.ValueType | str,
        *,
        payment_result_code: str = "",
        merchant_account: str = "",
        timeout_seconds: float | None = None,
    ) -> ReportSdkEventResponse:
        """Pass on an event of Antom's client SDK; the answer's `next_step` is for the front end.

        A hint: it never changes the payment. Safe to repeat. ``event_code`` is the contract's, or
        the text that the front end was given, such as ``SDK_PAYMENT_SUCCESSFUL``.

        Raises:
            NotFound: there is no such payment that this caller may see.
            InvalidRequest: the result code is none.
            TryAgain: a repetition may work.
            CallFailed: anything else.
            ValueError: the contract does not know the event code's text.
        """
        if isinstance(event_code, str):
            event_code = SdkEventCode.Value(f"SDK_EVENT_CODE_{event_code}")
        request = ReportSdkEventRequest(
            merchant_account=merchant_account,
            payment_request_id=payment_request_id,
            event_code=event_code,
            payment_result_code=payment_result_code,
        )
        return await _answer(self._stub.ReportSdkEvent, request, timeout_seconds)

    def list_payments(
        self,
        *,
        merchant_accounts: Collection[str] = (),
        states: Collection[PaymentState.ValueType] = (),
        reference_order_id: str = "",
        created: Between = ALWAYS,
        changed: Between = ALWAYS,
        order: PaymentOrder.ValueType = PaymentOrder.PAYMENT_ORDER_CREATE_TIME_DESC,
        page_size: int = 0,
        page_token: str = "",
        timeout_seconds: float | None = None,
    ) -> PaymentList:
        """List payments, newest first unless ``order`` says otherwise; pages are read as needed.

        A payment that changes meanwhile may be missed, or come as it was. To miss nothing, follow
        `AfterCursor` of any page's `cursor` once all pages were read: see `PaymentList.pages`.

        Args:
            merchant_accounts: only these merchants; empty is all that the caller may see.
            states: only payments in these states; empty is all.
            reference_order_id: only payments of this order; empty is all.
            created: only payments first stored from the first time until just before the second.
            changed: only payments last changed so; goes with PAYMENT_ORDER_UPDATE_TIME_ASC.
            order: see the contract.
            page_size: most payments of a page; 0 is the service's choice.
            page_token: `next_page_token` of a page of the same list, to go on from.
            timeout_seconds: for each page; 30 seconds at most.

        The iteration raises:
            InvalidRequest, NotFound: a filter is wrong, or the token is of another list.
            CursorExpired, LogRewound: there is no going on; begin with the first page again.
            TryAgain: a repetition may work.
            CallFailed: anything else.
            ValueError: a time is naive.
        """
        request = ListPaymentsRequest(
            merchant_accounts=merchant_accounts,
            states=states,
            reference_order_id=reference_order_id,
            create_time=time_range(created),
            update_time=time_range(changed),
            order=order,
            page_size=page_size,
            page_token=page_token,
        )
        return PaymentList(
            lambda page: _answer(self._stub.ListPayments, page, timeout_seconds), request
        )

    def list_payment_events(
        self,
        *,
        merchant_accounts: Collection[str] = (),
        payment_request_ids: Collection[str] = (),
        event_types: Collection[PaymentEventType.ValueType] = (),
        final_states_only: bool = False,
        page_size: int = 0,
        page_token: str = "",
        timeout_seconds: float | None = None,
    ) -> EventList:
        """List payment events in the order of their commits, up to the log's end.

        Args:
            merchant_accounts: only these merchants; empty is all that the caller may see.
            payment_request_ids: only these payments, at most 100; empty is all.
            event_types: only these types; empty is all.
            final_states_only: only events after which the payment is in a final state.
            page_size: most events of a page; 0 is the service's choice.
            page_token: any cursor, or a page's `next_page_token`, to begin after; empty is the
                oldest event kept.
            timeout_seconds: for each page; 30 seconds at most.

        The iteration raises:
            CursorExpired, CursorInvalid, LogRewound: there is no beginning after the token.
            InvalidRequest, NotFound: a filter is wrong.
            TryAgain: a repetition may work.
            CallFailed: anything else.
        """
        request = ListPaymentEventsRequest(
            merchant_accounts=merchant_accounts,
            payment_request_ids=payment_request_ids,
            event_types=event_types,
            final_states_only=final_states_only,
            page_size=page_size,
            page_token=page_token,
        )
        return EventList(
            lambda page: _answer(self._stub.ListPaymentEvents, page, timeout_seconds), request
        )

    def follow(
        self,
        start: Start,
        *,
        merchant_accounts: Collection[str] = (),
        payment_request_ids: Collection[str] = (),
        event_types: Collection[PaymentEventType.ValueType] = (),
        final_states_only: bool = False,
        checkpoint_seconds: float | None = None,
        max_events_per_second: int = 0,
        cursor_store: CursorStore | None = None,
        on_expired: OnExpired | None = None,
        backoff: Backoff | None = None,
        silence_seconds: float = 60.0,
    ) -> Following:
        """Follow payment events in the order of their commits, for ever.

        Cuts, restarts and planned ends are resumed; nothing is skipped, and nothing comes twice
        within one iteration. A cursor is saved once the events before it were handled, which is
        when the loop comes back for the next. After a crash the events since then come again: make
        the handler idempotent by `event_id`, or use `Following.batches`.

        Args:
            start: where to start unless ``cursor_store`` holds a cursor.
            merchant_accounts: only these merchants; empty is all that the caller may see.
            payment_request_ids: only these payments, at most 100; empty is all.
            event_types: only these types; empty is all. Payments of a snapshot are not restricted.
            final_states_only: only events after which the payment is in a final state.
            checkpoint_seconds: progress is told at least this often; from 1 to the server's own
                interval, which is what None means.
            max_events_per_second: at most so many are sent, after a pause as many at once; 0 is no
                bound.
            cursor_store: keeps the cursor over restarts; of this follower and filter alone.
            on_expired: called when events were lost to retention, to catch up by other means;
                then the stream goes on with the oldest event kept, or with a new snapshot if it
                began with one. Without it CursorExpired is raised.
            backoff: how to wait between attempts.
            silence_seconds: a stream that says nothing for so long is taken for dead. Must be
                longer than the server's checkpoint interval (15 seconds unless configured).

        The iteration raises:
            CursorExpired, CursorInvalid, LogRewound: there is no going on from the cursor.
            InvalidRequest, NotFound: the filter, the time, the interval or the rate is wrong.
            ConnectionClosed: the `connect` block was left.
            CallFailed: any other answer that waiting does not change.
        """
        request = StreamPaymentEventsRequest(
            merchant_accounts=merchant_accounts,
            payment_request_ids=payment_request_ids,
            event_types=event_types,
            final_states_only=final_states_only,
            max_events_per_second=max_events_per_second,
        )
        if checkpoint_seconds is not None:
            request.checkpoint_interval.FromNanoseconds(round(checkpoint_seconds * 1e9))
        start_at(request, start)
        return Following(
            open_stream=self._open_stream,
            request=request,
            cursor_store=cursor_store,
            on_expired=on_expired,
            backoff=backoff or Backoff(),
            silence_seconds=silence_seconds,
        )

    def _open_stream(self, request: StreamPaymentEventsRequest) -> Any:
        return self._stub.StreamPaymentEvents(request, metadata=_trace_context())


async def _answer(
    method: Callable[..., Awaitable[_Answer]], request: object, timeout_seconds: float | None
) -> _Answer:
    try:
        return await method(request, timeout=timeout_seconds, metadata=_trace_context())
    except grpc.aio.AioRpcError as error:
        raise failure_of(error) from error
    except grpc.aio.UsageError:
        raise ConnectionClosed from None


def _trace_context() -> grpc.aio.Metadata:
    """The caller's span, so that the service's spans belong to its trace; nothing outside of one.

    Only W3C `traceparent`, whatever the process propagates elsewhere: baggage and tracestate may
    hold what a payments service must not see.
    """
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return grpc.aio.Metadata()
    ids = f"{trace.format_trace_id(span.trace_id)}-{trace.format_span_id(span.span_id)}"
    return grpc.aio.Metadata(("traceparent", f"00-{ids}-{span.trace_flags:02x}"))
