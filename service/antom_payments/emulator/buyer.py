"""The buyer, played from outside: what one does, and what follows from it at Antom."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from antom_payments.emulator import messages, results
from antom_payments.emulator.amounts import CAPTURES_THAT_FAIL, PAYMENTS_THAT_FAIL
from antom_payments.emulator.captures import Captures
from antom_payments.emulator.cards import DEFAULT_CARD, SANDBOX_CARDS, Card
from antom_payments.emulator.delivery import Courier
from antom_payments.emulator.ids import Ids
from antom_payments.emulator.ledger import NotPossible
from antom_payments.emulator.options import CaptureOrder, EmulatorOptions
from antom_payments.emulator.payments import Payment, PaymentStatus
from antom_payments.emulator.results import CAPTURE_FAILURES, PAYMENT_FAILURES, Result
from antom_payments.emulator.timeline import Timeline

AUTHORIZATION_LIFETIME = timedelta(days=7)
"""How long an authorised card payment may be captured (antom-api 6.2)."""


class Step(StrEnum):
    """What a buyer can do."""

    APPROVE = "approve"
    DECLINE = "decline"
    PENDING = "pending"
    ABANDON = "abandon"


class _Words(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )


class CaptureWish(_Words):
    """How the automatic capture goes; what is not said goes as the emulator's options say."""

    order: CaptureOrder | None = None
    delay_seconds: Annotated[float, Field(ge=0, le=7 * 86_400)] | None = None
    result_code: str | None = None

    @field_validator("result_code")
    @classmethod
    def _is_a_result_of_captures(cls, code: str | None) -> str | None:
        if code not in {None, results.CAPTURED.code, *CAPTURE_FAILURES}:
            raise ValueError(f"must be SUCCESS or one of {', '.join(CAPTURE_FAILURES)}")
        return code


class BuyerAction(_Words):
    """One step of the buyer.

    `card` is a sandbox card's number, for CARD only. `result_code` is how a declined payment
    fails. `payment_method_type` is what the buyer chooses where the session left it open.
    """

    action: Step
    card: Annotated[str | None, Field(repr=False)] = None
    result_code: str | None = None
    payment_method_type: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    capture: CaptureWish | None = None

    @field_validator("result_code")
    @classmethod
    def _is_a_failure_of_payments(cls, code: str | None) -> str | None:
        if code is not None and code not in PAYMENT_FAILURES:
            raise ValueError(f"must be one of {', '.join(PAYMENT_FAILURES)}")
        return code


