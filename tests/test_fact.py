"""Facts: what news does to a payment, its state and its amounts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

import pytest

from antom_payments.decision import contradicted, decide, shows_only_held
from antom_payments.fact import OUTSIDE_WINDOW, Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import (
    Capture,
    CaptureState,
    EventType,
    PaymentState,
    Source,
    step,
)
from facts import (
    LATER,
    NOW,
    WHOLE,
    a_capture,
    a_notification,
    a_payment,
    a_payment_fact,
    the_news,
    told,
)

FACT_NEWS = {
    EventType.PAYMENT_PROCESSING: Outcome.PROCESSING,
    EventType.PAYMENT_PENDING: Outcome.PENDING,
    EventType.PAYMENT_AUTHORIZED: Outcome.SUCCEEDED,
    EventType.PAYMENT_SUCCEEDED: Outcome.SUCCEEDED,
    EventType.PAYMENT_FAILED: Outcome.FAILED,
    EventType.PAYMENT_CANCELLED: Outcome.CANCELLED,
    EventType.PAYMENT_EXPIRED: Outcome.EXPIRED,
    EventType.CAPTURE_SUCCEEDED: Outcome.SUCCEEDED,
    EventType.CAPTURE_FAILED: Outcome.FAILED,
    EventType.CAPTURE_PROCESSING: Outcome.PROCESSING,
}


def a_fact_that_is(news: EventType) -> tuple[Fact, bool]:
    """A fact that makes this news, and whether a capture must be expected for it."""
    outcome = FACT_NEWS[news]
    fact = a_capture(outcome) if news.name.startswith("CAPTURE") else a_payment_fact(outcome)
    return fact, news is not EventType.PAYMENT_SUCCEEDED


# What the news means


@pytest.mark.parametrize(
    "names", [PaymentState, CaptureState, Source, EventType, FactKind, Outcome]
)
def test_names_are_stored_as_they_are_written(names: type[StrEnum]) -> None:
    assert [name.value for name in names] == [name.name for name in names]


def test_a_success_is_an_authorisation_when_a_capture_is_expected() -> None:
    payment = told(a_payment(), a_payment_fact())
    assert payment.state is PaymentState.AUTHORIZED
    assert (payment.authorized_minor_units, payment.captured_minor_units) == (100, 0)


def test_a_success_is_money_taken_when_no_capture_is_expected() -> None:
    payment = told(a_payment(capture_expected=False), a_payment_fact())
    assert payment.state is PaymentState.SUCCEEDED
    assert (payment.authorized_minor_units, payment.captured_minor_units) == (0, 100)


def test_a_success_is_neither_while_it_is_unknown_whether_a_capture_is_expected() -> None:
    decision = decide(a_payment(capture_expected=None), a_payment_fact(), LATER)
    payment = decision.payment
    assert payment.state is PaymentState.PROCESSING
    assert (payment.authorized_minor_units, payment.captured_minor_units) == (0, 0)
    assert payment.inquiry_wanted
    assert not decision.is_conclusive


def test_news_that_shows_a_capture_settles_that_one_is_expected() -> None:
    payment = told(a_payment(capture_expected=None), a_payment_fact(capture_expected=True))
    assert payment.state is PaymentState.AUTHORIZED
    assert payment.capture_expected is True


def test_a_capture_itself_settles_that_one_is_expected() -> None:
    payment = told(a_payment(capture_expected=None), a_capture(Outcome.PROCESSING))
    assert payment.capture_expected is True


def test_the_request_is_believed_before_the_news_about_an_expected_capture() -> None:
    payment = told(a_payment(capture_expected=True), a_payment_fact(capture_expected=False))
    assert payment.state is PaymentState.AUTHORIZED


def test_a_capture_of_the_whole_amount_takes_the_money() -> None:
    payment = told(a_payment(), a_payment_fact(), a_capture(antom_time=NOW, result_code="SUCCESS"))
    assert payment.state is PaymentState.SUCCEEDED
    assert payment.captured_minor_units == 100
    assert payment.captures == (
        Capture("C-1", "request-of-C-1", CaptureState.SUCCEEDED, WHOLE, "SUCCESS", NOW),
    )


def test_a_capture_may_outrun_its_payment() -> None:
    payment = told(a_payment(), a_capture())
    assert payment.state is PaymentState.SUCCEEDED
    assert the_news(payment, a_payment_fact()) == [EventType.PAYMENT_AUTHORIZED]
    assert told(payment, a_payment_fact()).state is PaymentState.SUCCEEDED


def test_partial_captures_take_the_money_once_they_make_up_the_amount() -> None:
    payment = told(a_payment(), a_payment_fact(), a_capture(amount=Money("EUR", 60)))
    assert (payment.state, payment.captured_minor_units) == (PaymentState.AUTHORIZED, 60)
    payment = told(payment, a_capture(capture_id="C-2", amount=Money("EUR", 40)))
    assert (payment.state, payment.captured_minor_units) == (PaymentState.SUCCEEDED, 100)


def test_captures_of_more_than_the_amount_are_a_mismatch() -> None:
    payment = told(a_payment(), a_payment_fact(), a_capture(amount=Money("EUR", 60)))
    decision = decide(payment, a_capture(capture_id="C-2", amount=Money("EUR", 41)), LATER)
    assert decision.type is EventType.AMOUNT_MISMATCH
    assert decision.reported_amount == Money("EUR", 41)
    assert decision.payment.captured_minor_units == 60
    assert decision.payment.state is PaymentState.AUTHORIZED


def test_a_failed_capture_leaves_the_authorisation() -> None:
    payment = told(a_payment(), a_payment_fact(), a_capture(Outcome.FAILED, amount=None))
    assert payment.state is PaymentState.AUTHORIZED
    assert payment.captures[0].state is CaptureState.FAILED
    assert told(payment, a_capture(capture_id="C-2")).state is PaymentState.SUCCEEDED


def test_a_capture_that_ended_cannot_end_otherwise() -> None:
    for first, second in (
        (Outcome.SUCCEEDED, Outcome.FAILED),
        (Outcome.FAILED, Outcome.SUCCEEDED),
    ):
        payment = told(a_payment(), a_payment_fact(), a_capture(first))
        decision = decide(payment, a_capture(second), LATER)
        assert decision.type is EventType.CONTRADICTION
        assert decision.payment.captures == payment.captures
        assert decision.payment.captured_minor_units == payment.captured_minor_units


def test_a_capture_that_ended_stays_ended_when_it_is_said_to_be_under_way() -> None:
    payment = told(a_payment(), a_payment_fact(), a_capture())
    assert told(payment, a_capture(Outcome.PROCESSING)).captures == payment.captures


def test_a_late_success_does_not_revive_a_cancelled_payment() -> None:
    cancelled = a_payment(PaymentState.CANCELLED)
    for expected in (True, False, None):
        payment = told(replace(cancelled, capture_expected=expected), a_payment_fact())
        assert payment.state is PaymentState.CANCELLED
        assert (payment.authorized_minor_units, payment.captured_minor_units) == (0, 0)


def test_a_taken_payment_can_still_be_cancelled() -> None:
    for state in (PaymentState.AUTHORIZED, PaymentState.SUCCEEDED):
        assert told(a_payment(state), a_payment_fact(Outcome.CANCELLED)).state is (
            PaymentState.CANCELLED
        )


def test_a_capture_of_a_cancelled_payment_is_a_contradiction() -> None:
    decision = decide(a_payment(PaymentState.CANCELLED), a_capture(), LATER)
    assert decision.type is EventType.CONTRADICTION
    assert decision.payment.captured_minor_units == 0


def test_a_failure_after_the_money_was_taken_concludes_nothing() -> None:
    for state in (PaymentState.AUTHORIZED, PaymentState.SUCCEEDED):
        decision = decide(a_payment(state), a_payment_fact(Outcome.FAILED), LATER)
        assert decision.type is EventType.CONTRADICTION
        assert not decision.is_conclusive
        assert decision.payment.state is state
        assert decision.payment.inquiry_wanted


def test_a_fact_about_another_payment_id_concludes_nothing() -> None:
    payment = a_payment(payment_id="P-1")
    decision = decide(payment, a_payment_fact(payment_id="P-2", fact_id="P-2"), LATER)
    assert decision == contradicted(payment, LATER)
    assert (decision.payment.version, decision.payment.update_time) == (2, LATER)
    assert decision.type is EventType.CONTRADICTION
    assert decision.payment.payment_id == "P-1"
    assert decision.payment.state is PaymentState.AWAITING_BUYER


def test_the_first_news_gives_the_payment_its_antom_id_and_times() -> None:
    fact = a_payment_fact(
        payment_create_time=NOW,
        payment_time=LATER,
        auth_expiry_time=LATER + timedelta(days=7),
    )
    payment = told(a_payment(), fact)
    assert payment.payment_id == "P-1"
    assert (payment.payment_create_time, payment.payment_time) == (NOW, LATER)
    assert payment.auth_expiry_time == LATER + timedelta(days=7)


def test_news_without_antoms_payment_id_is_applied_and_gives_none() -> None:
    over = a_payment(payment_session_expiry_time=NOW)
    payment = told(over, a_payment_fact(Outcome.EXPIRED, payment_id="", amount=None))
    assert payment.state is PaymentState.EXPIRED
    assert payment.payment_id is None


def test_a_payment_that_antom_named_lapses_by_an_answer_that_names_it() -> None:
    named = a_payment(payment_id="P-1", payment_session_expiry_time=NOW)
    assert told(named, a_payment_fact(Outcome.EXPIRED)).state is PaymentState.EXPIRED
    without_id = a_payment_fact(Outcome.EXPIRED, payment_id="", fact_id="order-1-attempt-1")
    assert told(named, without_id).state is PaymentState.AWAITING_BUYER


def test_late_news_does_not_overwrite_antoms_last_word() -> None:
    for final in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED):
        payment = told(a_payment(), a_payment_fact(final))
        for late in (Outcome.PROCESSING, Outcome.PENDING):
            assert told(payment, a_payment_fact(late)).result_code == payment.result_code


# Paid, or only held


def test_evidence_of_a_capture_wins_over_a_request_that_expected_none() -> None:
    payment = a_payment(capture_expected=False)
    for source in (Source.NOTIFICATION, Source.INQUIRY):
        fact = a_payment_fact(capture_expected=True, source=source)
        assert the_news(payment, fact) == [EventType.PAYMENT_AUTHORIZED]
        held = told(payment, fact)
        assert held.state is PaymentState.AUTHORIZED
        assert held.capture_expected is True
        assert (held.authorized_minor_units, held.captured_minor_units) == (100, 0)


def test_an_inquiry_that_shows_money_was_only_held_corrects_what_counted_as_paid() -> None:
    paid = told(a_payment(capture_expected=False), a_payment_fact())
    decision = decide(paid, a_payment_fact(capture_expected=True, source=Source.INQUIRY), LATER)
    assert decision.type is EventType.PAYMENT_CORRECTED
    assert decision.state_before is PaymentState.SUCCEEDED
    assert decision.is_conclusive
    held = decision.payment
    assert held.state is PaymentState.AUTHORIZED
    assert (held.authorized_minor_units, held.captured_minor_units) == (100, 0)
    assert told(held, a_capture()).state is PaymentState.SUCCEEDED


def test_a_notification_that_shows_money_was_only_held_is_a_contradiction() -> None:
    paid = told(a_payment(capture_expected=False), a_payment_fact())
    decision = decide(paid, a_payment_fact(capture_expected=True), LATER)
    assert decision.type is EventType.CONTRADICTION
    assert decision.payment.state is PaymentState.SUCCEEDED
    assert decision.payment.inquiry_wanted


def test_a_failed_capture_of_what_counted_as_paid_is_a_contradiction_until_an_inquiry() -> None:
    paid = told(a_payment(capture_expected=False), a_payment_fact())
    notified = decide(paid, a_capture(Outcome.FAILED), LATER)
    assert notified.type is EventType.CONTRADICTION
    assert notified.payment.state is PaymentState.SUCCEEDED
    inquired = decide(paid, a_capture(Outcome.FAILED, source=Source.INQUIRY), LATER)
    assert inquired.type is EventType.PAYMENT_CORRECTED
    held = inquired.payment
    assert held.state is PaymentState.AUTHORIZED
    assert (held.authorized_minor_units, held.captured_minor_units) == (100, 0)
    assert [capture.state for capture in held.captures] == [CaptureState.FAILED]


def test_money_was_taken_when_captures_known_and_told_make_up_the_amount() -> None:
    part = Capture("C-1", "", CaptureState.SUCCEEDED, Money("EUR", 60))
    paid = a_payment(PaymentState.SUCCEEDED, capture_expected=False, captures=(part,))
    for units, is_only_held in ((39, True), (40, False)):
        fact = a_capture(capture_id="C-2", amount=Money("EUR", units))
        assert shows_only_held(paid, fact) is is_only_held


def test_an_inquiry_corrects_how_a_capture_ended() -> None:
    inquiry = {"source": Source.INQUIRY}
    captured = told(a_payment(), a_payment_fact(), a_capture())
    decision = decide(captured, a_capture(Outcome.FAILED, **inquiry), LATER)
    assert decision.type is EventType.PAYMENT_CORRECTED
    assert decision.payment.state is PaymentState.AUTHORIZED
    assert decision.payment.captured_minor_units == 0
    decision = decide(decision.payment, a_capture(**inquiry), LATER)
    assert decision.type is EventType.PAYMENT_CORRECTED
    assert decision.payment.state is PaymentState.SUCCEEDED
    assert decision.payment.captured_minor_units == 100


def test_a_corrected_capture_of_more_than_is_left_is_a_mismatch() -> None:
    payment = told(
        a_payment(),
        a_payment_fact(),
        a_capture(Outcome.FAILED, amount=Money("EUR", 60)),
        a_capture(capture_id="C-2", amount=Money("EUR", 60)),
    )
    fact = a_capture(amount=Money("EUR", 60), source=Source.INQUIRY)
    decision = decide(payment, fact, LATER)
    assert decision.type is EventType.AMOUNT_MISMATCH
    assert decision.reported_amount == Money("EUR", 60)
    assert decision.payment.captured_minor_units == 60


def test_a_captured_payment_that_is_not_cancelled_after_all_is_paid_again() -> None:
    captured = told(a_payment(), a_payment_fact(), a_capture())
    cancelled = told(captured, a_payment_fact(Outcome.CANCELLED, source=Source.INQUIRY))
    assert cancelled.state is PaymentState.CANCELLED
    decision = decide(cancelled, a_payment_fact(source=Source.INQUIRY), LATER)
    assert decision.type is EventType.PAYMENT_CORRECTED
    assert decision.payment.state is PaymentState.SUCCEEDED
    assert decision.payment.captured_minor_units == 100


@pytest.mark.parametrize("state", [PaymentState.FAILED, PaymentState.CANCELLED])
@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.PROCESSING])
def test_a_capture_in_an_inquiry_does_not_revive_a_payment_that_is_over(
    state: PaymentState, outcome: Outcome
) -> None:
    decision = decide(a_payment(state), a_capture(outcome, source=Source.INQUIRY), LATER)
    assert decision.payment.state is state
    assert decision.type is not EventType.PAYMENT_CORRECTED


@pytest.mark.parametrize("before", [PaymentState.FAILED, PaymentState.EXPIRED])
def test_an_inquiry_overrules_a_state_that_it_contradicts(before: PaymentState) -> None:
    expected = {
        Outcome.SUCCEEDED: PaymentState.AUTHORIZED,
        Outcome.CANCELLED: PaymentState.CANCELLED,
    }
    for outcome, after in expected.items():
        payment = a_payment(before, inquiry_wanted=True)
        decision = decide(payment, a_payment_fact(outcome, source=Source.INQUIRY), LATER)
        assert decision.type is EventType.PAYMENT_CORRECTED
        assert decision.payment.state is after
        assert not decision.payment.inquiry_wanted
        assert decision.is_conclusive


# Every step


@pytest.mark.parametrize("state", list(PaymentState))
@pytest.mark.parametrize("news", list(FACT_NEWS))
def test_every_step_of_the_table_is_walked_and_every_other_is_refused(
    news: EventType, state: PaymentState
) -> None:
    fact, expected = a_fact_that_is(news)
    payment = a_payment(
        state, capture_expected=expected, payment_session_expiry_time=NOW + timedelta(minutes=1)
    )
    decision = decide(payment, fact, LATER)
    after = step(state, news)
    assert decision.state_before is state
    if after is None:
        assert decision.type is EventType.CONTRADICTION
        assert decision.payment == replace(
            payment, version=2, update_time=LATER, inquiry_wanted=True
        )
    else:
        assert decision.type is news
        assert decision.payment.state is after
        assert not decision.payment.inquiry_wanted
        assert decision.is_conclusive


# Amounts


@pytest.mark.parametrize(
    "fact",
    [
        a_payment_fact(amount=Money("EUR", 99)),
        a_payment_fact(amount=Money("EUR", 101)),
        a_payment_fact(amount=Money("USD", 100)),
        a_payment_fact(amount=None),
        a_payment_fact(Outcome.PROCESSING, amount=Money("EUR", 1)),
        a_capture(amount=Money("USD", 100)),
        a_capture(amount=Money("EUR", 101)),
        a_capture(amount=Money("EUR", 0)),
        a_capture(amount=None),
    ],
    ids=lambda fact: f"{fact.kind} {fact.outcome} {fact.amount}",
)
def test_another_amount_or_currency_concludes_nothing_in_any_state(fact: Fact) -> None:
    for state, expected in itertools.product(PaymentState, (True, False, None)):
        payment = a_payment(state, capture_expected=expected)
        decision = decide(payment, fact, LATER)
        assert decision.type is EventType.AMOUNT_MISMATCH
        assert decision.reported_amount == fact.amount
        assert not decision.is_conclusive
        assert decision.payment == replace(
            payment, version=2, update_time=LATER, inquiry_wanted=True
        )


def test_what_news_does_not_say_is_not_known() -> None:
    fact = Fact(
        merchant_account="default",
        kind=FactKind.PAYMENT,
        outcome=Outcome.PENDING,
        payment_id="P-1",
        fact_id="P-1",
        source=Source.NOTIFICATION,
        amount=None,
    )
    assert (fact.request_id, fact.result_code) == ("", "")
    assert fact.payment_request_id is None
    assert fact.capture_expected is None
    assert (fact.antom_time, fact.payment_create_time) == (None, None)
    assert (fact.payment_time, fact.auth_expiry_time) == (None, None)


def test_why_news_is_held_back_is_stored_by_this_name() -> None:
    assert OUTSIDE_WINDOW == "outside_window"


def test_a_fact_is_the_same_whatever_told_it() -> None:
    identities = {
        a_payment_fact(source=source, amount=amount).identity
        for source in Source
        for amount in (WHOLE, None)
    }
    assert identities == {("default", FactKind.PAYMENT, "P-1", Outcome.SUCCEEDED)}


def test_a_notification_does_not_show_its_body() -> None:
    shown = repr(a_notification(b'{"email":"ada@example.com"}'))
    assert "ada" not in shown
    assert "request_time=" in shown
