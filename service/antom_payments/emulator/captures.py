"""Captures under way and their ends, whoever asked for them."""

from __future__ import annotations

from antom_payments.emulator import messages
from antom_payments.emulator.delivery import Courier
from antom_payments.emulator.ids import Ids
from antom_payments.emulator.payments import Capture, Payment, PaymentStatus
from antom_payments.emulator.requests import Amount
from antom_payments.emulator.results import CAPTURE_FAILURES, Result
from antom_payments.emulator.timeline import Timeline


class Captures:
    """Begins and ends captures, and sends the news of their ends."""

    def __init__(self, timeline: Timeline, courier: Courier, ids: Ids) -> None:
        self._timeline = timeline
        self._courier = courier
        self._ids = ids

    def begin(self, payment: Payment, amount: Amount, capture_request_id: str = "") -> Capture:
        """A capture that is in process; with an id of Antom's when the merchant gives none."""
        now = self._timeline.now()
        capture_id = self._ids.number(now)
        capture = Capture(capture_id, capture_request_id or self._ids.number(now), amount)
        payment.captures.append(capture)
        return capture

    def finish(self, payment: Payment, capture: Capture, result: Result) -> None:
        """End a capture; one whose authorisation was cancelled meanwhile fails."""
        if payment.status is PaymentStatus.CANCELLED:
            result = CAPTURE_FAILURES["AUTH_CANCELLED"]
        capture.result, capture.capture_time = result, self._timeline.now()
        self._courier.send(payment, messages.capture_result(payment, capture, result))
