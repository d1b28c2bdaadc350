"""Every step of the table, legal or not, from every state and every source, through the store.

States are reached by what leads there in life, never by writing rows. Each payment is told one
piece of news; what the table says of it must be in the payment, in its one event and in its fact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product

import pytest

from antom_payments.expiry import expired, expiry_due
from antom_payments.fact import Fact, Outcome
from antom_payments.payment import (
    STEPS,
    EventType,
    Payment,
    PaymentState,
    Source,
    step,
)
from antom_payments.payment_event import PaymentEvent
from antom_payments.store import Applied, AppliedOutcome, Member, PaymentStore, SessionClaim
from clock import FrozenClock
from facts import ABSORBING, OPEN, a_capture, a_payment, a_payment_fact
from stored import SESSION, all_payments, begun, notified, rows, whole_log

P, E = PaymentState, EventType

OUTCOMES = {
    E.PAYMENT_PROCESSING: Outcome.PROCESSING,
    E.PAYMENT_PENDING: Outcome.PENDING,
    E.PAYMENT_AUTHORIZED: Outcome.SUCCEEDED,
    E.PAYMENT_SUCCEEDED: Outcome.SUCCEEDED,
    E.PAYMENT_FAILED: Outcome.FAILED,
    E.PAYMENT_CANCELLED: Outcome.CANCELLED,
    E.PAYMENT_EXPIRED: Outcome.EXPIRED,
    E.CAPTURE_SUCCEEDED: Outcome.SUCCEEDED,
    E.CAPTURE_FAILED: Outcome.FAILED,
    E.CAPTURE_PROCESSING: Outcome.PROCESSING,
}
INQUIRED = tuple(OUTCOMES)
# No notification says that a payment was cancelled, or lapsed (antom-api 3.5, 4.1).
NOTIFIED = tuple(n for n in OUTCOMES if n not in {E.PAYMENT_CANCELLED, E.PAYMENT_EXPIRED})
CORRECTED = {
    E.PAYMENT_PROCESSING: P.PROCESSING,
    E.PAYMENT_PENDING: P.PROCESSING,
    E.PAYMENT_AUTHORIZED: P.AUTHORIZED,
    E.PAYMENT_SUCCEEDED: P.SUCCEEDED,
    E.PAYMENT_FAILED: P.FAILED,
    E.PAYMENT_CANCELLED: P.CANCELLED,
}
"""What a signed inquiry makes of a payment that it contradicts; other news never overrules."""


@dataclass(frozen=True)
class Case:
    """News that comes to a payment in a state; the payment has ids of its own."""

    state: PaymentState
    news: EventType

    @property
    def order(self) -> str:
        return f"{self.state}-{self.news}"

    @property
    def expects_capture(self) -> bool:
        """Money is taken without a capture only where none is expected."""
        paid_at_once = self.state is P.SUCCEEDED and self.news is E.CAPTURE_SUCCEEDED
        return self.news is not E.PAYMENT_SUCCEEDED and not paid_at_once

    def fact(self, outcome: Outcome, source: Source) -> Fact:
        payment_id = f"P-{self.order}"
        return a_payment_fact(
            outcome,
            payment_id=payment_id,
            fact_id=payment_id,
            payment_request_id=self.order,
            source=source,
        )

    def capture(self, outcome: Outcome, source: Source, name: str = "C") -> Fact:
        capture = a_capture(outcome, f"{name}-{self.order}", source=source)
        return replace(capture, payment_id=f"P-{self.order}", payment_request_id=self.order)

    def lapsed(self, *, exists: bool = True) -> Fact:
        """What `expired` concluded before other news came: the payment as it was when asked."""
        asked = a_payment(P.AWAITING_BUYER, payment_request_id=self.order)
        closed = replace(self.fact(Outcome.FAILED, Source.INQUIRY), result_code="ORDER_IS_CLOSED")
        facts = (closed,) if exists else ()
        due = expiry_due(asked)
        fact = expired(asked, exists=exists, facts=facts, now=due, answer_time=due)
        assert fact is not None
        return fact

    def way(self) -> list[Fact]:
        """What leads to the state: facts other than the one that is told then."""
        notified, inquired = Source.NOTIFICATION, Source.INQUIRY
        told = OUTCOMES.get(self.news)
        under_way = Outcome.PENDING if told is Outcome.PROCESSING else Outcome.PROCESSING
        match self.state:
            case P.PROCESSING:
                return [self.fact(under_way, notified)]
            case P.SUCCEEDED if self.expects_capture:
                return [self.fact(under_way, notified), self.capture(OK, notified, "first")]
            case P.EXPIRED:
                return [self.lapsed(exists=told is not Outcome.EXPIRED)]
            case P.AUTHORIZED | P.SUCCEEDED | P.FAILED | P.CANCELLED:
                outcome = OUTCOMES[self.news_of_state()]
                fact = self.fact(outcome, inquired)
                # The same news of another fact: of an answer that named no paymentId.
                is_told = told is outcome and not self.news.startswith("CAPTURE")
                return [replace(fact, payment_id="", fact_id=self.order) if is_told else fact]
            case _:
                return []

    def news_of_state(self) -> EventType:
        return {
            P.AUTHORIZED: E.PAYMENT_AUTHORIZED,
            P.SUCCEEDED: E.PAYMENT_SUCCEEDED,
            P.FAILED: E.PAYMENT_FAILED,
            P.CANCELLED: E.PAYMENT_CANCELLED,
        }[self.state]

    def told(self, source: Source) -> Fact:
        """The news."""
        if self.news is E.PAYMENT_EXPIRED:
            return self.lapsed()
        outcome = OUTCOMES[self.news]
        if self.news.startswith("CAPTURE"):
            return self.capture(outcome, source)
        return self.fact(outcome, source)

    def expected(self, source: Source) -> tuple[EventType, PaymentState]:
        """The event and the state after it, as the table has it."""
        after = step(self.state, self.news)
        is_success = self.news in {E.PAYMENT_AUTHORIZED, E.PAYMENT_SUCCEEDED}
        if source is Source.INQUIRY and self.state is P.CANCELLED and is_success:
            # That a late success does not revive it is about notifications (antom-api 4.1).
            after = None
        if after is not None:
            return self.news, after
        if source is Source.INQUIRY and self.news in CORRECTED:
            return E.PAYMENT_CORRECTED, CORRECTED[self.news]
        return E.CONTRADICTION, self.state


OK = Outcome.SUCCEEDED


def cases(news: tuple[EventType, ...]) -> list[Case]:
    """All but what cannot come: where a capture is expected, a success is told as AUTHORIZED."""
    return [
        case
        for case in (Case(*pair) for pair in product(PaymentState, news))
        if (case.state, case.news) != (P.AUTHORIZED, E.PAYMENT_SUCCEEDED)
    ]


async def claims(store: PaymentStore, walked: list[Case]) -> dict[Case, SessionClaim]:
    """Intents whose sessions Antom is being asked for."""
    return {
        case: await begun(
            store,
            payment_request_id=case.order,
            capture_expected=case.expects_capture,
            lease_seconds=10_000,
        )
        for case in walked
    }


async def lead(store: PaymentStore, walked: list[Case]) -> dict[str, Payment]:
    """Bring every payment to its state, in one batch."""
    way = [fact for case in walked for fact in case.way()]
    for answer in await store.apply(
        [Member(fact) if fact.source is Source.INQUIRY else notified(fact) for fact in way]
    ):
        assert answer.outcome is AppliedOutcome.APPLIED
    reached = {payment.payment_request_id: payment for payment in await all_payments(store)}
    assert {case: reached[case.order].state for case in walked} == {
        case: case.state for case in walked
    }
    return reached


def assert_amounts_add_up(payment: Payment) -> None:
    whole = payment.amount.minor_units
    assert 0 <= payment.captured_minor_units <= whole
    assert 0 <= payment.authorized_minor_units <= whole
    assert payment.refunded_minor_units == 0
    assert payment.taken_minor_units <= whole
    if payment.state is P.SUCCEEDED:
        assert payment.captured_minor_units == whole
    elif payment.state is P.AUTHORIZED:
        assert payment.authorized_minor_units == whole
        assert payment.captured_minor_units == payment.taken_minor_units < whole
    elif payment.state is not P.CANCELLED:
        # A cancelled payment keeps what it once held or took.
        assert payment.captured_minor_units == payment.taken_minor_units


def assert_told(case: Case, before: Payment, answer: Applied, source: Source) -> None:
    """The payment after the news, and its event, are what the table says."""
    event, payment = answer.event, answer.payment
    assert answer.outcome is AppliedOutcome.APPLIED
    assert event is not None
    assert event.payment == payment
    assert (event.type, payment.state) == case.expected(source), case
    assert (event.state_before, event.source) == (case.state, source)
    assert (event.payment.version, event.payment.last_sequence) == (
        before.version + 1,
        event.sequence,
    )
    says_open = case.news in {E.PAYMENT_PROCESSING, E.PAYMENT_PENDING}
    is_doubted = source is Source.INQUIRY and says_open and payment.state not in OPEN
    assert payment.inquiry_wanted == (event.type is E.CONTRADICTION or is_doubted), case
    assert_amounts_add_up(payment)
    if event.type is E.CONTRADICTION:
        changed = {"version", "update_time", "last_sequence", "inquiry_wanted"}
        kept = {name: getattr(before, name) for name in changed}
        assert replace(payment, **kept) == before, case


async def assert_one_event_each(store: PaymentStore, log: list[PaymentEvent]) -> None:
    """Each fact has one event of its own, and every payment's versions are dense."""
    facts = await rows(store, "SELECT event_id, is_conclusive FROM facts")
    told = [event for event in log if event.source is not Source.API]
    assert sorted(event_id for event_id, _ in facts) == sorted(event.event_id for event in told)
    alarms = {event.event_id for event in told if event.type is E.CONTRADICTION}
    assert {event_id for event_id, is_conclusive in facts if not is_conclusive} == alarms
    versions: dict[str, list[int]] = {}
    for event in log:
        versions.setdefault(event.payment_request_id, []).append(event.payment.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


@pytest.mark.parametrize(
    ("source", "news"),
    [(Source.NOTIFICATION, NOTIFIED), (Source.INQUIRY, INQUIRED)],
    ids=["notification", "inquiry"],
)
async def test_every_step_is_walked_and_every_other_is_told_and_refused(
    store: PaymentStore, clock: FrozenClock, source: Source, news: tuple[EventType, ...]
) -> None:
    walked = cases(news)
    claimed = await claims(store, walked)
    for case in walked:
        if case.state is P.AWAITING_BUYER:
            await store.confirm_session(claimed[case], SESSION)
    clock.advance(timedelta(hours=2).total_seconds())
    reached = await lead(store, walked)

    facts = [case.told(source) for case in walked]
    members = [notified(fact) if source is Source.NOTIFICATION else Member(fact) for fact in facts]
    answers = await store.apply(members)
    for case, answer in zip(walked, answers, strict=True):
        assert_told(case, reached[case.order], answer, source)
    log = await whole_log(store)
    await assert_one_event_each(store, log)
    assert {payment.payment_request_id: payment for payment in await all_payments(store)} == {
        case.order: answer.payment for case, answer in zip(walked, answers, strict=True)
    }

    again = await store.apply(members)
    assert {answer.outcome for answer in again} == {AppliedOutcome.DUPLICATE}
    assert [answer.event for answer in again] == [answer.event for answer in answers]
    assert await whole_log(store) == log


async def test_every_step_of_a_session_is_walked_and_a_refusal_of_what_went_on_is_not_told(
    store: PaymentStore, clock: FrozenClock
) -> None:
    # A payment whose session was confirmed once is CREATING no more.
    walked = [
        case
        for case in cases((E.SESSION_CREATED, E.SESSION_RENEWED, E.SESSION_REFUSED))
        if case != Case(P.CREATING, E.SESSION_RENEWED)
        # It awaits its buyer because it was confirmed: the next session renews it.
        and case != Case(P.AWAITING_BUYER, E.SESSION_CREATED)
    ]
    claimed = await claims(store, walked)
    for case in walked:
        if case.news is E.SESSION_RENEWED or case.state is P.AWAITING_BUYER:
            await store.confirm_session(claimed[case], SESSION)
    clock.advance(timedelta(hours=2).total_seconds())
    asked_again = [case for case in walked if case.news is E.SESSION_RENEWED]
    claimed |= await claims(store, asked_again)
    reached = await lead(store, walked)
    for case in walked:
        before = reached[case.order]
        end = (await store.log.page(0)).head
        if case.news is E.SESSION_REFUSED:
            after, _ = await store.refuse_session(claimed[case], "PARAM_ILLEGAL")
        else:
            renewed = replace(SESSION, payment_session_id="another")
            after = (await store.confirm_session(claimed[case], renewed)).payment
        told = (await store.log.page(end)).events
        if (expected := step(case.state, case.news)) is None:
            assert (list(told), after) == ([], before), case
            continue
        [event] = told
        assert (event.type, event.source) == (case.news, Source.API), case
        assert (event.state_before, event.state) == (case.state, expected), case
        assert event.payment == after
        assert after.version == before.version + 1
        assert_amounts_add_up(after)


def test_the_walk_leaves_out_no_news_and_no_state() -> None:
    sessions = {E.SESSION_CREATED, E.SESSION_RENEWED, E.SESSION_REFUSED}
    # Hints are told by `test_sdk_events`, from every state.
    assert {*INQUIRED, *sessions, E.SDK_EVENT_REPORTED} == set(STEPS)
    assert set(INQUIRED) - set(NOTIFIED) == {E.PAYMENT_CANCELLED, E.PAYMENT_EXPIRED}
    assert {case.state for case in cases(INQUIRED)} == set(PaymentState)
    never = {(state, n) for state in ABSORBING for n in INQUIRED if n.startswith("CAPTURE")}
    refused = {(c.state, c.news) for c in cases(INQUIRED) if step(c.state, c.news) is None}
    assert never - refused == {(P.CANCELLED, E.CAPTURE_FAILED), (P.CANCELLED, E.CAPTURE_PROCESSING)}
