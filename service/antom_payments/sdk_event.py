"""What Antom's client SDK told a front end, and what the front end does next. Pure.

A report comes from the buyer's device, signed by nobody: it is a hint, and moves no state
(antom-api 9.4). What the front end is told follows from the payment as it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from antom_payments.payment import Decision, EventType, Payment, PaymentState


class SdkEventCode(StrEnum):
    """Event codes of `onEventCallback`, by Antom's names (antom-api 9.4)."""

    SDK_PAYMENT_SUCCESSFUL = "SDK_PAYMENT_SUCCESSFUL"
    SDK_PAYMENT_PROCESSING = "SDK_PAYMENT_PROCESSING"
    SDK_PAYMENT_FAIL = "SDK_PAYMENT_FAIL"
    SDK_PAYMENT_CANCEL = "SDK_PAYMENT_CANCEL"
    SDK_PAYMENT_ERROR = "SDK_PAYMENT_ERROR"
    SDK_FORM_VERIFICATION_FAILED = "SDK_FORM_VERIFICATION_FAILED"
    SDK_START_OF_LOADING = "SDK_START_OF_LOADING"
    SDK_END_OF_LOADING = "SDK_END_OF_LOADING"
    SDK_INTERNAL_ERROR = "SDK_INTERNAL_ERROR"
    SDK_CREATEPAYMENT_PARAMETER_ERROR = "SDK_CREATEPAYMENT_PARAMETER_ERROR"
    SDK_CALL_URL_ERROR = "SDK_CALL_URL_ERROR"
    SDK_INTEGRATION_ERROR = "SDK_INTEGRATION_ERROR"
    SDK_INIT_PARAMETER_ERROR = "SDK_INIT_PARAMETER_ERROR"
    SDK_CREATECOMPONENT_ERROR = "SDK_CREATECOMPONENT_ERROR"
    SDK_CALL_URL_SUCCESS = "SDK_CALL_URL_SUCCESS"

    @property
    def may_be_news(self) -> bool:
        """Whether the buyer may have paid, or failed to: worth asking Antom at once."""
        return self in _MAY_BE_NEWS


class NextStep(StrEnum):
    """What a front end does next; the same names as the contract's SdkNextStep."""

    CONTINUE = "CONTINUE"
    SHOW_RESULT = "SHOW_RESULT"
    WAIT_FOR_RESULT = "WAIT_FOR_RESULT"
    RETRY_SAME_SESSION = "RETRY_SAME_SESSION"
    NEW_SESSION = "NEW_SESSION"
    NEW_PAYMENT = "NEW_PAYMENT"
    CONTACT_SUPPORT = "CONTACT_SUPPORT"


@dataclass(frozen=True, slots=True)
class SdkEvent:
    """What a front end reported of a payment."""

    code: SdkEventCode
    payment_result_code: str = ""


_C = SdkEventCode

_OUTCOMES = frozenset(
    {
        _C.SDK_PAYMENT_SUCCESSFUL,
        _C.SDK_PAYMENT_PROCESSING,
        _C.SDK_PAYMENT_FAIL,
        _C.SDK_PAYMENT_ERROR,
    }
)
"""Codes that say what became of the payment, which only Antom can."""
_MAY_BE_NEWS = _OUTCOMES | {_C.SDK_INTERNAL_ERROR, _C.SDK_CALL_URL_ERROR}
_PROGRESS = frozenset({_C.SDK_START_OF_LOADING, _C.SDK_END_OF_LOADING, _C.SDK_CALL_URL_SUCCESS})
"""Codes of a front end that works."""
_BROKEN = frozenset(
    {
        _C.SDK_INTERNAL_ERROR,
        _C.SDK_INTEGRATION_ERROR,
        _C.SDK_INIT_PARAMETER_ERROR,
        _C.SDK_CREATECOMPONENT_ERROR,
    }
)
"""Codes that the buyer cannot help: the app or the SDK is at fault."""
_PAID = frozenset({PaymentState.AUTHORIZED, PaymentState.SUCCEEDED})


def next_step(payment: Payment, code: SdkEventCode, now: datetime) -> NextStep:
    """What the front end of ``payment`` does after ``code``.

    The buyer is never sent to pay anew while the payment may still succeed: a failure is one once
    Antom says so.
    """
    if payment.state in _PAID:
        return NextStep.SHOW_RESULT
    if code in _BROKEN:
        return NextStep.CONTACT_SUPPORT
    if payment.state.is_final:
        return NextStep.NEW_PAYMENT
    if code in _PROGRESS:
        return NextStep.CONTINUE
    if code in _OUTCOMES or payment.state is PaymentState.PROCESSING:
        return NextStep.WAIT_FOR_RESULT
    return _with_which_session(payment, code, now)


def _with_which_session(payment: Payment, code: SdkEventCode, now: datetime) -> NextStep:
    """The buyer has not submitted, and may: with the session at hand, unless it will not do."""
    expiry_time = payment.payment_session_expiry_time
    is_alive = expiry_time is not None and now < expiry_time
    if is_alive and code is not SdkEventCode.SDK_CREATEPAYMENT_PARAMETER_ERROR:
        return NextStep.RETRY_SAME_SESSION
    return NextStep.NEW_SESSION


def with_sdk_event(payment: Payment, now: datetime) -> Decision:
    """What a report does to a payment: it is told, and nothing else."""
    return Decision(
        payment=replace(payment, version=payment.version + 1, update_time=now),
        type=EventType.SDK_EVENT_REPORTED,
        state_before=payment.state,
    )
