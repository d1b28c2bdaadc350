"""EXPIRED: only an inquiry after the time concludes it, and never of a payment that was paid."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import antom_payments
from antom_payments.decision import decide, may_have_lapsed
from antom_payments.expiry import CLOSING_TIME, expired, expiry_due
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState, Source
from antom_payments.store import AppliedOutcome, Member, PaymentStore
from antom_payments.store.batch import Batch
from clock import FrozenClock
from facts import LATER, NOW, OPEN, a_capture, a_payment, a_payment_fact, told
from stored import confirmed, notified, the_payment, whole_log

EXPIRY = NOW + timedelta(hours=1)
DUE = EXPIRY + timedelta(minutes=16)
WAITING = a_payment(payment_session_expiry_time=EXPIRY)
SECOND = timedelta(seconds=1)


def answered(outcome: Outcome, code: str = "", **more: Any) -> tuple[Fact, ...]:
    return (a_payment_fact(outcome, source=Source.INQUIRY, result_code=code, **more),)


CLOSED = answered(Outcome.FAILED, "ORDER_IS_CLOSED")


def lapse(payment: Payment, *, now: datetime, **answer: Any) -> Fact | None:
    """What Antom's answer leads to, when its clock and ours say the same."""
    return expired(payment, now=now, answer_time=now, **answer)


def not_exist(payment: Payment = WAITING, now: datetime = DUE) -> Fact | None:
    return lapse(payment, exists=False, facts=(), now=now)


# The time


def test_nothing_lapses_before_the_expiry_and_the_closing_time_and_two_minutes() -> None:
    assert expiry_due(WAITING) == EXPIRY + CLOSING_TIME + timedelta(minutes=2) == DUE
    for facts, exists in (((), False), (CLOSED, True)):
        assert lapse(WAITING, exists=exists, facts=facts, now=DUE - SECOND) is None
        assert lapse(WAITING, exists=exists, facts=facts, now=DUE) is not None
    slow = timedelta(hours=48)
    assert lapse(WAITING, exists=False, facts=(), now=DUE, closing=slow) is None
    due = EXPIRY + slow + timedelta(minutes=2)
    assert lapse(WAITING, exists=False, facts=(), now=due, closing=slow) is not None


def test_nothing_lapses_before_antoms_own_clock_says_that_it_has_closed() -> None:
    closes = EXPIRY + CLOSING_TIME
    ahead = DUE + timedelta(hours=30)
    for facts, exists in (((), False), (CLOSED, True)):
        for early in (None, NOW, closes - SECOND):
            early_answer = expired(
                WAITING, exists=exists, facts=facts, now=ahead, answer_time=early
            )
            assert early_answer is None
        fact = expired(WAITING, exists=exists, facts=facts, now=ahead, answer_time=closes)
        assert fact is not None
        assert fact.antom_time == closes


def test_a_session_that_was_renewed_meanwhile_lives_by_antoms_clock_not_by_ours() -> None:
    fact = not_exist()
    renewed = replace(WAITING, payment_session_expiry_time=DUE + SECOND)
    assert fact is not None
    decision = decide(renewed, fact, DUE + timedelta(days=1))
    assert (decision.type, decision.payment.state) == (
        EventType.CONTRADICTION,
        PaymentState.AWAITING_BUYER,
    )


def test_a_payment_without_a_session_lapses_by_antoms_default_of_an_hour() -> None:
    creating = a_payment(PaymentState.CREATING, create_time=NOW)
    assert not_exist(creating, DUE - SECOND) is None
    assert not_exist(creating, DUE) is not None


# The answer


def test_an_order_that_does_not_exist_lapsed() -> None:
    fact = not_exist()
    assert fact is not None
    assert fact.identity == ("default", FactKind.PAYMENT, "order-1-attempt-1", Outcome.EXPIRED)
    assert (fact.source, fact.amount, fact.payment_id) == (Source.INQUIRY, None, "")
    decision = decide(WAITING, fact, DUE)
    assert (decision.type, decision.payment.state) == (
        EventType.PAYMENT_EXPIRED,
        PaymentState.EXPIRED,
    )
    assert decision.payment.result_code == "ORDER_NOT_EXIST"