class Checkout:
    """Where buyers submit, and from where the news of it leave."""

    def __init__(
        self,
        options: EmulatorOptions,
        timeline: Timeline,
        courier: Courier,
        ids: Ids,
        captures: Captures,
    ) -> None:
        self._options = options
        self._timeline = timeline
        self._courier = courier
        self._ids = ids
        self._captures = captures

    def submit(self, payment: Payment, action: BuyerAction) -> None:
        """Let the buyer of ``payment`` do ``action``.

        Raises:
            NotPossible: the payment is over, its session has expired, or the words do not fit it.
        """
        now = self._timeline.now()
        _refuse_late(payment, action, now)
        method = _method_of(payment, action)
        card = _card_of(payment, action) if method == "CARD" else None
        _refuse_idle_words(payment, action, method)
        payment.payment_method_type, payment.card = method, card
        payment.submit_time = payment.submit_time or now
        match action.action:
            case Step.ABANDON:
                payment.status = PaymentStatus.PROCESSING
                self.close_at(payment, now + timedelta(seconds=self._options.closing_seconds))
            case Step.PENDING:
                payment.status = PaymentStatus.PENDING
                self._courier.send(payment, messages.payment_pending(payment))
            case Step.DECLINE:
                usual = "DO_NOT_HONOR" if card else "USER_BALANCE_NOT_ENOUGH"
                self._fail(payment, PAYMENT_FAILURES[action.result_code or usual])
            case Step.APPROVE:
                self._approve(payment, action.capture or CaptureWish())

    def close_at(self, payment: Payment, time: datetime) -> None:
        """Close the order of ``payment`` at ``time``, unless it moves on or is paid by then."""
        payment.closing_time = time
        self._timeline.at(time, lambda: self._close(payment, time))

    def _close(self, payment: Payment, due: datetime) -> None:
        waits = payment.status in {None, PaymentStatus.PROCESSING}
        if waits and payment.closing_time == due:
            self._fail(payment, results.ORDER_IS_CLOSED)

    def _approve(self, payment: Payment, wish: CaptureWish) -> None:
        if magic := PAYMENTS_THAT_FAIL.get(payment.amount.value):
            self._fail(payment, magic)
        elif payment.card and not payment.card.approves:
            self._fail(payment, PAYMENT_FAILURES["DO_NOT_HONOR"])
        else:
            self._succeed(payment, wish)

    def _fail(self, payment: Payment, result: Result) -> None:
        payment.status, payment.result = PaymentStatus.FAIL, result
        payment.payment_time = self._timeline.now()
        self._courier.send(payment, messages.payment_result(payment, result))

    def _succeed(self, payment: Payment, wish: CaptureWish) -> None:
        now = self._timeline.now()
        payment.status, payment.result = PaymentStatus.SUCCESS, results.PAID
        payment.payment_time = now
        if payment.card:
            payment.card_token = self._ids.card_token()
            if payment.request.authorises:
                payment.auth_expiry_time = now + AUTHORIZATION_LIFETIME
        news = messages.payment_result(payment, results.PAID)
        if _is_captured_by_antom(payment, payment.payment_method_type):
            self._capture(payment, wish, news)
        else:
            self._courier.send(payment, news)

    def _capture(self, payment: Payment, wish: CaptureWish, news: messages.Message) -> None:
        """Capture automatically; ``news`` of the payment leave before, after or at once."""
        now = self._timeline.now()
        capture = self._captures.begin(payment, payment.amount)
        code = wish.result_code or self._options.capture_result_code
        result = CAPTURE_FAILURES.get(code, results.CAPTURED)
        if wish.result_code is None:
            result = CAPTURES_THAT_FAIL.get(payment.amount.value, result)
        delay = self._options.capture_delay_seconds
        if wish.delay_seconds is not None:
            delay = wish.delay_seconds
        later = now + timedelta(seconds=delay)
        match wish.order or self._options.capture_order:
            case CaptureOrder.PAYMENT_FIRST:
                self._courier.send(payment, news)
                self._timeline.at(later, lambda: self._captures.finish(payment, capture, result))
            case CaptureOrder.CAPTURE_FIRST:
                self._captures.finish(payment, capture, result)
                self._timeline.at(later, lambda: self._courier.send(payment, news))
            case CaptureOrder.SAME_INSTANT:
                self._courier.send(payment, news)
                self._captures.finish(payment, capture, result)


def _refuse_late(payment: Payment, action: BuyerAction, now: datetime) -> None:
    """Refuse what the payment's state does not allow any more."""
    if payment.status and payment.status.is_final:
        raise NotPossible("PAYMENT_FINISHED", f"the payment has ended with {payment.status}")
    if payment.status is None and payment.live_session(now) is None:
        raise NotPossible("SESSION_EXPIRED", "the payment's session has expired")
    if payment.status is PaymentStatus.PENDING and action.action in {Step.PENDING, Step.ABANDON}:
        raise NotPossible("PAYMENT_PENDING", "the buyer has paid: approve or decline decides")


def _method_of(payment: Payment, action: BuyerAction) -> str:
    """The method that the session names, or the one that the buyer chooses."""
    named = payment.request.payment_method_type
    if named and action.payment_method_type not in {None, named}:
        raise NotPossible("WRONG_METHOD", f"the session is for {named}")
    return named or action.payment_method_type or payment.payment_method_type or "CARD"


def _card_of(payment: Payment, action: BuyerAction) -> Card:
    if action.card is None:
        return payment.card or DEFAULT_CARD
    card = SANDBOX_CARDS.get(action.card.replace(" ", ""))
    if card is None:
        known = ", ".join(card.masked for card in SANDBOX_CARDS.values())
        raise NotPossible("UNKNOWN_CARD", f"the sandbox's cards are {known} (antom-api 9.3)")
    return card


def _refuse_idle_words(payment: Payment, action: BuyerAction, method: str) -> None:
    """Refuse words that would have no effect: they would hide a mistake in a test."""
    if action.card is not None and method != "CARD":
        raise NotPossible("CARD_NOT_USED", f"a buyer who pays with {method} has no card")
    if action.result_code is not None and action.action is not Step.DECLINE:
        raise NotPossible("RESULT_CODE_NOT_USED", "resultCode belongs to decline")
    captures = action.action is Step.APPROVE and _is_captured_by_antom(payment, method)
    if action.capture is not None and not captures:
        raise NotPossible("CAPTURE_NOT_USED", "no automatic capture follows")


def _is_captured_by_antom(payment: Payment, method: str) -> bool:
    request = payment.request
    return method == "CARD" and request.authorises and request.captures_itself
