"""What holds of every history: notifications, their copies and inquiries, told in any order.

Told through the store's batch, which knows facts again, as one transaction after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import Payment, PaymentState, Source
from antom_payments.store import Member
from antom_payments.store.batch import Batch
from facts import ABSORBING, LATER, WHOLE, a_capture, a_notification, a_payment, a_payment_fact

KEY = ("default", "order-1-attempt-1")
ENDED = [Outcome.SUCCEEDED, Outcome.FAILED]
WRONG = [Money("EUR", 99), Money("USD", 100), None]


@dataclass
class History:
    """A payment, and what it has been told."""

    batch: Batch
    start: Payment

    @classmethod
    def of(cls, payment: Payment) -> History:
        batch = Batch()
        batch.add_payment(payment)
        return cls(batch, payment)

    @property
    def payment(self) -> Payment:
        return self.batch.payments[KEY]

    def tell(self, *facts: Fact) -> None:
        for fact in facts:
            notification = a_notification() if fact.source is Source.NOTIFICATION else None
            self.batch.tell(self.batch.named(Member(fact, notification)), LATER)

    def assert_versions_are_dense(self) -> None:
        versions = [event.payment.version for event in self.batch.drafts]
        first = self.start.version + 1
        assert versions == list(range(first, self.payment.version + 1))
        told = [known.event_id for known in self.batch.facts.values() if known.event_id]
        assert len(told) == len(set(told))
        assert set(told) <= {event.event_id for event in self.batch.drafts}


STARTS = st.builds(
    a_payment,
    st.sampled_from([PaymentState.CREATING, PaymentState.AWAITING_BUYER]),
    capture_expected=st.sampled_from([True, False, None]),
)


# What is true at Antom, and what is told of it on the way


@dataclass(frozen=True)
class Truth:
    """How a payment stands at Antom when it is asked last."""

    outcome: Outcome
    captures: tuple[Fact, ...]

    @property
    def answer(self) -> list[Fact]:
        evidence = True if self.captures else None
        payment = a_payment_fact(self.outcome, source=Source.INQUIRY, capture_expected=evidence)
        return [payment, *self.captures]

    @property
    def taken(self) -> int:
        return sum(
            capture.amount.minor_units
            for capture in self.captures
            if capture.outcome is Outcome.SUCCEEDED and capture.amount
        )


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    outcome = draw(st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED]))
    captures = []
    left = WHOLE.minor_units
    if outcome is Outcome.SUCCEEDED:
        for number in range(draw(st.integers(0, 3))):
            part = draw(st.sampled_from([left, max(left // 2, 1)]))
            ended = draw(st.sampled_from(ENDED)) if left else Outcome.FAILED
            left -= part if ended is Outcome.SUCCEEDED else 0
            amount = Money("EUR", part or 1)
            captures.append(a_capture(ended, f"C-{number}", amount, source=Source.INQUIRY))
    return Truth(outcome, tuple(captures))


@st.composite
def rumours(draw: st.DrawFn, truth: Truth) -> list[Fact]:
    """True news, false news, late news and copies of them, as notifications or stale answers."""
    payments = st.builds(
        a_payment_fact,
        st.sampled_from(sorted(set(Outcome) - {Outcome.EXPIRED})),
        amount=st.sampled_from([WHOLE, WHOLE, WHOLE, *WRONG]),
        source=st.sampled_from([Source.NOTIFICATION, Source.INQUIRY]),
    )
    lapsed = st.just(a_payment_fact(Outcome.EXPIRED, payment_id="", fact_id=KEY[1], amount=None))
    kinds = [payments, payments, lapsed]
    if truth.captures:
        captures = st.builds(
            replace,
            st.sampled_from(truth.captures),
            outcome=st.sampled_from([*ENDED, Outcome.PROCESSING]),
            amount=st.sampled_from([capture.amount for capture in truth.captures] + WRONG),
            source=st.sampled_from([Source.NOTIFICATION, Source.INQUIRY]),
        )
        kinds.append(captures)
    told = draw(st.lists(st.one_of(kinds), max_size=8))
    return told + draw(st.lists(st.sampled_from(told), max_size=4)) if told else told


@st.composite
def histories(draw: st.DrawFn) -> tuple[Payment, Truth, list[Fact]]:
    truth = draw(truths())
    return draw(STARTS), truth, draw(rumours(truth))


def asked_until_settled(history: History, truth: Truth) -> None:
    """Ask Antom as long as something wants it; twice at least."""
    for _ in range(2 + len(truth.captures)):
        history.tell(*truth.answer)
    assert not history.payment.inquiry_wanted


@settings(max_examples=120)
@given(histories(), st.randoms(use_true_random=False))
def test_any_order_of_any_news_ends_where_antom_says_once_it_is_asked(
    drawn: tuple[Payment, Truth, list[Fact]], random: Any
) -> None:
    start, truth, facts = drawn
    for told in (facts, random.sample(facts, len(facts)), []):
        history = History.of(start)
        history.tell(*told)
        asked_until_settled(history, truth)
        payment = history.payment
        match truth.outcome:
            case Outcome.FAILED:
                # Whether it lapsed or failed, nobody paid: what was concluded first stays.
                assert payment.state in {PaymentState.FAILED, PaymentState.EXPIRED}
                assert (payment.authorized_minor_units, payment.captured_minor_units) == (0, 0)
            case Outcome.CANCELLED:
                assert payment.state is PaymentState.CANCELLED
            case _:
                is_paid = not payment.capture_expected or truth.taken == WHOLE.minor_units
                expected = PaymentState.SUCCEEDED if is_paid else PaymentState.AUTHORIZED
                assert payment.state is expected
                taken = truth.taken if payment.capture_expected else WHOLE.minor_units
                assert payment.captured_minor_units == taken
        history.assert_versions_are_dense()


@settings(max_examples=60)
@given(histories())
def test_once_antom_was_asked_the_same_answer_and_old_notifications_change_nothing_more(
    drawn: tuple[Payment, Truth, list[Fact]],
) -> None:
    start, truth, facts = drawn
    history = History.of(start)
    history.tell(*facts)
    asked_until_settled(history, truth)
    settled, events = history.payment, len(history.batch.drafts)
    history.tell(*(fact for fact in facts if fact.source is Source.NOTIFICATION))
    history.tell(*truth.answer)
    assert replace(history.payment, inquiry_wanted=False) == settled
    assert len(history.batch.drafts) == events


@given(STARTS, st.lists(st.sampled_from(WRONG), min_size=1), st.data())
def test_money_never_appears_without_a_success_of_our_amount(
    start: Payment, amounts: list[Money | None], data: st.DataObject
) -> None:
    history = History.of(start)
    for amount in amounts:
        source = data.draw(st.sampled_from([Source.NOTIFICATION, Source.INQUIRY]))
        outcome = data.draw(st.sampled_from(sorted(set(Outcome) - {Outcome.EXPIRED})))
        said = amount if outcome is Outcome.SUCCEEDED else WHOLE
        capture = data.draw(st.sampled_from([*ENDED, Outcome.PROCESSING]))
        took = Money("USD", 100) if capture is Outcome.SUCCEEDED else WHOLE
        history.tell(
            a_payment_fact(outcome, amount=said, source=source),
            a_capture(capture, amount=took, source=source),
        )
        payment = history.payment
        assert payment.state not in {PaymentState.AUTHORIZED, PaymentState.SUCCEEDED}
        assert (payment.authorized_minor_units, payment.captured_minor_units) == (0, 0)
    history.assert_versions_are_dense()


@given(histories())
def test_what_absorbs_is_left_by_an_inquiry_only_and_by_an_event_that_says_so(
    drawn: tuple[Payment, Truth, list[Fact]],
) -> None:
    start, truth, facts = drawn
    history = History.of(start)
    history.tell(*facts, *truth.answer)
    for event in history.batch.drafts:
        if event.state_before in ABSORBING and event.state is not event.state_before:
            assert event.source is Source.INQUIRY
            assert event.type.value == "PAYMENT_CORRECTED"


@given(histories())
def test_the_amounts_of_a_payment_always_add_up(
    drawn: tuple[Payment, Truth, list[Fact]],
) -> None:
    start, truth, facts = drawn
    history = History.of(start)
    history.tell(*facts, *truth.answer)
    whole = WHOLE.minor_units
    for event in history.batch.drafts:
        payment = event.payment
        assert 0 <= payment.captured_minor_units <= whole
        assert 0 <= payment.authorized_minor_units <= whole
        assert payment.taken_minor_units <= payment.captured_minor_units
        if payment.state is PaymentState.SUCCEEDED:
            assert payment.captured_minor_units == whole
        if payment.state is PaymentState.AUTHORIZED:
            assert payment.authorized_minor_units == whole
            assert payment.captured_minor_units == payment.taken_minor_units < whole
