"""What is true: Antom's own ledger, against which whatever we tell and store is held."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from antom_payments.antom.messages import parse_notification
from antom_payments.emulator import Emulator
from antom_payments.emulator.faults import NotificationFaultKind
from antom_payments.emulator.messages import encoded
from antom_payments.emulator.payments import Payment, PaymentStatus
from antom_payments.payment import EventType
from invariants import AntomPayment, FactKey
from simulation.history import History
from simulation.lapses import Lapses
from simulation.replicas import MERCHANTS
from simulation.witness import Row

ACCOUNTS = {client_id: name for name, client_id in MERCHANTS.items()}
"""Merchant accounts by their client ids."""


class Truth:
    """Antom's ledger."""

    def __init__(self, emulator: Emulator, history: History) -> None:
        self.emulator = emulator
        self.history = history
        self.refused: set[str] = set()
        """Ids of which Antom refused a session."""
        self._heard: Counter[tuple[str, str]] = Counter()
        """What Antom told processes of ours, so that they had to believe it, by payment."""
        self._concluded: Counter[tuple[str, str]] = Counter()
        """Events of sessions, by what must have been heard for each."""
        self.lapses = Lapses()

    def now(self) -> datetime:
        """The time at Antom."""
        return self.emulator.timeline.now()

    def heard(
        self,
        operation: str,
        payment_request_id: str,
        told: Mapping[str, Any],
        *,
        signed: datetime,
        is_to_one_ahead: bool,
    ) -> None:
        """An answer about a payment came to a process of ours that accepts its signature."""
        result = told["result"]
        self._heard[f"{operation} {result['resultStatus']}", payment_request_id] += 1
        self.lapses.heard(
            payment_request_id,
            told,
            signed=signed,
            now=self.now(),
            is_to_one_ahead=is_to_one_ahead,
        )

    def payment(self, payment_request_id: str) -> Payment | None:
        """Antom's record."""
        for payment in self.emulator.payments:
            if payment.payment_request_id == payment_request_id:
                return payment
        return None

    def at_antom(self, payment_request_id: str) -> AntomPayment | None:
        """Antom's record, as it is compared with ours."""
        payment = self.payment(payment_request_id)
        return _at_antom(payment) if payment else None

    def payments(self) -> list[AntomPayment]:
        """All of Antom's records."""
        return [_at_antom(payment) for payment in self.emulator.payments]

    def said(self) -> dict[str, FactKey]:
        """What Antom ever said of its own accord, by the hash of the notification's body."""
        found = {}
        for one in self.emulator.deliveries:
            body = encoded(one.notification)
            fact = parse_notification(body, merchant_account=ACCOUNTS[one.client_id])
            key = (fact.kind, fact.fact_id, fact.outcome, fact.merchant_account)
            found[hashlib.sha256(body).hexdigest()] = key
        return found

    def of_other_amounts(self) -> set[str]:
        """What Antom said with an amount that nobody asked for, by the hash of the body."""
        return {
            hashlib.sha256(encoded(one.notification)).hexdigest()
            for one in self.emulator.deliveries
            if one.spoilt is NotificationFaultKind.OTHER_AMOUNT
        }

    def secrets(self) -> set[str]:
        """What must never be seen outside of the encrypted columns and a caller's own answer."""
        found = set()
        for payment in self.emulator.payments:
            found |= {session.session_data for session in payment.sessions}
            found |= {payment.card_token} - {""}
        return found

    def judge(self, row: Row, outcome: str) -> None:
        """No event without its cause at Antom; ``outcome`` is its fact's, empty without one."""
        payment = self.payment(row.payment_request_id)
        if not _is_true(row, payment, self.refused):
            status = payment.status if payment else "not known"
            self.history.violated("no event without a cause", f"{row.told}; Antom: {status}")
        if not self._was_heard(row):
            self.history.violated("an event comes of an answer that Antom signed", row.told)
        if row.type is EventType.PAYMENT_EXPIRED and (
            wrong := self.lapses.wrong_lapse(row, payment, self.now())
        ):
            self.history.violated("a payment expires in its time", f"{row.told} {wrong}")
        if wrong := self.lapses.wrong_contradiction(row, outcome):
            self.history.violated("a lapse contradicts only news", f"{row.told} {wrong}")
        self.lapses.committed(row, self.now())

    def _was_heard(self, row: Row) -> bool:
        """Whether an answer that may be believed came before an event that follows from one."""
        name = row.payment_request_id
        if row.type in _ANSWERED:
            told = (_ANSWERED[row.type], name)
            self._concluded[told] += 1
            return self._concluded[told] <= self._heard[told]
        # ORDER_NOT_EXIST is an F.
        inquired = (self._heard[f"inquiryPayment {status}", name] for status in "SF")
        return row.source != "INQUIRY" or any(inquired)


