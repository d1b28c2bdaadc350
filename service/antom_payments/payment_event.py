"""Events of the log, and what a reader wants of them. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState, Source
from antom_payments.sdk_event import SdkEventCode


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
    sdk_event_code: SdkEventCode | None = None
    """What a front end reported, of SDK_EVENT_REPORTED."""
    sequence: int = 0
    append_time: datetime | None = None

    @property
    def merchant_account(self) -> str:
        """Merchant of the payment."""
        return self.payment.merchant_account

    @property
    def payment_request_id(self) -> str:
        """The merchant's id of the payment."""
        return self.payment.payment_request_id

    @property
    def state(self) -> PaymentState:
        """The payment's state after the event."""
        return self.payment.state


class Described(Protocol):
    """What a filter looks at: of an event, or of what a reader keeps of one."""

    @property
    def merchant_account(self) -> str:
        """Merchant of the payment."""

    @property
    def payment_request_id(self) -> str:
        """The merchant's id of the payment."""

    @property
    def type(self) -> EventType:
        """What happened."""

    @property
    def state(self) -> PaymentState:
        """The payment's state after it."""


def _is_conclusion(event: Described) -> bool:
    """Whether whoever waits for final states hears of it; a hint about one is no conclusion."""
    return event.state.is_final and event.type is not EventType.SDK_EVENT_REPORTED


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants, within what it may see. None means no restriction."""

    merchant_accounts: frozenset[str] | None = None
    payment_request_ids: frozenset[str] | None = None
    types: frozenset[EventType] | None = None
    final_states_only: bool = False

    @property
    def admits_whole_payments(self) -> bool:
        """Whether every event of a payment is admitted, or none."""
        return self.types is None and not self.final_states_only

    def identity(self) -> bytes:
        """8 bytes that differ when two filters do; the same in every process and release."""
        told = [
            None if names is None else sorted(names)
            for names in (self.merchant_accounts, self.payment_request_ids, self.types)
        ]
        return sha256(json.dumps([*told, self.final_states_only]).encode()).digest()[:8]

    def admits(self, event: Described) -> bool:
        """Whether the reader gets ``event``."""
        return (
            (self.merchant_accounts is None or event.merchant_account in self.merchant_accounts)
            and (
                self.payment_request_ids is None
                or event.payment_request_id in self.payment_request_ids
            )
            and (self.types is None or event.type in self.types)
            and (not self.final_states_only or _is_conclusion(event))
        )