@pytest.mark.parametrize("code", ["ORDER_IS_CLOSED", "PROCESS_FAIL"])
def test_an_order_that_antom_closed_unpaid_lapsed(code: str) -> None:
    fact = lapse(WAITING, exists=True, facts=answered(Outcome.FAILED, code), now=DUE)
    assert fact is not None
    assert (fact.fact_id, fact.outcome, fact.result_code) == ("P-1", Outcome.EXPIRED, code)
    payment = decide(WAITING, fact, DUE).payment
    assert (payment.state, payment.payment_id) == (PaymentState.EXPIRED, "P-1")


@pytest.mark.parametrize(
    "facts",
    [
        answered(Outcome.FAILED, "DO_NOT_HONOR"),
        answered(Outcome.FAILED, ""),
        answered(Outcome.CANCELLED, "ORDER_IS_CLOSED"),
        answered(Outcome.PROCESSING, "PAYMENT_IN_PROCESS"),
        answered(Outcome.PENDING),
        answered(Outcome.SUCCEEDED, "SUCCESS"),
        (*CLOSED, a_capture(Outcome.FAILED, source=Source.INQUIRY)),
        (),
    ],
    ids=["declined", "no code", "cancelled", "open", "pending", "paid", "captured", "unknown"],
)
def test_any_other_answer_is_what_antom_calls_it(facts: tuple[Fact, ...]) -> None:
    much_later = DUE + timedelta(days=30)
    assert lapse(WAITING, exists=True, facts=facts, now=much_later) is None


@pytest.mark.parametrize("state", sorted(set(PaymentState) - OPEN))
def test_what_is_over_or_held_does_not_lapse(state: PaymentState) -> None:
    payment = replace(WAITING, state=state)
    assert not_exist(payment) is None
    assert lapse(payment, exists=True, facts=CLOSED, now=DUE) is None


def test_the_failure_of_a_payment_under_way_is_a_failure() -> None:
    acted = replace(WAITING, state=PaymentState.PROCESSING, payment_id="P-1")
    assert lapse(acted, exists=True, facts=CLOSED, now=DUE) is None


def test_an_order_that_antom_named_before_cannot_lapse_by_not_existing() -> None:
    """A buyer who paid at a bank must not be told that nothing came of it."""
    assert not_exist(replace(WAITING, state=PaymentState.PROCESSING, payment_id="P-1")) is None
    assert not_exist(replace(WAITING, state=PaymentState.PROCESSING)) is not None


@pytest.mark.parametrize(
    "more",
    [{"inquiry_wanted": True}, {"captures": told(WAITING, a_capture(Outcome.FAILED)).captures}],
    ids=["a mismatch or contradiction is open", "a capture was told"],
)
def test_a_payment_with_news_of_money_does_not_lapse(more: dict[str, Any]) -> None:
    payment = replace(WAITING, **more)
    assert not_exist(payment) is None
    assert lapse(payment, exists=True, facts=CLOSED, now=DUE) is None


# News that overtook the answer


def test_a_conclusion_that_news_overtook_is_a_contradiction_and_never_a_correction() -> None:
    fact, closed = not_exist(), lapse(WAITING, exists=True, facts=CLOSED, now=DUE)
    assert fact is not None
    assert closed is not None
    money = (PaymentState.AUTHORIZED, PaymentState.SUCCEEDED, PaymentState.CANCELLED)
    overtaken = [(replace(WAITING, state=state), one) for state in money for one in (fact, closed)]
    overtaken += [
        (replace(WAITING, state=PaymentState.PROCESSING, payment_id="P-1"), fact),
        (replace(WAITING, inquiry_wanted=True), closed),
        (replace(WAITING, payment_session_expiry_time=DUE + SECOND), fact),
        (replace(WAITING, amount=Money("EUR", 99)), closed),
    ]
    for payment, one in overtaken:
        decision = decide(payment, one, DUE)
        assert decision.type in {EventType.CONTRADICTION, EventType.AMOUNT_MISMATCH}
        assert decision.payment.state is payment.state
        is_mismatch = decision.type is EventType.AMOUNT_MISMATCH
        # One that is open is asked about in any case.
        is_wanted = is_mismatch or payment.inquiry_wanted or not payment.state.is_open
        assert decision.payment.inquiry_wanted is is_wanted


