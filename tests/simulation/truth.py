"""What is true: Antom's own ledger, against which whatever we tell and store is held."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from antom_payments.antom.messages import parse_notification
from antom_payments.emulator import Emulator
from antom_payments.emulator.faults import NotificationFaultKind
from antom_payments.emulator.messages import encoded
from antom_payments.emulator.payments import Payment, PaymentStatus
from antom_payments.payment import EventType
from invariants import AntomPayment, FactKey
from simulation.history import History
from simulation.replicas import MERCHANTS
from simulation.witness import Row

ACCOUNTS = {client_id: name for name, client_id in MERCHANTS.items()}
"""Merchant accounts by their client ids."""
_LONGEST_WAY = timedelta(seconds=60)


class Truth:
    """Antom's ledger."""

    def __init__(self, emulator: Emulator, history: History) -> None:
        self.emulator = emulator
        self.history = history
        self.refused: set[str] = set()
        """Ids of which Antom refused a session."""
        self.rotation_time: datetime | None = None
        """From when on Antom signs with its next key."""

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

    def judge_deliveries(self) -> None:
        """What Antom signed was taken for Antom's, but for what was on its way for too long."""
        rotated = self.rotation_time
        for delivery in self.emulator.deliveries:
            for attempt in delivery.attempts:
                # Signed with the last key, it may have come when that was removed.
                is_late = rotated is not None and rotated - _LONGEST_WAY < attempt.time <= rotated
                if attempt.status == 401 and attempt.spoilt is None and not is_late:
                    told = f"notification {delivery.number} of {delivery.payment_request_id}"
                    self.history.violated("what Antom signs is taken", told)

    def taken_forged(self) -> list[str]:
        """Deliveries that were acknowledged with a signature of something else."""
        return [
            f"notification {delivery.number} of {delivery.payment_request_id}"
            for delivery in self.emulator.deliveries
            for attempt in delivery.attempts
            if attempt.spoilt is NotificationFaultKind.BADLY_SIGNED and not attempt.fault
        ]

    def secrets(self) -> set[str]:
        """What must never be seen outside of the encrypted columns and a caller's own answer."""
        found = set()
        for payment in self.emulator.payments:
            found |= {session.session_data for session in payment.sessions}
            found |= {payment.card_token} - {""}
        return found

    def judge(self, row: Row) -> None:
        """No event without its cause at Antom."""
        payment = self.payment(row.payment_request_id)
        if not _is_true(row, payment, self.refused):
            status = payment.status if payment else "not known"
            self.history.violated("no event without a cause", f"{row.told}; Antom: {status}")


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
