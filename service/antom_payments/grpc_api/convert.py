"""From the domain to protobuf. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from antom_payments.money import Money
from antom_payments.payment import Capture, CaptureState, EventType, Payment, PaymentState, Source
from antom_payments.payment_event import PaymentEvent
from antom_payments.sdk_event import NextStep, SdkEventCode
from antom_payments.session import Session
from antom_payments.v1 import (
    payment_event_pb2,
    payment_pb2,
    payment_service_pb2,
    sdk_event_pb2,
)

# By name: a value that the contract lacks stops the import, and with it the build.
STATES: Final[Mapping[PaymentState, payment_pb2.PaymentState.ValueType]] = {
    state: payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{state}") for state in PaymentState
}
CAPTURE_STATES: Final[Mapping[CaptureState, payment_pb2.CaptureState.ValueType]] = {
    state: payment_pb2.CaptureState.Value(f"CAPTURE_STATE_{state}") for state in CaptureState
}
EVENT_TYPES: Final[Mapping[EventType, payment_event_pb2.PaymentEventType.ValueType]] = {
    kind: payment_event_pb2.PaymentEventType.Value(f"PAYMENT_EVENT_TYPE_{kind}")
    for kind in EventType
}
SOURCES: Final[Mapping[Source, payment_event_pb2.EventSource.ValueType]] = {
    source: payment_event_pb2.EventSource.Value(f"EVENT_SOURCE_{source}") for source in Source
}
SDK_EVENT_CODES: Final[Mapping[SdkEventCode, sdk_event_pb2.SdkEventCode.ValueType]] = {
    code: sdk_event_pb2.SdkEventCode.Value(f"SDK_EVENT_CODE_{code}") for code in SdkEventCode
}
NEXT_STEPS: Final[Mapping[NextStep, sdk_event_pb2.SdkNextStep.ValueType]] = {
    step: sdk_event_pb2.SdkNextStep.Value(f"SDK_NEXT_STEP_{step}") for step in NextStep
}
CAPTURE_MODES: Final[Mapping[str, payment_pb2.CaptureMode.ValueType]] = {
    "": payment_pb2.CAPTURE_MODE_UNSPECIFIED,
    "AUTOMATIC": payment_pb2.CAPTURE_MODE_AUTOMATIC,
    "MANUAL": payment_pb2.CAPTURE_MODE_MANUAL,
}


def encode(told: PaymentEvent | Payment, cursor: str) -> bytes:
    """One serialised StreamPaymentEventsResponse with an event, or a payment of a snapshot.

    With the cursor after it. Several of them joined are one response with all events and the last
    cursor: that is how protobuf merges repeated and single fields.
    """
    response = payment_service_pb2.StreamPaymentEventsResponse(cursor=cursor)
    if isinstance(told, PaymentEvent):
        response.events.append(event_to_proto(told))
    else:
        response.payments.append(payment_to_proto(told))
    return response.SerializeToString()


def events_of(responses: Iterable[bytes]) -> Sequence[payment_event_pb2.PaymentEvent]:
    """The events that were serialised by `encode`, in order."""
    joined = b"".join(responses)
    return payment_service_pb2.StreamPaymentEventsResponse.FromString(joined).events


def checkpoint(cursor: str, *, server_time: datetime, lag_seconds: float | None) -> bytes:
    """One serialised response with a checkpoint marker.

    ``lag_seconds`` is zero or more; None while it is not known.
    """
    response = payment_service_pb2.StreamPaymentEventsResponse(cursor=cursor)
    response.checkpoint.server_time.FromDatetime(server_time)
    if lag_seconds is not None:
        response.checkpoint.lag.FromMicroseconds(round(lag_seconds * 1e6))
    return response.SerializeToString()


def caught_up(cursor: str) -> bytes:
    """One serialised response with the marker that history was delivered."""
    response = payment_service_pb2.StreamPaymentEventsResponse(cursor=cursor)
    response.caught_up.SetInParent()
    return response.SerializeToString()


def snapshot_end(cursor: str) -> bytes:
    """One serialised response with the marker that every payment was delivered."""
    response = payment_service_pb2.StreamPaymentEventsResponse(cursor=cursor)
    response.snapshot_end.SetInParent()
    return response.SerializeToString()


def payment_to_proto(payment: Payment) -> payment_pb2.Payment:
    """The payment as callers see it."""
    currency = payment.amount.currency_code
    return payment_pb2.Payment(
        merchant_account=payment.merchant_account,
        payment_request_id=payment.payment_request_id,
        payment_id=payment.payment_id or "",
        state=STATES[payment.state],
        version=payment.version,
        amount=_money(payment.amount),
        authorized_amount=_money(Money(currency, payment.authorized_minor_units)),
        captured_amount=_money(Money(currency, payment.captured_minor_units)),
        refunded_amount=_money(Money(currency, payment.refunded_minor_units)),
        reference_order_id=payment.reference_order_id,
        payment_method_type=payment.payment_method_type,
        capture_mode=CAPTURE_MODES[payment.capture_mode],
        capture_expected=payment.capture_expected,
        result_code=payment.result_code,
        captures=[_capture(capture) for capture in payment.captures],
        payment_session_expiry_time=_timestamp(payment.payment_session_expiry_time),
        payment_create_time=_timestamp(payment.payment_create_time),
        payment_time=_timestamp(payment.payment_time),
        auth_expiry_time=_timestamp(payment.auth_expiry_time),
        create_time=_timestamp(payment.create_time),
        update_time=_timestamp(payment.update_time),
        metadata=payment.metadata,
        traceparent=payment.traceparent,
    )


def event_to_proto(event: PaymentEvent) -> payment_event_pb2.PaymentEvent:
    """The event as subscribers see it."""
    return payment_event_pb2.PaymentEvent(
        event_id=event.event_id,
        type=EVENT_TYPES[event.type],
        merchant_account=event.payment.merchant_account,
        payment_request_id=event.payment.payment_request_id,
        payment_version=event.payment.version,
        payment=payment_to_proto(event.payment),
        state_before=STATES[event.state_before],
        source=SOURCES[event.source],
        antom_time=_timestamp(event.antom_time),
        append_time=_timestamp(event.append_time),
        notification_id=event.notification_id,
        traceparent=event.payment.traceparent,
        append_traceparent=event.append_traceparent,
        result_code=event.result_code,
        reported_amount=_money(event.reported_amount) if event.reported_amount else None,
        capture_id=event.capture_id,
        sdk_event_code=(
            SDK_EVENT_CODES[event.sdk_event_code]
            if event.sdk_event_code
            else sdk_event_pb2.SDK_EVENT_CODE_UNSPECIFIED
        ),
    )


def session_to_proto(session: Session) -> payment_service_pb2.Session:
    """What the front end needs."""
    return payment_service_pb2.Session(
        payment_session_data=session.payment_session_data,
        payment_session_id=session.payment_session_id,
        payment_session_expiry_time=_timestamp(session.payment_session_expiry_time),
        normal_url=session.normal_url,
    )


def _money(money: Money) -> payment_pb2.Money:
    return payment_pb2.Money(currency_code=money.currency_code, minor_units=money.minor_units)


def _capture(capture: Capture) -> payment_pb2.Capture:
    return payment_pb2.Capture(
        capture_request_id=capture.capture_request_id,
        capture_id=capture.capture_id,
        state=CAPTURE_STATES[capture.state],
        amount=_money(capture.amount),
        result_code=capture.result_code,
        capture_time=_timestamp(capture.capture_time),
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