@pytest.mark.parametrize("before", [PaymentState.EXPIRED, PaymentState.FAILED])
def test_a_lapse_and_its_notification_end_alike_in_whichever_order(before: PaymentState) -> None:
    """A notification says F, our inquiry EXPIRED: the first stays, both are final, none is paid."""
    over = replace(WAITING, state=before)
    closing = a_payment_fact(Outcome.FAILED, result_code="ORDER_IS_CLOSED")
    assert decide(over, closing, DUE).payment.state is before
    lapsed = lapse(WAITING, exists=True, facts=CLOSED, now=DUE)
    assert lapsed is not None
    assert decide(over, lapsed, DUE).payment.state is before


# No other way to it


def test_only_an_inquiry_about_a_payment_may_say_expired() -> None:
    with pytest.raises(ValueError, match="only an inquiry"):
        a_payment_fact(Outcome.EXPIRED, source=Source.NOTIFICATION)
    with pytest.raises(ValueError, match="only an inquiry"):
        a_capture(Outcome.EXPIRED, source=Source.INQUIRY)


def test_no_other_module_than_expiry_makes_a_fact_of_that_outcome() -> None:
    package = Path(antom_payments.__file__).parent
    makers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "outcome" and _is_expired(node.value)
    }
    # `fact`, `decision` and the store's `batch` compare with it; the store reads it back from its
    # own rows.
    users = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr) and _is_expired(node)
    }
    assert makers == {"expiry.py"}
    assert users == {"expiry.py", "fact.py", "decision.py", "batch.py"}


def _is_expired(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "EXPIRED"
        and isinstance(node.value, ast.Name)
        and node.value.id == "Outcome"
    )


# The buyer pays in the last second


PAID = a_payment_fact(payment_id="P-1")
BEFORE = [
    ("not submitted yet", False, ()),
    ("open", True, answered(Outcome.PROCESSING, "PAYMENT_IN_PROCESS")),
    ("paid", True, answered(Outcome.SUCCEEDED, "SUCCESS")),
    # What Antom should never answer of a payment that is paid, after the time.
    ("lost", False, ()),
]


def facts_of(payment: Payment, answer: tuple[str, bool, tuple[Fact, ...]]) -> tuple[Fact, ...]:
    """What an inquiry leads to: what it concludes, or what it tells."""
    name, exists, facts = answer
    asked = DUE if name == "lost" else EXPIRY - SECOND
    lapsed = lapse(payment, exists=exists, facts=facts, now=asked)
    return (lapsed,) if lapsed else facts


def orders() -> Iterator[tuple[str, ...]]:
    """The steps of a notification, an inquiry before and one after the time, in every order.

    An inquiry is asked with the payment of its moment, and applied when it may.
    """
    for answer, *_ in BEFORE:
        steps = ("notified", f"ask {answer}", f"apply {answer}")
        for order in itertools.permutations(steps):
            if order.index(steps[1]) < order.index(steps[2]):
                yield order


