"""Events of the log, and what a reader wants of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState, Source


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """A committed change, or committed news. `sequence` and `append_time` are set by the log."""

    event_id: str
    type: EventType
    payment: Payment
    """The payment after the event."""
    state_before: PaymentState
    source: Source
    antom_time: datetime | None = None
    notification_id: str = ""
    append_traceparent: str = ""
    result_code: str = ""
    reported_amount: Money | None = None
    capture_id: str = ""
    sequence: int = 0
    append_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants, within what it may see. None means no restriction."""

    merchant_accounts: frozenset[str] | None = None
    payment_request_ids: frozenset[str] | None = None
    types: frozenset[EventType] | None = None
    final_states_only: bool = False

    def admits(self, event: PaymentEvent) -> bool:
        """Whether the reader gets ``event``."""
        payment = event.payment
        return (
            (self.merchant_accounts is None or payment.merchant_account in self.merchant_accounts)
            and (
                self.payment_request_ids is None
                or payment.payment_request_id in self.payment_request_ids
            )
            and (self.types is None or event.type in self.types)
            and (not self.final_states_only or payment.state.is_final)
        )
