"""Any news in any order: what must hold whatever Antom tells (properties)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from antom_payments.decision import decide
from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import Decision, EventType, Payment, PaymentState, Source
from facts import (
    ABSORBING,
    LATER,
    OPEN,
    WHOLE,
    a_capture,
    a_payment,
    a_payment_fact,
    the_news,
    told,
)

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


def is_late(payment: Payment, fact: Fact, news: EventType) -> bool:
    """Whether it says that an open payment lapsed which may not have: it is asked about anyway."""
    is_of_another = payment.payment_id is not None and fact.payment_id not in {
        "",
        payment.payment_id,
    }
    is_lapse = news is EventType.CONTRADICTION and fact.outcome is Outcome.EXPIRED
    return is_lapse and payment.state.is_open and not is_of_another


@given(PAYMENTS, FACTS)
def test_an_alarm_changes_nothing_but_that_antom_is_asked(
    payment: Payment, facts: list[Fact]
) -> None:
    for fact in facts:
        decision = decide(payment, fact, LATER)
        if decision.type in {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}:
            assert not decision.is_conclusive
            assert decision.payment == replace(
                payment,
                version=payment.version + 1,
                update_time=LATER,
                inquiry_wanted=payment.inquiry_wanted or not is_late(payment, fact, decision.type),
            )
        payment = decision.payment


@given(PAYMENTS, FACTS)
def test_whatever_concludes_nothing_asks_antom_and_takes_no_money(
    payment: Payment, facts: list[Fact]
) -> None:
    for fact in facts:
        decision = decide(payment, fact, LATER)
        if not decision.is_conclusive:
            wanted = payment.inquiry_wanted or not is_late(payment, fact, decision.type)
            assert decision.payment.inquiry_wanted is wanted
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
