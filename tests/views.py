"""Payments and events as the checker of our runs compares them, wherever they were seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antom_payments import payment
from antom_payments.v1 import payment_event_pb2, payment_pb2
from invariants import LoggedEvent, Shown

_PREFIX = "PAYMENT_STATE_"


def of_message(shown: payment_pb2.Payment) -> Shown:
    """As it came over the wire."""
    return Shown(
        payment_request_id=shown.payment_request_id,
        version=shown.version,
        state=_name(payment_pb2.PaymentState, shown.state, _PREFIX),
        payment_id=shown.payment_id,
        currency_code=shown.amount.currency_code,
        minor_units=shown.amount.minor_units,
        captured_minor_units=shown.captured_amount.minor_units,
        merchant_account=shown.merchant_account,
    )


def of_event(event: payment_event_pb2.PaymentEvent) -> LoggedEvent:
    """An event as it came over the wire, which has no number there."""
    return LoggedEvent(
        sequence=0,
        event_id=event.event_id,
        payment_request_id=event.payment_request_id,
        version=event.payment_version,
        type=_name(payment_event_pb2.PaymentEventType, event.type, "PAYMENT_EVENT_TYPE_"),
        state_before=_name(payment_pb2.PaymentState, event.state_before, _PREFIX),
        state=_name(payment_pb2.PaymentState, event.payment.state, _PREFIX),
        source=_name(payment_event_pb2.EventSource, event.source, "EVENT_SOURCE_"),
        shown=of_message(event.payment),
        merchant_account=event.merchant_account,
        capture_id=event.capture_id,
        notification_id=event.notification_id,
    )


def _name(names: Any, value: int, prefix: str) -> str:
    return str(names.Name(value)).removeprefix(prefix)


def of_answer(shown: payment.Payment) -> Shown:
    """As the service answers, before it becomes a message."""
    return Shown(
        payment_request_id=shown.payment_request_id,
        version=shown.version,
        state=shown.state,
        payment_id=shown.payment_id or "",
        currency_code=shown.amount.currency_code,
        minor_units=shown.amount.minor_units,
        captured_minor_units=shown.captured_minor_units,
        merchant_account=shown.merchant_account,
    )


def of_log(body: Mapping[str, Any]) -> Shown:
    """As an event's `body` has it."""
    shown = body["payment"]
    return Shown(
        payment_request_id=shown["payment_request_id"],
        version=shown["version"],
        state=shown["state"],
        payment_id=shown["payment_id"] or "",
        currency_code=shown["currency_code"],
        minor_units=shown["minor_units"],
        captured_minor_units=shown["captured_minor_units"],
        merchant_account=shown["merchant_account"],
    )
