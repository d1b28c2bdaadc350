"""Rows and JSON to the domain and back. Only the store knows these forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping

from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import Capture, CaptureState, EventType, Payment, PaymentState, Source
from antom_payments.payment_event import PaymentEvent
from antom_payments.sdk_event import SdkEventCode

Row = RowMapping | Mapping[str, Any]


def payment_to_row(payment: Payment) -> dict[str, Any]:
    """All columns of `payments` but the lease's."""
    return {
        "merchant_account": payment.merchant_account,
        "payment_request_id": payment.payment_request_id,
        "payment_id": payment.payment_id,
        "reference_order_id": payment.reference_order_id,
        "state": payment.state.value,
        "version": payment.version,
        "currency_code": payment.amount.currency_code,
        "minor_units": payment.amount.minor_units,
        "authorized_minor_units": payment.authorized_minor_units,
        "captured_minor_units": payment.captured_minor_units,
        "refunded_minor_units": payment.refunded_minor_units,
        "payment_method_type": payment.payment_method_type,
        "capture_mode": payment.capture_mode,
        "capture_expected": payment.capture_expected,
        "result_code": payment.result_code,
        "captures": [_capture_to_json(capture) for capture in payment.captures],
        "payment_session_expiry_time": payment.payment_session_expiry_time,
        "payment_create_time": payment.payment_create_time,
        "payment_time": payment.payment_time,
        "auth_expiry_time": payment.auth_expiry_time,
        "metadata": dict(payment.metadata),
        "traceparent": payment.traceparent,
        "create_time": payment.create_time,
        "update_time": payment.update_time,
        "last_sequence": payment.last_sequence,
        "inquiry_wanted": payment.inquiry_wanted,
    }


