"""The client's calls as the command line makes them: plain values in, text out."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.json_format import MessageToDict, MessageToJson

from antom_payments.client.connection import PLAINTEXT, Payments, connect
from antom_payments.client.following import (
    AfterCursor,
    AtTime,
    Earliest,
    Following,
    Latest,
    Snapshot,
    Start,
)
from antom_payments.v1.order_pb2 import Buyer, Order, PaymentFactor, PaymentMethod
from antom_payments.v1.payment_event_pb2 import EventSource, PaymentEvent, PaymentEventType
from antom_payments.v1.payment_pb2 import CaptureMode, Money, Payment, PaymentState
from antom_payments.v1.payment_service_pb2 import CreateSessionRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWish:
    """A session as the command line asks for it; amounts in the currency's smallest unit."""

    payment_request_id: str
    minor_units: int
    currency_code: str
    reference_order_id: str
    order_description: str = "Order"
    reference_buyer_id: str = "buyer"
    payment_method_type: str = "CARD"
    manual_capture: bool = False
    payment_redirect_url: str = "https://shop.example/return"
    merchant_account: str = ""

    def request(self) -> CreateSessionRequest:
        """The call's request."""
        amount = Money(currency_code=self.currency_code, minor_units=self.minor_units)
        factor = None
        if self.payment_method_type == "CARD":
            manual = CaptureMode.CAPTURE_MODE_MANUAL
            automatic = CaptureMode.CAPTURE_MODE_AUTOMATIC
            factor = PaymentFactor(
                is_authorization=True, capture_mode=manual if self.manual_capture else automatic
            )
        return CreateSessionRequest(
            merchant_account=self.merchant_account,
            payment_request_id=self.payment_request_id,
            payment_amount=amount,
            order=Order(
                reference_order_id=self.reference_order_id,
                order_description=self.order_description,
                order_amount=amount,
                buyer=Buyer(reference_buyer_id=self.reference_buyer_id),
            ),
            payment_method=PaymentMethod(payment_method_type=self.payment_method_type),
            payment_factor=factor,
            payment_redirect_url=self.payment_redirect_url,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchWish:
    """A stream as the command line asks for it."""

    after_cursor: str = ""
    earliest: bool = False
    at_time: datetime | None = None
    snapshot: bool = False
    payment_request_ids: tuple[str, ...] = ()
    merchant_accounts: tuple[str, ...] = ()
    final_states_only: bool = False

    def follow(self, payments: Payments) -> Following:
        """The stream."""
        start: Start = Earliest() if self.earliest else Latest()
        if self.after_cursor:
            start = AfterCursor(self.after_cursor)
        elif self.at_time is not None:
            start = AtTime(self.at_time)
        elif self.snapshot:
            start = Snapshot()
        return payments.follow(
            start,
            payment_request_ids=self.payment_request_ids,
            merchant_accounts=self.merchant_accounts,
            final_states_only=self.final_states_only,
        )


_OPTIONS = (
    # The environment's proxy is for what is outside.
    ("grpc.enable_http_proxy", 0),
    # Whoever sits before a terminal wants to know at once that nobody is there.
    ("grpc.service_config", "{}"),
)
_TIMEOUT_SECONDS = 30.0


def connected(address: str) -> AbstractAsyncContextManager[Payments]:
    """A connection without TLS, whose calls are made once and wait for no server."""
    return connect(address, credentials=PLAINTEXT, options=_OPTIONS)


async def create_session(address: str, wish: SessionWish) -> str:
    """Create a session; the answer as JSON. Raises CallFailed."""
    async with connected(address) as payments:
        answer = await payments.create_session(wish.request(), timeout_seconds=_TIMEOUT_SECONDS)
        return MessageToJson(answer)


async def get_payment(
    address: str, merchant_account: str, payment_request_id: str, *, fresh: bool
) -> str:
    """Read a payment; the answer as JSON. Raises CallFailed."""
    async with connected(address) as payments:
        answer = await payments.get_payment(
            payment_request_id=payment_request_id,
            merchant_account=merchant_account,
            fresh=fresh,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        return MessageToJson(answer)


async def watched(
    address: str, wish: WatchWish, *, as_json: bool
) -> AsyncGenerator[tuple[PaymentEvent | Payment, str], None]:
    """Events, and payments of a snapshot, each with the line to print. Raises CallFailed.

    Only the last of a message has the cursor: after it, the whole message is skipped.
    """
    async with connected(address) as payments:
        async for batch in wish.follow(payments).batches():
            told: list[PaymentEvent | Payment] = [*batch.payments, *batch.events]
            last = len(told) - 1
            for n, one in enumerate(told):
                cursor = batch.cursor if n == last else ""
                yield one, _json_line(one, cursor) if as_json else line(one, cursor)


def traceparents(told: PaymentEvent | Payment) -> list[str]:
    """The W3C trace contexts that it names."""
    of_append = [told.append_traceparent] if isinstance(told, PaymentEvent) else []
    return [told.traceparent, *of_append]


def line(told: PaymentEvent | Payment, cursor: str) -> str:
    """An event, or a payment, in one line for people; the cursor, if any, resumes after it."""
    text = _event_line(told) if isinstance(told, PaymentEvent) else _payment_line(told)
    return f"{text}  cursor={cursor}" if cursor else text


def _payment_line(payment: Payment) -> str:
    state = PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")
    time = payment.update_time.ToDatetime().strftime("%H:%M:%S.%f")[:-3]
    money = f"{payment.amount.currency_code} {payment.amount.minor_units}"
    return f"{time}  {'':<20} {state}  {payment.payment_request_id} ({money} minor units)"


def _event_line(event: PaymentEvent) -> str:
    payment = event.payment
    name = PaymentEventType.Name(event.type).removeprefix("PAYMENT_EVENT_TYPE_")
    before = PaymentState.Name(event.state_before).removeprefix("PAYMENT_STATE_")
    after = PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")
    source = EventSource.Name(event.source).removeprefix("EVENT_SOURCE_").lower()
    time = event.append_time.ToDatetime().strftime("%H:%M:%S.%f")[:-3]
    money = f"{payment.amount.currency_code} {payment.amount.minor_units}"
    return (
        f"{time}  {name:<20} {before} → {after}  {event.payment_request_id} ({money} minor units)"
        f"  source={source}"
    )


def _json_line(told: PaymentEvent | Payment, cursor: str) -> str:
    kind = "event" if isinstance(told, PaymentEvent) else "payment"
    shown = {kind: MessageToDict(told)} | ({"cursor": cursor} if cursor else {})
    return json.dumps(shown, separators=(",", ":"))
