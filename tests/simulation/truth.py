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
_SESSION_LIFE = timedelta(hours=1)
"""Of a payment whose session was never confirmed (design 7)."""
_CLOSING_TIME = timedelta(minutes=14)
"""From a session's end until Antom has closed the unpaid order (antom-api 6.5)."""
_MARGIN = timedelta(minutes=2)
"""How much longer our processes wait."""
MOST_SKEW = timedelta(seconds=0.8)
"""How much the clock of a process of ours is off."""


class Truth:
    """Antom's ledger."""

    def __init__(self, emulator: Emulator, history: History) -> None:
        self.emulator = emulator
        self.history = history
        self.refused: set[str] = set()
        """Ids of which Antom refused a session."""
        self.rotation_time: datetime | None = None
        """From when on Antom signs with its next key."""
        self.lapse_told: dict[str, datetime] = {}
        """When Antom last told a process of ours that nothing came of a payment, by its id."""

    def now(self) -> datetime:
        """The time at Antom."""
        return self.emulator.timeline.now()

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
        if row.type is EventType.PAYMENT_EXPIRED and (wrong := self._wrong_lapse(row, payment)):
            self.history.violated("a payment expires in its time", f"{row.told} {wrong}")

    def _wrong_lapse(self, row: Row, payment: Payment | None) -> str:
        """Why a payment may not have expired yet: our clock alone concludes nothing, nor Antom's.

        Ours and Antom's must both be past the end, and Antom must have been asked after it.
        """
        known = row.body["payment"]
        told_end = known["payment_session_expiry_time"]
        end = _time(told_end) if told_end else _time(known["create_time"]) + _SESSION_LIFE
        due = end + _CLOSING_TIME + _MARGIN - MOST_SKEW
        if self.now() < due:
            return f"before {due}"
        is_closed = payment is not None and payment.status is PaymentStatus.FAIL
        if payment is not None and not is_closed:
            last = max(session.expiry_time for session in payment.sessions)
            # Of a session that no process heard of, none can tell when it ends: no margin.
            if self.now() < last + _CLOSING_TIME - MOST_SKEW:
                return f"while Antom has a session until {last}"
        told = self.lapse_told.get(row.payment_request_id)
        if told is None or told < due:
            return f"though Antom last told so at {told}, before {due}"
        return ""


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


def _time(text: str) -> datetime:
    """Of the log."""
    return datetime.fromisoformat(text)


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
