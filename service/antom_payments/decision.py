"""Decisions: what a fact does to a payment. Pure.

`decide` turns a payment and a fact into the payment after it and exactly one event. The store runs
it under the payment's row lock, so that everything here is a function of its arguments.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import (
    Capture,
    CaptureState,
    Decision,
    EventType,
    Payment,
    PaymentState,
    Source,
    step,
)

_CAPTURE_STATES = {
    Outcome.SUCCEEDED: CaptureState.SUCCEEDED,
    Outcome.FAILED: CaptureState.FAILED,
}
"""Where a capture is over; anything else told of it is under way."""


def decide(payment: Payment, fact: Fact, now: datetime) -> Decision:
    """What ``fact`` does to ``payment``: exactly one event, whatever it says.

    Amounts are compared first, value and currency: a fact about another amount concludes nothing,
    whatever told it. A step that the table does not allow concludes nothing either, unless a signed
    inquiry tells it; both want an inquiry.
    """
    if payment.payment_id and fact.payment_id and fact.payment_id != payment.payment_id:
        return contradicted(payment, now)
    told = replace(payment, version=payment.version + 1, update_time=now)
    if _is_about_another_amount(payment, fact):
        return _inconclusive(told, EventType.AMOUNT_MISMATCH, reported=fact.amount)
    known = _with_knowledge(told, fact)
    news = _news(known, fact)
    after = step(payment.state, news)
    if after is None or _contradicts(payment, fact, news, now):
        if _may_overrule(fact, after):
            return _corrected(told, known, fact, news, after)
        # "No such order" told late is no news of an open payment: it would never end the wish.
        is_late = fact.outcome is Outcome.EXPIRED and payment.state.is_open
        wanted = payment.inquiry_wanted or not is_late
        return _inconclusive(told, EventType.CONTRADICTION, wanted=wanted)
    if fact.kind is FactKind.CAPTURE:
        changed = _with_capture(known, fact, after)
        if changed.taken_minor_units > payment.amount.minor_units:
            return _inconclusive(told, EventType.AMOUNT_MISMATCH, reported=fact.amount)
    else:
        changed = _with_payment_result(known, fact, news, after)
    in_doubt = _is_in_doubt(fact, news)
    changed = replace(changed, inquiry_wanted=in_doubt or _wants_inquiry(changed, fact))
    return Decision(changed, news, state_before=payment.state, is_conclusive=not in_doubt)


def contradicted(payment: Payment, now: datetime) -> Decision:
    """News that cannot be about ``payment``: told, and nothing concluded from it."""
    told = replace(payment, version=payment.version + 1, update_time=now)
    return _inconclusive(told, EventType.CONTRADICTION)


def may_have_lapsed(payment: Payment, payment_id: str, now: datetime) -> bool:
    """Whether ``payment`` can have lapsed unpaid, by an answer that names ``payment_id``.

    Not while a session may live or news is open, nor once a capture was told; and an order that
    does not exist (no `payment_id`) is not the one that Antom named before. Looked at when the
    answer is judged and again under the payment's lock, where other news may have come first.
    """
    is_another = payment.payment_id is not None and not payment_id
    is_payable = payment.session_end > now
    has_news = payment.inquiry_wanted or bool(payment.captures)
    return payment.state.is_open and not (is_another or is_payable or has_news)


def shows_only_held(payment: Payment, fact: Fact) -> bool:
    """Whether money counted as taken was only held: evidence of a capture that nobody expected."""
    if payment.state is not PaymentState.SUCCEEDED or payment.capture_expected:
        return False
    taken = payment.taken_minor_units
    if fact.kind is FactKind.CAPTURE:
        if fact.outcome is Outcome.SUCCEEDED and fact.amount:
            taken += fact.amount.minor_units
    elif fact.outcome is not Outcome.SUCCEEDED or not fact.capture_expected:
        return False
    return taken < payment.amount.minor_units


def _may_overrule(fact: Fact, after: PaymentState | None) -> bool:
    """Whether a fact that contradicts the payment has the last word: a signed inquiry's has.

    EXPIRED never: it is our conclusion, and news overtook it. What became of the payment, an
    answer's payment fact tells, never its captures: Antom lists the capture of a payment that was
    cancelled after, too.
    """
    if fact.source is not Source.INQUIRY or fact.outcome is Outcome.EXPIRED:
        return False
    return fact.kind is FactKind.PAYMENT or after is not None


def _contradicts(payment: Payment, fact: Fact, news: EventType, now: datetime) -> bool:
    """Whether news of a legal step cannot be true all the same, given what else is known."""
    if shows_only_held(payment, fact):
        return True
    if fact.kind is FactKind.CAPTURE:
        return _contradicts_capture(payment, fact)
    state = payment.state
    match fact.outcome:
        case Outcome.SUCCEEDED:
            # That a late success does not revive a cancelled payment is about notifications
            # (antom-api 4.1): an inquiry would still say CANCELLED.
            is_revived = state is PaymentState.CANCELLED and fact.source is Source.INQUIRY
            return is_revived or (state is PaymentState.FAILED and _is_in_doubt(fact, news))
        case Outcome.FAILED:
            return state.is_open and payment.taken_minor_units > 0
        case Outcome.EXPIRED:
            # By Antom's clock where it is behind ours: ours may be ahead.
            told = min(now, fact.antom_time or now)
            return state.is_open and not may_have_lapsed(payment, fact.payment_id, told)
        case _:
            return False


def _contradicts_capture(payment: Payment, fact: Fact) -> bool:
    """Whether a capture that is over is now said to have ended otherwise."""
    if fact.outcome is Outcome.PROCESSING:
        return False
    ended = _CAPTURE_STATES[fact.outcome]
    return any(
        capture.state is not ended or (fact.amount is not None and fact.amount != capture.amount)
        for capture in payment.captures
        if capture.capture_id == fact.fact_id and capture.state is not CaptureState.PROCESSING
    )


def _is_in_doubt(fact: Fact, news: EventType) -> bool:
    """Whether nobody knows yet if a success is money held or money taken."""
    return fact.outcome is Outcome.SUCCEEDED and news is EventType.PAYMENT_PENDING


def _wants_inquiry(payment: Payment, fact: Fact) -> bool:
    """Whether an inquiry is wanted after ``fact``: only Antom's final word ends the wish.

    An answer's captures leave it alone, and one that calls open what is known to be over is late,
    or we are wrong: it is asked again.
    """
    if fact.source is not Source.INQUIRY or fact.kind is FactKind.CAPTURE:
        return payment.inquiry_wanted
    if fact.outcome in {Outcome.PROCESSING, Outcome.PENDING}:
        return payment.inquiry_wanted or not payment.state.is_open
    return False


def _corrected(
    told: Payment, known: Payment, fact: Fact, news: EventType, after: PaymentState | None
) -> Decision:
    """What a signed inquiry makes of a payment whose state it contradicts: what Antom says.

    An event of its own type, so that nobody takes it for an ordinary step (design 7).
    """
    if fact.kind is FactKind.CAPTURE:
        changed = _with_corrected_capture(known, fact, after or known.state)
        if changed.taken_minor_units > known.amount.minor_units:
            return _inconclusive(told, EventType.AMOUNT_MISMATCH, reported=fact.amount)
    else:
        taken = known.taken_minor_units
        whole = known.amount.minor_units
        paid = PaymentState.SUCCEEDED if taken >= whole else PaymentState.AUTHORIZED
        ended = {
            EventType.PAYMENT_AUTHORIZED: paid,
            EventType.PAYMENT_SUCCEEDED: PaymentState.SUCCEEDED,
            EventType.PAYMENT_FAILED: PaymentState.FAILED,
            EventType.PAYMENT_CANCELLED: PaymentState.CANCELLED,
        }.get(news, PaymentState.PROCESSING)
        changed = replace(
            known,
            state=ended,
            authorized_minor_units=whole if news is EventType.PAYMENT_AUTHORIZED else taken,
            captured_minor_units=whole if news is EventType.PAYMENT_SUCCEEDED else taken,
            result_code=fact.result_code,
        )
    return Decision(
        payment=replace(changed, inquiry_wanted=_wants_inquiry(changed, fact)),
        type=EventType.PAYMENT_CORRECTED,
        state_before=known.state,
    )


def _with_corrected_capture(payment: Payment, fact: Fact, after: PaymentState) -> Payment:
    """The payment with what is known of the fact's capture replaced, and the money it took."""
    rest = tuple(c for c in payment.captures if c.capture_id != fact.fact_id)
    without = replace(payment, captures=rest)
    taken = without.taken_minor_units
    held = taken if payment.state.is_open else payment.authorized_minor_units
    without = replace(without, captured_minor_units=taken, authorized_minor_units=held)
    changed = _with_capture(without, fact, after)
    whole = payment.amount.minor_units
    if changed.state is PaymentState.SUCCEEDED and changed.taken_minor_units < whole:
        return replace(changed, state=PaymentState.AUTHORIZED, authorized_minor_units=whole)
    return changed