@pytest.mark.parametrize("order", list(orders()), ids=", ".join)
@pytest.mark.parametrize("expects_capture", [True, False, None])
def test_a_payment_paid_in_the_last_second_never_ends_expired(
    order: tuple[str, ...], expects_capture: bool | None
) -> None:
    answers = {name: (name, exists, facts) for name, exists, facts in BEFORE}
    batch = Batch()
    batch.add_payment(replace(WAITING, capture_expected=expects_capture))
    key = ("default", "order-1-attempt-1")
    asked: dict[str, tuple[Fact, ...]] = {}
    for one in order:
        what, _, name = one.partition(" ")
        if what == "notified":
            batch.tell(notified(PAID), DUE)
        elif what == "ask":
            asked[name] = facts_of(batch.payments[key], answers[name])
        else:
            for fact in asked[name]:
                batch.tell(Member(fact), DUE)
    # Whatever came before: what is not settled asks Antom, who knows the payment is paid.
    between = batch.payments[key]
    settled = between.state in {PaymentState.AUTHORIZED, PaymentState.SUCCEEDED}
    assert settled or between.inquiry_wanted
    final = answered(Outcome.SUCCEEDED, "SUCCESS")
    assert lapse(between, exists=True, facts=final, now=DUE) is None
    batch.tell(batch.named(Member(final[0])), DUE)
    payment = batch.payments[key]
    assert payment.state is (PaymentState.AUTHORIZED if expects_capture else PaymentState.SUCCEEDED)
    assert not payment.inquiry_wanted
    versions = [event.payment.version for event in batch.drafts]
    assert versions == list(range(WAITING.version + 1, payment.version + 1))


async def test_the_last_second_in_the_store_the_conclusion_first_and_the_buyer_late(
    store: PaymentStore, clock: FrozenClock
) -> None:
    awaiting = await confirmed(store)
    clock.advance((DUE - NOW).total_seconds())
    lapsed = not_exist(awaiting)
    assert lapsed is not None
    [concluded] = await store.apply([Member(lapsed)])
    assert (await the_payment(store)).state is PaymentState.EXPIRED
    [paid] = await store.apply([notified(PAID)])
    assert paid.event is not None
    assert paid.event.type is EventType.CONTRADICTION
    assert (await the_payment(store)).inquiry_wanted
    await store.apply([Member(answered(Outcome.SUCCEEDED, "SUCCESS")[0])])
    [again] = await store.apply([Member(lapsed)])
    assert (again.outcome, again.event) == (AppliedOutcome.DUPLICATE, concluded.event)
    payment = await the_payment(store)
    assert payment.state is PaymentState.AUTHORIZED
    assert payment.inquiry_wanted, "a lapse that comes after the money: Antom is asked once more"
    assert [event.type for event in (await whole_log(store))[1:]] == [
        EventType.PAYMENT_EXPIRED,
        EventType.CONTRADICTION,
        EventType.PAYMENT_CORRECTED,
    ]


ANSWERS = st.one_of(
    st.just(()),
    st.builds(
        answered,
        st.sampled_from(sorted(set(Outcome) - {Outcome.EXPIRED})),
        st.sampled_from(["", "SUCCESS", "ORDER_IS_CLOSED", "PROCESS_FAIL", "DO_NOT_HONOR"]),
    ),
)
PAYMENTS = st.builds(
    a_payment,
    st.sampled_from(PaymentState),
    payment_session_expiry_time=st.just(EXPIRY),
    inquiry_wanted=st.booleans(),
    payment_id=st.sampled_from([None, "P-1", "P-2"]),
)


@given(PAYMENTS, ANSWERS, st.timedeltas(-timedelta(hours=2), timedelta(hours=2)))
def test_expired_is_reached_only_after_the_time_from_an_open_payment_without_money(
    payment: Payment, facts: tuple[Fact, ...], since_due: timedelta
) -> None:
    now: datetime = DUE + since_due
    lapsed = lapse(payment, exists=bool(facts), facts=facts, now=now)
    if lapsed is None:
        return
    assert since_due >= timedelta(0)
    assert payment.state in OPEN
    assert not payment.inquiry_wanted
    assert not facts or facts[0].outcome is Outcome.FAILED
    # Of another payment's id it concludes nothing.
    is_ours = not facts or payment.payment_id in {None, "P-1"}
    assert (decide(payment, lapsed, now).payment.state is PaymentState.EXPIRED) is is_ours


def test_a_session_can_be_paid_until_its_expiry_and_not_at_it() -> None:
    payment = a_payment(payment_session_expiry_time=LATER)
    assert may_have_lapsed(payment, "", LATER)
    assert not may_have_lapsed(payment, "", LATER - timedelta(microseconds=1))
