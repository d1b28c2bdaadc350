"""News that cannot be true beside what is known, and what a signed inquiry makes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from antom_payments.decision import decide
from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import CaptureState, Decision, EventType, Payment, PaymentState, Source
from facts import LATER, NOW, OPEN, WHOLE, a_capture, a_payment, a_payment_fact, told

CORRECTED, CONTRADICTION = EventType.PAYMENT_CORRECTED, EventType.CONTRADICTION
PART = Money("EUR", 60)


def inquired(outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> Fact:
    return a_payment_fact(outcome, source=Source.INQUIRY, **more)


def listed(outcome: Outcome = Outcome.SUCCEEDED, capture_id: str = "C-1", **more: Any) -> Fact:
    """A capture as an inquiry's answer lists it."""
    return a_capture(outcome, capture_id, source=Source.INQUIRY, **more)


def after(payment: Payment, fact: Fact) -> Decision:
    return decide(payment, fact, LATER)


def held(**more: Any) -> Payment:
    return told(a_payment(**more), a_payment_fact())


def paid() -> Payment:
    """Money taken at once, as far as the request and the news say."""
    return told(a_payment(capture_expected=False), a_payment_fact())


# Captures prove that the buyer acted


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PROCESSING, Outcome.SUCCEEDED])
@pytest.mark.parametrize("state", sorted(OPEN))
def test_news_of_a_capture_ends_the_wait_for_the_buyer(
    state: PaymentState, outcome: Outcome
) -> None:
    assert told(a_payment(state), a_capture(outcome, amount=PART)).state is PaymentState.PROCESSING


def test_a_failure_after_the_least_amount_was_captured_is_a_contradiction() -> None:
    payment = told(a_payment(), a_capture(amount=Money("EUR", 1)))
    assert after(payment, a_payment_fact(Outcome.FAILED)).type is CONTRADICTION


def test_a_failure_after_a_part_was_captured_is_a_contradiction_until_an_inquiry() -> None:
    payment = told(a_payment(), a_capture(amount=PART))
    notified = after(payment, a_payment_fact(Outcome.FAILED))
    assert (notified.type, notified.payment.state) == (CONTRADICTION, PaymentState.PROCESSING)
    asked = after(notified.payment, inquired(Outcome.FAILED))
    assert (asked.type, asked.payment.state) == (CORRECTED, PaymentState.FAILED)
    assert asked.payment.captured_minor_units == 60
    asked = after(notified.payment, inquired())
    assert asked.type is EventType.PAYMENT_AUTHORIZED
    assert not asked.payment.inquiry_wanted


def test_a_failed_capture_is_told_and_a_later_successful_one_too() -> None:
    payment = held()
    failed = after(payment, a_capture(Outcome.FAILED))
    assert failed.type is EventType.CAPTURE_FAILED
    succeeded = after(failed.payment, a_capture(capture_id="C-2"))
    assert succeeded.type is EventType.CAPTURE_SUCCEEDED
    assert succeeded.payment.state is PaymentState.SUCCEEDED
    assert [capture.state for capture in succeeded.payment.captures] == [
        CaptureState.FAILED,
        CaptureState.SUCCEEDED,
    ]


# Only held, though nobody expected a capture


@pytest.mark.parametrize(
    "evidence",
    [
        a_payment_fact(capture_expected=True),
        a_capture(Outcome.PROCESSING),
        a_capture(Outcome.FAILED),
        a_capture(amount=PART),
    ],
    ids=["authExpiryTime", "capture under way", "capture failed", "part captured"],
)
def test_any_sign_that_paid_money_was_only_held_is_a_contradiction_until_an_inquiry(
    evidence: Fact,
) -> None:
    notified = after(paid(), evidence)
    assert (notified.type, notified.payment.state) == (CONTRADICTION, PaymentState.SUCCEEDED)
    asked = after(notified.payment, replace(evidence, source=Source.INQUIRY))
    assert (asked.type, asked.payment.state) == (CORRECTED, PaymentState.AUTHORIZED)
    assert asked.payment.authorized_minor_units == 100
    assert asked.payment.captured_minor_units == asked.payment.taken_minor_units < 100


def test_a_capture_of_the_whole_confirms_what_counted_as_paid() -> None:
    decision = after(paid(), a_capture())
    assert decision.type is EventType.CAPTURE_SUCCEEDED
    assert (decision.payment.state, decision.payment.captured_minor_units) == (
        PaymentState.SUCCEEDED,
        100,
    )


# Whether a capture is expected


def test_an_inquiry_that_shows_no_capture_to_come_answers_that_none_is_expected() -> None:
    doubtful = told(a_payment(capture_expected=None), a_payment_fact())
    assert (doubtful.state, doubtful.inquiry_wanted) == (PaymentState.PROCESSING, True)
    decision = after(doubtful, inquired())
    assert decision.type is EventType.PAYMENT_SUCCEEDED
    assert decision.is_conclusive
    assert (decision.payment.captured_minor_units, decision.payment.inquiry_wanted) == (100, False)


def test_a_notification_does_not_answer_whether_a_capture_is_expected() -> None:
    payment = told(a_payment(capture_expected=None), a_payment_fact(Outcome.PENDING))
    assert payment.capture_expected is None


def test_a_success_in_doubt_after_a_failure_is_a_contradiction_not_late_news() -> None:
    failed = a_payment(PaymentState.FAILED, capture_expected=None)
    assert after(failed, a_payment_fact()).type is CONTRADICTION
    corrected = after(failed, inquired())
    assert (corrected.type, corrected.payment.state) == (CORRECTED, PaymentState.SUCCEEDED)


