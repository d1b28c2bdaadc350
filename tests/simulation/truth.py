"""What is true: Antom's own ledger, against which whatever we tell and store is held."""

from __future__ import annotations

from antom_payments.emulator import Emulator
from antom_payments.emulator.payments import Payment, PaymentStatus
from antom_payments.payment import EventType, PaymentState
from simulation.history import History
from simulation.witness import Row


class Truth:
    """Antom's ledger."""

    def __init__(self, emulator: Emulator, history: History) -> None:
        self.emulator = emulator
        self.history = history
        self.refused: set[str] = set()
        """Ids of which Antom refused a session."""

    def payment(self, payment_request_id: str) -> Payment | None:
        """Antom's record."""
        for payment in self.emulator.payments:
            if payment.payment_request_id == payment_request_id:
                return payment
        return None

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
_OF_CAPTURES = {EventType.CAPTURE_SUCCEEDED: "S", EventType.CAPTURE_FAILED: "F"}


def was_paid(payment: Payment) -> bool:
    """Whether the buyer's money was held or taken."""
    return payment.result is not None and payment.result.status == "S"


def taken(payment: Payment) -> int:
    """What was taken, in minor units."""
    if payment.status is not PaymentStatus.SUCCESS:
        return 0
    if payment.auth_expiry_time is None:
        return int(payment.amount.value)
    return sum(
        int(capture.amount.value)
        for capture in payment.captures
        if capture.result is not None and capture.result.status == "S"
    )


def states_of(payment: Payment | None) -> set[PaymentState]:
    """How a payment may stand here, once everything was told, by how it stands at Antom."""
    status = payment.status if payment else None
    if payment is None:
        return {PaymentState.EXPIRED, PaymentState.FAILED}
    match status:
        case None:
            return {PaymentState.EXPIRED}
        case PaymentStatus.PROCESSING | PaymentStatus.PENDING:
            return {PaymentState.PROCESSING}
        case PaymentStatus.FAIL:
            return {PaymentState.FAILED, PaymentState.EXPIRED}
        case PaymentStatus.CANCELLED:
            return {PaymentState.CANCELLED}
    whole = taken(payment) == int(payment.amount.value)
    return {PaymentState.SUCCEEDED} if whole else {PaymentState.AUTHORIZED}