def payment_from_row(row: Row) -> Payment:
    """A row of `payments` as the domain's payment."""
    return Payment(
        merchant_account=row["merchant_account"],
        payment_request_id=row["payment_request_id"],
        payment_id=row["payment_id"],
        amount=Money(row["currency_code"], row["minor_units"]),
        reference_order_id=row["reference_order_id"],
        payment_method_type=row["payment_method_type"],
        capture_mode=row["capture_mode"],
        capture_expected=row["capture_expected"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        state=PaymentState(row["state"]),
        version=row["version"],
        authorized_minor_units=row["authorized_minor_units"],
        captured_minor_units=row["captured_minor_units"],
        refunded_minor_units=row["refunded_minor_units"],
        result_code=row["result_code"],
        captures=tuple(_capture_from_json(capture) for capture in row["captures"]),
        payment_session_expiry_time=row["payment_session_expiry_time"],
        payment_create_time=row["payment_create_time"],
        payment_time=row["payment_time"],
        auth_expiry_time=row["auth_expiry_time"],
        metadata=row["metadata"],
        traceparent=row["traceparent"],
        last_sequence=row["last_sequence"],
        inquiry_wanted=row["inquiry_wanted"],
    )


def event_to_row(event: PaymentEvent) -> dict[str, Any]:
    """All columns of `events`; sequence and append time must be set."""
    payment = event.payment
    return {
        "sequence": event.sequence,
        "event_id": event.event_id,
        "merchant_account": payment.merchant_account,
        "payment_request_id": payment.payment_request_id,
        "payment_version": payment.version,
        "type": event.type.value,
        "state": payment.state.value,
        "append_time": event.append_time,
        "body": {
            "payment": _payment_to_json(payment),
            "state_before": event.state_before.value,
            "source": event.source.value,
            "antom_time": _time_to_json(event.antom_time),
            "notification_id": event.notification_id,
            "append_traceparent": event.append_traceparent,
            "result_code": event.result_code,
            "reported_amount": _money_to_json(event.reported_amount),
            "capture_id": event.capture_id,
            "sdk_event_code": event.sdk_event_code,
        },
    }


def event_from_row(row: Row) -> PaymentEvent:
    """A row of `events` as the domain's event."""
    body = row["body"]
    # Absent in events that an earlier version wrote.
    reported = body.get("sdk_event_code")
    return PaymentEvent(
        event_id=row["event_id"],
        type=EventType(row["type"]),
        payment=replace(_payment_from_json(body["payment"]), last_sequence=row["sequence"]),
        state_before=PaymentState(body["state_before"]),
        source=Source(body["source"]),
        antom_time=_time_from_json(body["antom_time"]),
        notification_id=body["notification_id"],
        append_traceparent=body["append_traceparent"],
        result_code=body["result_code"],
        reported_amount=_money_from_json(body["reported_amount"]),
        capture_id=body["capture_id"],
        sdk_event_code=SdkEventCode(reported) if reported else None,
        sequence=row["sequence"],
        append_time=row["append_time"],
    )


def fact_to_json(fact: Fact) -> dict[str, Any]:
    """A fact for `facts.body`. Holds no personal data: facts have none."""
    return {
        "merchant_account": fact.merchant_account,
        "kind": fact.kind.value,
        "outcome": fact.outcome.value,
        "payment_id": fact.payment_id,
        "fact_id": fact.fact_id,
        "source": fact.source.value,
        "amount": _money_to_json(fact.amount),
        "payment_request_id": fact.payment_request_id,
        "request_id": fact.request_id,
        "result_code": fact.result_code,
        "antom_time": _time_to_json(fact.antom_time),
        "payment_create_time": _time_to_json(fact.payment_create_time),
        "payment_time": _time_to_json(fact.payment_time),
        "auth_expiry_time": _time_to_json(fact.auth_expiry_time),
        "capture_expected": fact.capture_expected,
    }


def fact_from_json(body: Row) -> Fact:
    """A fact from `facts.body`."""
    return Fact(
        merchant_account=body["merchant_account"],
        kind=FactKind(body["kind"]),
        outcome=Outcome(body["outcome"]),
        payment_id=body["payment_id"],
        fact_id=body["fact_id"],
        source=Source(body["source"]),
        amount=_money_from_json(body["amount"]),
        payment_request_id=body["payment_request_id"],
        request_id=body["request_id"],
        result_code=body["result_code"],
        antom_time=_time_from_json(body["antom_time"]),
        payment_create_time=_time_from_json(body["payment_create_time"]),
        payment_time=_time_from_json(body["payment_time"]),
        auth_expiry_time=_time_from_json(body["auth_expiry_time"]),
        capture_expected=body["capture_expected"],
    )


_JSON_TIMES = (
    "payment_session_expiry_time",
    "payment_create_time",
    "payment_time",
    "auth_expiry_time",
    "create_time",
    "update_time",
)


def _payment_to_json(payment: Payment) -> dict[str, Any]:
    row = payment_to_row(payment)
    del row["last_sequence"]
    for name in _JSON_TIMES:
        row[name] = _time_to_json(row[name])
    return row


def _payment_from_json(body: Row) -> Payment:
    times = {name: _time_from_json(body[name]) for name in _JSON_TIMES}
    return payment_from_row({**body, **times, "last_sequence": 0})


def _capture_to_json(capture: Capture) -> dict[str, Any]:
    return {
        "capture_id": capture.capture_id,
        "capture_request_id": capture.capture_request_id,
        "state": capture.state.value,
        "amount": _money_to_json(capture.amount),
        "result_code": capture.result_code,
        "capture_time": _time_to_json(capture.capture_time),
    }


def _capture_from_json(body: Row) -> Capture:
    return Capture(
        capture_id=body["capture_id"],
        capture_request_id=body["capture_request_id"],
        state=CaptureState(body["state"]),
        amount=Money(body["amount"][0], body["amount"][1]),
        result_code=body["result_code"],
        capture_time=_time_from_json(body["capture_time"]),
    )


def _money_to_json(money: Money | None) -> list[Any] | None:
    return None if money is None else [money.currency_code, money.minor_units]


def _money_from_json(body: list[Any] | None) -> Money | None:
    return None if body is None else Money(body[0], body[1])


def _time_to_json(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time_from_json(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