def _inconclusive(
    told: Payment, news: EventType, *, reported: Money | None = None, wanted: bool = True
) -> Decision:
    """News that is told and changes nothing but that Antom must be asked."""
    return Decision(
        payment=replace(told, inquiry_wanted=wanted),
        type=news,
        state_before=told.state,
        reported_amount=reported,
        is_conclusive=False,
    )


def _is_about_another_amount(payment: Payment, fact: Fact) -> bool:
    """Whether the fact names another amount. A capture may be partial, never more."""
    if fact.amount is None:
        # Only a failure may come without an amount: money that moved must be named.
        return fact.outcome is Outcome.SUCCEEDED
    if fact.kind is FactKind.PAYMENT:
        return fact.amount != payment.amount
    return (
        fact.amount.currency_code != payment.amount.currency_code
        or not 0 < fact.amount.minor_units <= payment.amount.minor_units
    )


def _with_knowledge(payment: Payment, fact: Fact) -> Payment:
    """The payment with what the fact tells beside its outcome."""
    # Evidence of a capture wins over what the request said: authorised is not paid.
    expected = payment.capture_expected
    succeeded = fact.kind is FactKind.PAYMENT and fact.outcome is Outcome.SUCCEEDED
    if fact.kind is FactKind.CAPTURE or fact.capture_expected:
        expected = True
    elif expected is None:
        # An inquiry after the success would show a capture that is to come.
        answers = succeeded and fact.source is Source.INQUIRY
        expected = False if answers else fact.capture_expected
    # Windows to cancel and refund start at the success, not at a failure that was told before.
    times = (fact.payment_time, payment.payment_time)
    return replace(
        payment,
        payment_id=payment.payment_id or fact.payment_id or None,
        payment_create_time=payment.payment_create_time or fact.payment_create_time,
        payment_time=(times[0] or times[1]) if succeeded else (times[1] or times[0]),
        auth_expiry_time=fact.auth_expiry_time or payment.auth_expiry_time,
        capture_expected=expected,
    )


