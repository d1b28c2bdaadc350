"""Payments, facts and notifications as tests need them: one payment of EUR 1.00, told about."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from antom_payments.decision import decide
from antom_payments.fact import Fact, FactKind, Notification, Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState, Source

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
WHOLE = Money("EUR", 100)
ABSORBING = frozenset({PaymentState.FAILED, PaymentState.CANCELLED, PaymentState.EXPIRED})
OPEN = frozenset({PaymentState.CREATING, PaymentState.AWAITING_BUYER, PaymentState.PROCESSING})


def a_payment(state: PaymentState = PaymentState.AWAITING_BUYER, **more: Any) -> Payment:
    fields: dict[str, Any] = {
        "merchant_account": "default",
        "payment_request_id": "order-1-attempt-1",
        "amount": WHOLE,
        "reference_order_id": "order-1",
        "payment_method_type": "CARD",
        "capture_mode": "AUTOMATIC",
        "capture_expected": True,
        "create_time": NOW,
        "update_time": NOW,
        "state": state,
        "version": 1,
    }
    return Payment(**fields | more)


def a_payment_fact(outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> Fact:
    fields: dict[str, Any] = {
        "merchant_account": "default",
        "kind": FactKind.PAYMENT,
        "outcome": outcome,
        "payment_id": "P-1",
        "fact_id": "P-1",
        # Only an inquiry tells that nobody paid.
        "source": Source.INQUIRY if outcome is Outcome.EXPIRED else Source.NOTIFICATION,
        "amount": WHOLE,
        "payment_request_id": "order-1-attempt-1",
        "result_code": {Outcome.SUCCEEDED: "SUCCESS"}.get(outcome, outcome.value),
    }
    return Fact(**fields | more)


def a_capture(
    outcome: Outcome = Outcome.SUCCEEDED,
    capture_id: str = "C-1",
    amount: Money | None = WHOLE,
    **more: Any,
) -> Fact:
    return a_payment_fact(
        outcome,
        kind=FactKind.CAPTURE,
        fact_id=capture_id,
        amount=amount,
        payment_request_id=None,
        request_id=f"request-of-{capture_id}",
        **more,
    )


def a_notification(body: bytes | None = None, **more: Any) -> Notification:
    """A verified notification; of other bytes than any before when no ``body`` is given."""
    notification_id = str(uuid.uuid4())
    fields: dict[str, Any] = {
        "notification_id": notification_id,
        "merchant_account": "default",
        "body": notification_id.encode() if body is None else body,
        "client_id": "SANDBOX_5Y0000000000000000",
        "request_time": "2026-03-02T09:30:00Z",
        "received_time": NOW,
        "key_fingerprint": "0123456789abcdef",
    }
    return Notification(**fields | more)


def told(payment: Payment, *facts: Fact) -> Payment:
    """The payment after ``facts``."""
    for fact in facts:
        payment = decide(payment, fact, LATER).payment
    return payment


def the_news(payment: Payment, *facts: Fact) -> list[EventType]:
    """The news that ``facts`` are."""
    news = []
    for fact in facts:
        decision = decide(payment, fact, LATER)
        payment = decision.payment
        news.append(decision.type)
    return news