def _is_true(row: Row, payment: Payment | None, refused: set[str]) -> bool:
    """Whether the cause of an event is there; a payment may have been cancelled since."""
    status = payment.status if payment else None
    if row.type in _WITHOUT_PAYMENT:
        return {
            EventType.SESSION_REFUSED: row.payment_request_id in refused,
            EventType.PAYMENT_EXPIRED: status in {None, PaymentStatus.FAIL},
        }.get(row.type, True)
    if payment is None:
        return False
    if row.type in _OF_CAPTURES:
        ends = {(one.capture_id, one.result.status) for one in payment.captures if one.result}
        return (row.body["capture_id"], _OF_CAPTURES[row.type]) in ends
    return {
        EventType.SESSION_CREATED: bool(payment.sessions),
        EventType.SESSION_RENEWED: len(payment.sessions) > 1,
        EventType.PAYMENT_AUTHORIZED: was_paid(payment),
        EventType.PAYMENT_SUCCEEDED: was_paid(payment),
        EventType.PAYMENT_FAILED: status is PaymentStatus.FAIL,
        EventType.PAYMENT_CANCELLED: status is PaymentStatus.CANCELLED,
    }.get(row.type, payment.submit_time is not None or status is not None)


_WITHOUT_PAYMENT = {
    EventType.SESSION_REFUSED,
    EventType.PAYMENT_EXPIRED,
    EventType.SDK_EVENT_REPORTED,
}
_CAPTURE_OUTCOMES = {"S": "SUCCEEDED", "F": "FAILED", "U": "PROCESSING"}
_ANSWERED = {
    EventType.SESSION_CREATED: "createPaymentSession S",
    EventType.SESSION_RENEWED: "createPaymentSession S",
    EventType.SESSION_REFUSED: "createPaymentSession F",
}
"""Events that each need an answer of their own."""
_OF_CAPTURES = {EventType.CAPTURE_SUCCEEDED: "S", EventType.CAPTURE_FAILED: "F"}


def was_paid(payment: Payment) -> bool:
    """Whether the buyer's money was held or taken."""
    return payment.result is not None and payment.result.status == "S"


def _at_antom(payment: Payment) -> AntomPayment:
    taken = [one for one in payment.captures if one.result and one.result.status == "S"]
    return AntomPayment(
        payment_request_id=payment.payment_request_id,
        payment_id=payment.payment_id,
        status=payment.status,
        currency_code=payment.amount.currency,
        minor_units=int(payment.amount.value),
        captured_minor_units=sum(int(one.amount.value) for one in taken),
        expects_capture=payment.auth_expiry_time is not None,
        is_submitted=payment.submit_time is not None,
        sessions=len(payment.sessions),
        is_paid=was_paid(payment),
        captures={
            one.capture_id: _CAPTURE_OUTCOMES[one.result.status if one.result else "U"]
            for one in payment.captures
        },
        merchant_account=ACCOUNTS[payment.client_id],
    )