def _news(payment: Payment, fact: Fact) -> EventType:
    """The event that a fact is, given whether a capture is expected."""
    if fact.kind is FactKind.CAPTURE:
        return {
            Outcome.SUCCEEDED: EventType.CAPTURE_SUCCEEDED,
            Outcome.FAILED: EventType.CAPTURE_FAILED,
        }.get(fact.outcome, EventType.CAPTURE_PROCESSING)
    if fact.outcome is Outcome.SUCCEEDED:
        if payment.capture_expected is None:
            # Authorised or paid? Only an inquiry tells; until then it is neither.
            return EventType.PAYMENT_PENDING
        return (
            EventType.PAYMENT_AUTHORIZED
            if payment.capture_expected
            else EventType.PAYMENT_SUCCEEDED
        )
    return {
        Outcome.PROCESSING: EventType.PAYMENT_PROCESSING,
        Outcome.PENDING: EventType.PAYMENT_PENDING,
        Outcome.FAILED: EventType.PAYMENT_FAILED,
        Outcome.CANCELLED: EventType.PAYMENT_CANCELLED,
        Outcome.EXPIRED: EventType.PAYMENT_EXPIRED,
    }[fact.outcome]


def _with_payment_result(
    payment: Payment, fact: Fact, news: EventType, after: PaymentState
) -> Payment:
    """The payment after a payment fact, with its amounts."""
    whole = payment.amount.minor_units
    held = news is EventType.PAYMENT_AUTHORIZED and after is not PaymentState.CANCELLED
    taken = news is EventType.PAYMENT_SUCCEEDED and after is PaymentState.SUCCEEDED
    # Late news does not overwrite the code of what was concluded.
    moved = after is not payment.state
    return replace(
        payment,
        state=after,
        authorized_minor_units=whole if held else payment.authorized_minor_units,
        captured_minor_units=whole if taken else payment.captured_minor_units,
        result_code=fact.result_code if held or taken or moved else payment.result_code,
    )


def _with_capture(payment: Payment, fact: Fact, after: PaymentState) -> Payment:
    """The payment after a capture fact: SUCCEEDED once the captures make up the amount."""
    captures = {capture.capture_id: capture for capture in payment.captures}
    known = captures.get(fact.fact_id)
    if known is None or known.state is CaptureState.PROCESSING:
        captures[fact.fact_id] = Capture(
            capture_id=fact.fact_id,
            capture_request_id=fact.request_id,
            state=_CAPTURE_STATES.get(fact.outcome, CaptureState.PROCESSING),
            amount=fact.amount or payment.amount,
            result_code=fact.result_code,
            capture_time=fact.antom_time,
        )
    changed = replace(payment, captures=tuple(captures.values()))
    taken = changed.taken_minor_units
    acted = PaymentState.PROCESSING if payment.state.is_open else payment.state
    return replace(
        changed,
        state=after if taken >= payment.amount.minor_units else acted,
        # What was taken was held before, and what is known to be taken stays so: the news of
        # captures and of the payment may come in any order.
        authorized_minor_units=max(payment.authorized_minor_units, taken),
        captured_minor_units=max(payment.captured_minor_units, taken),
    )