# The authority of a signed inquiry, and its limits


def test_a_success_told_by_an_inquiry_revives_what_we_call_cancelled() -> None:
    cancelled = a_payment(PaymentState.CANCELLED)
    late = after(cancelled, a_payment_fact())
    assert (late.type, late.payment.state) == (
        EventType.PAYMENT_AUTHORIZED,
        PaymentState.CANCELLED,
    )
    asked = after(cancelled, inquired())
    assert (asked.type, asked.payment.state) == (CORRECTED, PaymentState.AUTHORIZED)


@pytest.mark.parametrize("outcome", [Outcome.PROCESSING, Outcome.PENDING])
@pytest.mark.parametrize("state", sorted(set(PaymentState) - OPEN - {PaymentState.EXPIRED}))
def test_an_inquiry_that_calls_open_what_is_over_moves_nothing_and_is_asked_again(
    state: PaymentState, outcome: Outcome
) -> None:
    for wanted in (True, False):
        payment = a_payment(state, inquiry_wanted=wanted)
        assert told(payment, inquired(outcome)).state is state
        assert told(payment, inquired(outcome)).inquiry_wanted
        assert told(payment, a_payment_fact(outcome)).inquiry_wanted is wanted


def test_only_antoms_final_word_on_the_payment_ends_the_wish_for_an_inquiry() -> None:
    wishing = replace(held(), inquiry_wanted=True)
    for answer in (inquired(Outcome.PROCESSING), listed(), listed(Outcome.FAILED)):
        assert told(wishing, answer).inquiry_wanted
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED):
        assert not told(wishing, inquired(outcome)).inquiry_wanted
    assert told(wishing, a_payment_fact()).inquiry_wanted


def test_the_captures_of_an_answer_do_not_hush_up_its_wrong_amount() -> None:
    wrong = replace(WHOLE, minor_units=99)
    payment = told(a_payment(), inquired(amount=wrong), listed(amount=wrong))
    assert payment.inquiry_wanted
    assert payment.state is PaymentState.PROCESSING


@pytest.mark.parametrize("amount", [Money("EUR", 99), Money("USD", 100), None])
@pytest.mark.parametrize("state", list(PaymentState))
def test_an_inquiry_is_no_authority_on_our_amount(
    state: PaymentState, amount: Money | None
) -> None:
    decision = after(a_payment(state), inquired(amount=amount))
    assert decision.type is EventType.AMOUNT_MISMATCH
    assert decision.payment.state is state
    assert decision.payment.inquiry_wanted


def test_an_inquiry_about_another_payment_id_has_no_authority_at_all() -> None:
    decision = after(held(), inquired(Outcome.FAILED, payment_id="P-2", fact_id="P-2"))
    assert (decision.type, decision.payment.state) == (CONTRADICTION, PaymentState.AUTHORIZED)
    assert decision.payment.payment_id == "P-1"


def test_an_inquiry_corrects_what_a_capture_took() -> None:
    payment = told(held(), a_capture(amount=PART))
    assert after(payment, a_capture(amount=Money("EUR", 40))).type is CONTRADICTION
    decision = after(payment, listed(amount=Money("EUR", 40)))
    assert decision.type is CORRECTED
    assert (decision.payment.state, decision.payment.captured_minor_units) == (
        PaymentState.AUTHORIZED,
        40,
    )
    whole = after(payment, listed())
    assert (whole.type, whole.payment.state) == (CORRECTED, PaymentState.SUCCEEDED)


def test_a_corrected_capture_of_a_cancelled_payment_does_not_revive_it() -> None:
    payment = told(held(), a_capture(Outcome.FAILED, amount=PART), a_capture(capture_id="C-2"))
    cancelled = told(payment, a_payment_fact(Outcome.CANCELLED))
    decision = after(cancelled, listed(Outcome.FAILED, amount=Money("EUR", 40)))
    assert decision.type is CORRECTED
    assert decision.payment.state is PaymentState.CANCELLED


def test_a_capture_that_an_inquiry_undoes_holds_nothing_of_an_open_payment() -> None:
    payment = told(a_payment(), a_capture(amount=PART))
    assert payment.authorized_minor_units == 60
    undone = told(payment, listed(Outcome.FAILED, amount=PART))
    assert undone.state is PaymentState.PROCESSING
    assert (undone.authorized_minor_units, undone.captured_minor_units) == (0, 0)


def test_a_failure_that_an_inquiry_confirms_takes_the_money_back_out_of_the_payment() -> None:
    for payment in (held(), paid()):
        contradicted = told(payment, a_payment_fact(Outcome.FAILED))
        failed = told(contradicted, inquired(Outcome.FAILED))
        assert failed.state is PaymentState.FAILED
        assert (failed.authorized_minor_units, failed.captured_minor_units) == (0, 0)
        assert failed.result_code == "FAILED"


def test_the_time_of_the_success_is_the_payments_time_also_after_a_failure() -> None:
    failed = told(a_payment(), a_payment_fact(Outcome.FAILED, payment_time=NOW))
    corrected = told(failed, inquired(payment_time=LATER))
    assert corrected.payment_time == LATER
    late = told(corrected, a_payment_fact(Outcome.PENDING, payment_time=NOW - timedelta(hours=1)))
    assert late.payment_time == LATER
