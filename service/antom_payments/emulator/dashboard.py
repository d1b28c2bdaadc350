"""Antom's dashboard: what a merchant does with a payment there, by Antom's rules.

The rules are those of the operations cancel and capture (antom-api 3.4, 3.5, 6.2, 6.3), and so are
the codes of a refusal.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from antom_payments.emulator import results
from antom_payments.emulator.captures import Captures
from antom_payments.emulator.payments import Capture, Payment, PaymentStatus
from antom_payments.emulator.requests import Amount
from antom_payments.emulator.results import CAPTURE_FAILURES, Refused, Result
from antom_payments.emulator.timeline import Timeline

_CARD_WINDOW = timedelta(days=7)
_DAY_OF_CANCELS = timezone(timedelta(hours=8))
# The methods that antom-api 9.1 lists for Indonesia, and JKOPay.
_NEVER_CANCELLED_ONCE_PAID = frozenset(
    {
        *("DANA", "AKULAKU_PAYLATER", "KREDIVO_ID", "OVO", "GOPAY_ID", "OCTOCLICKS", "QRIS"),
        *("ONLINEBANKING_BNI", "ONLINEBANKING_MANDIRI", "ONLINEBANKING_BCA", "CIMBNIAGA"),
        *("BANKTRANSFER_MAYBANK", "BANKTRANSFER_BNI", "BANKTRANSFER_PERMATA", "ATMTRANSFER_ID"),
        *("BANKTRANSFER_MANDIRI", "BANKTRANSFER_BSI", "SHOPEEPAY_ID", "DOKU", "JKOPAY"),
    }
)
# Thai banks; the names of their other methods are not documented one by one.
_THAI_BANK = "BANKAPP_"


class _Words(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )


class Cancellation(_Words):
    """How to cancel. `force` cancels what Antom's rules would refuse, but never a failed one."""

    force: bool = False


class ManualCapture(_Words):
    """How to capture, and how it goes.

    `capture_amount` is the whole amount when it is not given, `capture_request_id` one of Antom's.
    `result_code` is SUCCESS or how it fails; `in_process_seconds` how long that takes, in Antom's
    time.
    """

    capture_request_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    capture_amount: Amount | None = None
    result_code: str = results.CAPTURED.code
    in_process_seconds: Annotated[float, Field(ge=0, le=7 * 86_400)] = 0

    @field_validator("result_code")
    @classmethod
    def _is_a_result_of_captures(cls, code: str) -> str:
        if code not in {results.CAPTURED.code, *CAPTURE_FAILURES}:
            raise ValueError(f"must be SUCCESS or one of {', '.join(CAPTURE_FAILURES)}")
        return code


class Dashboard:
    """Cancels and captures payments."""

    def __init__(self, timeline: Timeline, captures: Captures) -> None:
        self._timeline = timeline
        self._captures = captures

    def cancel(self, payment: Payment, wish: Cancellation) -> None:
        """Cancel the whole payment; once more changes nothing. No notification tells of it.

        Raises:
            Refused: Antom refuses, by what is paid or captured, and when (antom-api 6.3).
        """
        if payment.status is PaymentStatus.CANCELLED:
            return
        if payment.status is PaymentStatus.FAIL:
            raise Refused(results.ORDER_STATUS_INVALID.because("The payment has failed."))
        fault = _fault_in_cancelling(payment, self._timeline.now())
        if fault and not wish.force:
            raise Refused(fault)
        payment.status = PaymentStatus.CANCELLED

    def capture(self, payment: Payment, wish: ManualCapture) -> Capture:
        """Capture an authorised card payment; a known `captureRequestId` changes nothing.

        After the authorisation's expiry the capture fails with AUTH_EXPIRED.

        Raises:
            Refused: there is nothing to capture, or not so much, or not once more.
        """
        amount = wish.capture_amount or payment.amount
        for known in payment.captures:
            if known.capture_request_id == wish.capture_request_id:
                if known.amount != amount:
                    raise Refused(results.REPEAT_REQ_INCONSISTENT.because("captureAmount differs."))
                return known
        _refuse_capture(payment, amount)
        result = CAPTURE_FAILURES.get(wish.result_code, results.CAPTURED)
        now = self._timeline.now()
        if payment.auth_expiry_time and payment.auth_expiry_time <= now:
            result = CAPTURE_FAILURES["AUTH_EXPIRED"]
        capture = self._captures.begin(payment, amount, wish.capture_request_id or "")
        if wish.in_process_seconds:
            end = now + timedelta(seconds=wish.in_process_seconds)
            self._timeline.at(end, lambda: self._captures.finish(payment, capture, result))
        else:
            self._captures.finish(payment, capture, result)
        return capture


def _fault_in_cancelling(payment: Payment, now: datetime) -> Result | None:
    """Why Antom does not cancel an unpaid or paid payment any more."""
    if payment.status is not PaymentStatus.SUCCESS or payment.payment_time is None:
        return None
    if payment.has_open_or_successful_capture:
        return results.ORDER_STATUS_INVALID.because("It is captured: refund it.")
    method = payment.payment_method_type
    if method in _NEVER_CANCELLED_ONCE_PAID or method.startswith(_THAI_BANK):
        return results.PAYMENT_METHOD_NOT_SUPPORTED
    if now > _end_of_cancel_window(method, payment.payment_time):
        return results.CANCEL_WINDOW_EXCEED
    return None


def _end_of_cancel_window(method: str, payment_time: datetime) -> datetime:
    if method == "CARD" or method.startswith("MERCADOPAGO_"):
        return payment_time + _CARD_WINDOW
    next_day = payment_time.astimezone(_DAY_OF_CANCELS) + timedelta(days=1)
    return next_day.replace(hour=0, minute=15, second=0, microsecond=0)


def _refuse_capture(payment: Payment, amount: Amount) -> None:
    if payment.status is PaymentStatus.CANCELLED:
        raise Refused(CAPTURE_FAILURES["ORDER_IS_CANCELED"])
    if payment.status is not PaymentStatus.SUCCESS or payment.auth_expiry_time is None:
        raise Refused(CAPTURE_FAILURES["ORDER_STATUS_INVALID"].because("It is not authorized."))
    if payment.has_open_or_successful_capture:
        raise Refused(CAPTURE_FAILURES["MULTI_CAPTURE_NOT_SUPPORTED"])
    if amount.currency != payment.amount.currency:
        raise Refused(CAPTURE_FAILURES["CURRENCY_NOT_SUPPORT"])
    if int(amount.value) > int(payment.amount.value):
        raise Refused(CAPTURE_FAILURES["CAPTURE_AMOUNT_EXCEED_AUTH_LIMIT"])
