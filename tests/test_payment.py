"""States, facts and amounts: what news does to a payment, whatever the order it comes in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom_payments.fact import Fact, FactKind, Outcome, contradicted, decide
from antom_payments.money import Money
from antom_payments.payment import (
    FINAL_STATES,
    STEPS,
    Capture,
    CaptureState,
    Decision,
    EventType,
    Payment,
    PaymentState,
    Source,
    step,
    with_refusal,
    with_session,
)
from antom_payments.payment_event import EventFilter, PaymentEvent
from facts import LATER, NOW, WHOLE, a_capture, a_payment, a_payment_fact

ABSORBING = frozenset({PaymentState.FAILED, PaymentState.CANCELLED, PaymentState.EXPIRED})
OPEN = frozenset({PaymentState.CREATING, PaymentState.AWAITING_BUYER, PaymentState.PROCESSING})
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


def told(payment: Payment, *facts: Fact) -> Payment:
    for fact in facts:
        payment = decide(payment, fact, LATER).payment
    return payment


def the_news(payment: Payment, *facts: Fact) -> list[EventType]:
    news = []
    for fact in facts:
        decision = decide(payment, fact, LATER)
        payment = decision.payment
        news.append(decision.type)
    return news


def a_fact_that_is(news: EventType) -> tuple[Fact, bool]:
    """A fact that makes this news, and whether a capture must be expected for it."""
    outcome = FACT_NEWS[news]
    fact = a_capture(outcome) if news.name.startswith("CAPTURE") else a_payment_fact(outcome)
    return fact, news is not EventType.PAYMENT_SUCCEEDED


# What the news means


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
    payment = told(a_payment(), a_payment_fact(Outcome.EXPIRED, payment_id="", amount=None))
    assert payment.state is PaymentState.EXPIRED
    assert payment.payment_id is None


def test_late_news_does_not_overwrite_antoms_last_word() -> None:
    for final in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED):
        payment = told(a_payment(), a_payment_fact(final))
        for late in (Outcome.PROCESSING, Outcome.PENDING):
            assert told(payment, a_payment_fact(late)).result_code == payment.result_code


# Sessions


def test_a_confirmed_session_waits_for_the_buyer() -> None:
    decision = with_session(a_payment(PaymentState.CREATING, version=0), LATER, NOW)
    assert decision.type is EventType.SESSION_CREATED
    assert decision.payment.state is PaymentState.AWAITING_BUYER
    assert decision.payment.version == 1
    assert decision.payment.payment_session_expiry_time == LATER


def test_a_second_session_renews_the_first_and_moves_nothing() -> None:
    for state in PaymentState:
        payment = a_payment(state, payment_session_expiry_time=NOW)
        decision = with_session(payment, LATER, NOW)
        assert decision.type is EventType.SESSION_RENEWED
        assert decision.payment.state is (
            PaymentState.AWAITING_BUYER if state is PaymentState.CREATING else state
        )


def test_a_buyer_faster_than_antoms_answer_keeps_what_was_reached() -> None:
    for state in set(PaymentState) - {PaymentState.CREATING}:
        assert with_session(a_payment(state), LATER, NOW).payment.state is state


def test_a_refused_session_fails_the_payment() -> None:
    decision = with_refusal(a_payment(PaymentState.CREATING), "PARAM_ILLEGAL", LATER)
    assert decision is not None
    assert decision.type is EventType.SESSION_REFUSED
    assert decision.payment.state is PaymentState.FAILED
    assert decision.payment.result_code == "PARAM_ILLEGAL"


def test_a_refusal_of_a_resend_does_not_fail_a_payment_that_went_on() -> None:
    for state in set(PaymentState) - {PaymentState.CREATING}:
        assert with_refusal(a_payment(state), "REPEAT_REQ_INCONSISTENT", LATER) is None


# The table


@pytest.mark.parametrize("state", list(PaymentState))
@pytest.mark.parametrize("news", list(FACT_NEWS))
def test_every_step_of_the_table_is_walked_and_every_other_is_refused(
    news: EventType, state: PaymentState
) -> None:
    fact, expected = a_fact_that_is(news)
    payment = a_payment(state, capture_expected=expected)
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


def test_the_table_knows_every_kind_of_news_that_is_not_an_alarm() -> None:
    assert set(STEPS) == set(EventType) - {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}


def test_no_step_leads_out_of_failed_cancelled_or_expired() -> None:
    for news, steps in STEPS.items():
        for before, after in steps.items():
            if before in ABSORBING:
                assert after is before, f"{news} revives {before}"


def test_no_step_leads_back_to_an_open_state() -> None:
    order = list(PaymentState)
    for news, steps in STEPS.items():
        for before, after in steps.items():
            if after in OPEN:
                assert before in OPEN, f"{news} reopens {before}"
                assert order.index(after) >= order.index(before), f"{news} goes back"


def test_only_a_success_or_a_capture_leads_to_money() -> None:
    leads = {
        news
        for news, steps in STEPS.items()
        for before, after in steps.items()
        if after in {PaymentState.AUTHORIZED, PaymentState.SUCCEEDED} and after is not before
    }
    assert leads == {
        EventType.PAYMENT_AUTHORIZED,
        EventType.PAYMENT_SUCCEEDED,
        EventType.CAPTURE_SUCCEEDED,
    }


def test_every_state_but_the_first_is_reached() -> None:
    reached = {
        after for steps in STEPS.values() for before, after in steps.items() if before is not after
    }
    assert reached == set(PaymentState) - {PaymentState.CREATING}


def test_final_states_are_those_that_subscribers_wait_for() -> None:
    assert {PaymentState.SUCCEEDED} | ABSORBING == FINAL_STATES
    assert not PaymentState.AUTHORIZED.is_final


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


# Any news, in any order

MONEY = st.builds(Money, st.sampled_from(["EUR", "EUR", "EUR", "USD"]), st.integers(0, 120))
AMOUNT = st.one_of(st.just(WHOLE), st.just(WHOLE), st.none(), MONEY)
PAYMENT_FACT = st.builds(
    a_payment_fact,
    st.sampled_from(Outcome),
    amount=AMOUNT,
    payment_id=st.sampled_from(["P-1", "P-1", "P-1", "P-2", ""]),
    capture_expected=st.sampled_from([None, None, True, False]),
)
CAPTURE_FACT = st.builds(
    a_capture,
    st.sampled_from([Outcome.PROCESSING, Outcome.SUCCEEDED, Outcome.FAILED]),
    st.sampled_from(["C-1", "C-2", "C-3"]),
    AMOUNT,
)
FACTS = st.lists(st.one_of(PAYMENT_FACT, CAPTURE_FACT), max_size=12)
PAYMENTS = st.builds(
    a_payment, st.sampled_from(PaymentState), capture_expected=st.sampled_from([True, False, None])
)
STARTS = st.builds(
    a_payment,
    st.sampled_from(sorted(OPEN)),
    capture_expected=st.sampled_from([True, False, None]),
)


@given(PAYMENTS, FACTS)
def test_each_fact_is_exactly_one_event_and_one_version(
    payment: Payment, facts: list[Fact]
) -> None:
    for fact in facts:
        decision = decide(payment, fact, LATER)
        assert isinstance(decision, Decision)
        assert decision.payment.version == payment.version + 1
        assert decision.state_before is payment.state
        payment = decision.payment


@given(PAYMENTS, FACTS)
def test_failed_cancelled_and_expired_absorb(payment: Payment, facts: list[Fact]) -> None:
    for fact in facts:
        after = told(payment, fact)
        if payment.state in ABSORBING:
            assert after.state is payment.state
        payment = after


@given(STARTS, FACTS)
def test_what_was_taken_never_exceeds_the_amount_and_never_falls(
    payment: Payment, facts: list[Fact]
) -> None:
    for fact in facts:
        after = told(payment, fact)
        for name in ("authorized_minor_units", "captured_minor_units"):
            before, now = getattr(payment, name), getattr(after, name)
            assert 0 <= before <= now <= payment.amount.minor_units
        payment = after


@given(STARTS, FACTS)
def test_a_taken_payment_was_taken_whole(payment: Payment, facts: list[Fact]) -> None:
    payment = told(payment, *facts)
    if payment.state is PaymentState.SUCCEEDED:
        assert payment.captured_minor_units == payment.amount.minor_units
    if payment.state is PaymentState.AUTHORIZED:
        assert payment.authorized_minor_units == payment.amount.minor_units


@given(PAYMENTS, st.lists(st.one_of(PAYMENT_FACT, CAPTURE_FACT), max_size=6), MONEY)
def test_a_mismatching_fact_never_leads_to_money(
    payment: Payment, facts: list[Fact], amount: Money
) -> None:
    payment = told(payment, *facts)
    if amount != payment.amount:
        after = told(payment, a_payment_fact(amount=amount))
        assert after.state is payment.state
        assert after.captured_minor_units == payment.captured_minor_units
    if amount.currency_code != payment.amount.currency_code:
        assert told(payment, a_capture(amount=amount)).state is payment.state


@given(PAYMENTS, FACTS)
def test_an_alarm_changes_nothing_but_that_antom_is_asked(
    payment: Payment, facts: list[Fact]
) -> None:
    for fact in facts:
        decision = decide(payment, fact, LATER)
        if decision.type in {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}:
            assert not decision.is_conclusive
            assert decision.payment == replace(
                payment, version=payment.version + 1, update_time=LATER, inquiry_wanted=True
            )
        payment = decision.payment


@given(PAYMENTS, FACTS)
def test_whatever_concludes_nothing_asks_antom_and_takes_no_money(
    payment: Payment, facts: list[Fact]
) -> None:
    for fact in facts:
        decision = decide(payment, fact, LATER)
        if not decision.is_conclusive:
            assert decision.payment.inquiry_wanted
            assert decision.payment.captured_minor_units == payment.captured_minor_units
            assert decision.payment.authorized_minor_units == payment.authorized_minor_units
        payment = decision.payment


@st.composite
def consistent_news(draw: st.DrawFn) -> list[Fact]:
    """What Antom tells of one payment that goes well: captures whole or in parts, some failing."""
    facts = [a_payment_fact()]
    facts += [
        a_payment_fact(outcome)
        for outcome in (Outcome.PROCESSING, Outcome.PENDING)
        if draw(st.booleans())
    ]
    left = WHOLE.minor_units
    for number in range(draw(st.integers(0, 4))):
        part = draw(st.integers(1, left)) if left else 0
        outcome = draw(st.sampled_from([Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED]))
        amount = Money("EUR", part or 1)
        if outcome is Outcome.SUCCEEDED:
            if not part:
                break
            left -= part
        capture_id = f"C-{number}"
        facts.append(a_capture(outcome, capture_id, amount))
        if draw(st.booleans()):
            facts.append(a_capture(Outcome.PROCESSING, capture_id, amount))
    return facts


def _where_it_stands(payment: Payment) -> Payment:
    """The payment without the order in which its captures were told."""
    return replace(payment, captures=tuple(sorted(payment.captures, key=lambda c: c.capture_id)))


@given(consistent_news(), st.randoms(use_true_random=False))
def test_any_order_of_payment_and_capture_news_ends_equal(facts: list[Fact], random: Any) -> None:
    shuffled = random.sample(facts, len(facts))
    one = told(a_payment(), *facts)
    other = told(a_payment(), *shuffled)
    assert _where_it_stands(one) == _where_it_stands(other)
    assert sorted(the_news(a_payment(), *facts)) == sorted(the_news(a_payment(), *shuffled))


@given(consistent_news(), st.randoms(use_true_random=False))
def test_any_order_ends_equal_once_an_inquiry_tells_whether_a_capture_is_expected(
    facts: list[Fact], random: Any
) -> None:
    start = a_payment(capture_expected=None)
    inquiry = a_payment_fact(source=Source.INQUIRY, capture_expected=True)
    one = told(start, *facts, inquiry)
    other = told(start, *random.sample(facts, len(facts)), inquiry)
    assert one.state is other.state
    assert one.captured_minor_units == other.captured_minor_units
    assert one.authorized_minor_units == other.authorized_minor_units == 100


# Who hears of an event


def _an_event(payment: Payment, type_: EventType = EventType.PAYMENT_AUTHORIZED) -> PaymentEvent:
    return PaymentEvent("e-1", type_, payment, payment.state, Source.NOTIFICATION)


@pytest.mark.parametrize(
    ("event_filter", "admitted"),
    [
        (EventFilter(), True),
        (EventFilter(merchant_accounts=frozenset({"default"})), True),
        (EventFilter(merchant_accounts=frozenset({"other"})), False),
        (EventFilter(merchant_accounts=frozenset()), False),
        (EventFilter(payment_request_ids=frozenset({"order-1-attempt-1"})), True),
        (EventFilter(payment_request_ids=frozenset({"order-2"})), False),
        (EventFilter(types=frozenset({EventType.PAYMENT_AUTHORIZED})), True),
        (EventFilter(types=frozenset({EventType.CAPTURE_FAILED})), False),
        (EventFilter(final_states_only=True), False),
    ],
)
def test_a_filter_admits_what_meets_all_that_it_asks(
    event_filter: EventFilter, admitted: bool
) -> None:
    assert event_filter.admits(_an_event(a_payment(PaymentState.AUTHORIZED))) is admitted


def test_final_states_only_admits_every_final_state() -> None:
    wanted = EventFilter(final_states_only=True)
    admitted = {s for s in PaymentState if wanted.admits(_an_event(a_payment(s)))}
    assert admitted == FINAL_STATES


def test_a_fact_is_the_same_whatever_told_it() -> None:
    identities: Iterable[Any] = {
        a_payment_fact(source=source, amount=amount).identity
        for source in Source
        for amount in (WHOLE, None)
    }
    assert identities == {("default", FactKind.PAYMENT, "P-1", Outcome.SUCCEEDED)}
