"""Which payments a list has, and in which order. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from antom_payments.payment import Payment, PaymentState


class PaymentOrder(StrEnum):
    """In which order payments are listed; ties by merchant and `payment_request_id`."""

    CREATE_TIME_DESC = "CREATE_TIME_DESC"
    """Newest first."""
    UPDATE_TIME_ASC = "UPDATE_TIME_ASC"
    """What changed longest ago first: a payment that changes moves to the end."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` until just before `end`; None is no bound. Aware times."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """What a reader wants of the payments. An empty set, text or range is no restriction."""

    merchant_accounts: frozenset[str] = frozenset()
    states: frozenset[PaymentState] = frozenset()
    reference_order_id: str = ""
    create_time: TimeRange = field(default_factory=TimeRange)
    update_time: TimeRange = field(default_factory=TimeRange)


@dataclass(frozen=True, slots=True)
class Place:
    """A payment's place in an order; `time` is the one that the order goes by."""

    time: datetime
    merchant_account: str
    payment_request_id: str


def place_of(payment: Payment, order: PaymentOrder) -> Place:
    """Where the payment stands now."""
    by_creation = order is PaymentOrder.CREATE_TIME_DESC
    time = payment.create_time if by_creation else payment.update_time
    return Place(time, payment.merchant_account, payment.payment_request_id)
