"""What only a signed inquiry settles, and what news told again adds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.store import AppliedOutcome, Member, PaymentStore
from facts import a_capture, a_notification, a_payment_fact
from stored import about, begun, confirmed, notified, numbered, rows, the_payment, whole_log

APPLIED, DUPLICATE = AppliedOutcome.APPLIED, AppliedOutcome.DUPLICATE
ORPHANED = AppliedOutcome.ORPHANED


INQUIRED_SUCCESS = a_payment_fact(source=Source.INQUIRY, capture_expected=True)


async def news(store: PaymentStore) -> list[EventType]:
    return [event.type for event in await whole_log(store)]


async def test_an_inquiry_corrects_a_failed_payment_once(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(Outcome.FAILED))])
    [contradicting] = await store.apply([notified(a_payment_fact())])
    assert contradicting.event is not None
    assert contradicting.event.type is EventType.CONTRADICTION
    before = await the_payment(store)
    assert (before.state, before.inquiry_wanted) == (PaymentState.FAILED, True)

    [corrected] = await store.apply([Member(INQUIRED_SUCCESS)])
    assert corrected.outcome is APPLIED
    event = corrected.event
    assert event is not None
    assert (event.type, event.source) == (EventType.PAYMENT_CORRECTED, Source.INQUIRY)
    assert event.state_before is PaymentState.FAILED
    assert event.notification_id == ""
    after = await the_payment(store)
    assert (after.state, after.inquiry_wanted) == (PaymentState.AUTHORIZED, False)

    [again] = await store.apply([Member(INQUIRED_SUCCESS)])
    assert again.outcome is DUPLICATE
    assert again.event == event
    assert await news(store) == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_FAILED,
        EventType.CONTRADICTION,
        EventType.PAYMENT_CORRECTED,
    ]
    assert await the_payment(store) == after


async def test_an_inquiry_that_repeats_a_mismatch_makes_no_further_event(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    wrong = Member(a_payment_fact(amount=Money("EUR", 99), source=Source.INQUIRY))
    for _ in range(3):
        await store.apply([wrong])
    assert await news(store) == [EventType.SESSION_CREATED, EventType.AMOUNT_MISMATCH]
    assert (await the_payment(store)).inquiry_wanted


async def test_an_inquiry_that_confirms_what_is_known_ends_the_wish_for_one(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact())])
    await store.apply([notified(a_payment_fact(Outcome.FAILED))])
    assert (await the_payment(store)).inquiry_wanted
    [again] = await store.apply([Member(INQUIRED_SUCCESS)])
    assert again.outcome is DUPLICATE
    payment = await the_payment(store)
    assert (payment.state, payment.inquiry_wanted) == (PaymentState.AUTHORIZED, False)


async def test_inquiries_leave_a_captured_payment_cancelled(store: PaymentStore) -> None:
    """Antom goes on listing the capture of a payment that it cancelled after."""
    await confirmed(store)
    for fact in (a_payment_fact(), a_capture(), a_payment_fact(Outcome.CANCELLED)):
        await store.apply([notified(fact)])
    told = await news(store)
    capture = a_capture(source=Source.INQUIRY, capture_expected=True)
    for _ in range(2):
        cancelled = replace(INQUIRED_SUCCESS, outcome=Outcome.CANCELLED)
        await store.apply([Member(cancelled), Member(capture)])
    payment = await the_payment(store)
    assert (payment.state, payment.inquiry_wanted) == (PaymentState.CANCELLED, False)
    assert await news(store) == told


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.PROCESSING])
async def test_an_inquiry_told_again_and_again_makes_no_further_event(
    store: PaymentStore, outcome: Outcome
) -> None:
    await numbered(store, len(Outcome))
    for n, payment_outcome in enumerate(Outcome):
        fact = replace(about(n, payment_outcome), source=Source.INQUIRY, capture_expected=True)
        capture = a_capture(outcome, f"C-{n}", source=Source.INQUIRY)
        answer = [Member(fact), Member(replace(capture, payment_id=f"P-{n}"))]
        await store.apply(answer)
        told = await news(store)
        for _ in range(2):
            await store.apply(answer)
        assert await news(store) == told


async def test_a_capture_before_a_mismatch_is_adopted_when_an_inquiry_settles_it(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    [waiting] = await store.apply([notified(a_capture())])
    [wrong] = await store.apply([notified(a_payment_fact(amount=Money("EUR", 99)))])
    assert waiting.outcome is ORPHANED
    assert wrong.event is not None
    assert wrong.event.type is EventType.AMOUNT_MISMATCH
    capture = a_capture(source=Source.INQUIRY, capture_expected=True)
    await store.apply([Member(INQUIRED_SUCCESS), Member(capture)])
    payment = await the_payment(store)
    assert payment.state is PaymentState.SUCCEEDED
    assert (payment.authorized_minor_units, payment.captured_minor_units) == (100, 100)
    assert not payment.inquiry_wanted
    assert (await news(store))[2:] == [EventType.PAYMENT_AUTHORIZED, EventType.CAPTURE_SUCCEEDED]
    assert await rows(store, "SELECT 1 FROM facts WHERE orphan_state = 'WAITING'") == []


async def test_an_orphan_told_again_is_concluded_once_its_payment_is_known(
    store: PaymentStore,
) -> None:
    first = notified(a_payment_fact(), b"the same bytes")
    await store.apply([first, notified(a_capture(amount=Money("EUR", 60)))])
    await confirmed(store)
    stale = Member(a_payment_fact(), a_notification(b"old"), not_understood="outside the window")
    [held] = await store.apply([stale])
    assert held.event is None
    assert (await the_payment(store)).state is PaymentState.AWAITING_BUYER

    [resent] = await store.apply([notified(a_payment_fact(), b"the same bytes")])
    assert resent.outcome is APPLIED
    payment = await the_payment(store)
    assert (payment.state, payment.captured_minor_units) == (PaymentState.AUTHORIZED, 60)
    events = await whole_log(store)
    assert [event.type for event in events[1:]] == [
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    assert first.notification is not None
    assert resent.event == events[1]
    assert events[1].notification_id == first.notification.notification_id
    [(outcome, event_id)] = await rows(
        store,
        "SELECT outcome, event_id FROM notifications WHERE notification_id = :id",
        id=events[1].notification_id,
    )
    assert (outcome, event_id) == ("APPLIED", events[1].event_id)
    [again] = await store.apply([notified(a_payment_fact(), b"the same bytes")])
    assert again.outcome is DUPLICATE


async def test_bytes_that_were_held_back_and_applied_after_name_their_event_and_it_names_them(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    body = b"the same bytes"
    held = Member(a_payment_fact(), a_notification(body), not_understood="outside the window")
    await store.apply([held])
    [applied] = await store.apply([notified(a_payment_fact(), body)])
    assert (applied.outcome, applied.event) == (APPLIED, (await whole_log(store))[-1])
    assert applied.event is not None
    columns = "notification_id, outcome, reason, event_id, copies"
    [row] = await rows(store, f"SELECT {columns} FROM notifications")
    assert held.notification is not None
    assert tuple(row) == (
        held.notification.notification_id,
        "APPLIED",
        "",
        applied.event.event_id,
        1,
    )
    assert applied.event.notification_id == held.notification.notification_id
    [(fact_notification,)] = await rows(store, "SELECT notification_id FROM facts")
    assert fact_notification == held.notification.notification_id


# What a correction may not break


async def test_a_notification_that_comes_after_a_correction_does_not_undo_it(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    failure = notified(a_payment_fact(Outcome.FAILED), b"an earlier attempt")
    await store.apply([failure])
    await store.apply([Member(INQUIRED_SUCCESS)])
    told = await news(store)
    again = [failure, notified(a_payment_fact(Outcome.FAILED), b"told again")]
    answers = await store.apply(again)
    assert {answer.outcome for answer in answers} == {DUPLICATE}
    assert (await the_payment(store)).state is PaymentState.AUTHORIZED
    assert await news(store) == told


async def test_an_inquiry_leads_back_where_an_earlier_correction_led_away_from(
    store: PaymentStore,
) -> None:
    """Answers may overtake each other: the last one holds, and each change is an event."""
    await confirmed(store)
    cancelled = replace(INQUIRED_SUCCESS, outcome=Outcome.CANCELLED)
    states = []
    for fact in (cancelled, INQUIRED_SUCCESS, cancelled, cancelled):
        await store.apply([Member(fact)])
        states.append((await the_payment(store)).state)
    assert states == [
        PaymentState.CANCELLED,
        PaymentState.AUTHORIZED,
        PaymentState.CANCELLED,
        PaymentState.CANCELLED,
    ]
    assert (await news(store))[1:] == [
        EventType.PAYMENT_CANCELLED,
        EventType.PAYMENT_CORRECTED,
        EventType.PAYMENT_CANCELLED,
    ]


async def test_late_news_of_an_earlier_attempt_wants_one_inquiry_and_never_downgrades(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact()), notified(a_capture())])
    closed = a_payment_fact(Outcome.FAILED, result_code="ORDER_IS_CLOSED")
    [late] = await store.apply([notified(closed)])
    assert late.event is not None
    assert late.event.type is EventType.CONTRADICTION
    assert late.event.state_before is late.event.state is PaymentState.SUCCEEDED
    assert (await the_payment(store)).inquiry_wanted
    capture = a_capture(source=Source.INQUIRY)
    await store.apply([Member(INQUIRED_SUCCESS), Member(capture)])
    assert not (await the_payment(store)).inquiry_wanted
    told = await news(store)
    [again] = await store.apply([notified(closed, b"again")])
    assert (again.outcome, again.event) == (DUPLICATE, late.event)
    payment = await the_payment(store)
    assert (payment.state, payment.inquiry_wanted) == (PaymentState.SUCCEEDED, False)
    assert await news(store) == told


async def test_an_answer_that_calls_it_open_settles_no_contradiction_also_when_repeated(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    under_way = a_payment_fact(Outcome.PROCESSING, source=Source.INQUIRY)
    await store.apply([Member(under_way)])
    await store.apply([notified(a_payment_fact()), notified(a_payment_fact(Outcome.FAILED))])
    for _ in range(2):
        [answer] = await store.apply([Member(under_way)])
        assert answer.outcome is DUPLICATE
        assert (await the_payment(store)).inquiry_wanted
    await store.apply([Member(INQUIRED_SUCCESS)])
    assert not (await the_payment(store)).inquiry_wanted


# Told otherwise


async def test_an_inquiry_settles_a_conflict_of_amounts_either_way(store: PaymentStore) -> None:
    """A capture took what the inquiry says; what we asked for, it cannot change."""
    await confirmed(store)
    sixty, forty = Money("EUR", 60), Money("EUR", 40)
    await store.apply([notified(a_payment_fact()), notified(a_capture(amount=sixty))])
    for said, taken in ((sixty, 60), (forty, 40), (forty, 40)):
        [conflict] = await store.apply([notified(a_capture(amount=Money("EUR", 50)))])
        assert conflict.outcome is AppliedOutcome.CONFLICT
        assert (await the_payment(store)).inquiry_wanted
        capture = a_capture(amount=said, source=Source.INQUIRY)
        await store.apply([Member(INQUIRED_SUCCESS), Member(capture)])
        payment = await the_payment(store)
        assert (payment.captured_minor_units, payment.inquiry_wanted) == (taken, False)
    assert (await news(store))[3:] == [EventType.PAYMENT_CORRECTED]

    [wrong] = await store.apply([Member(replace(INQUIRED_SUCCESS, amount=Money("EUR", 1)))])
    assert wrong.outcome is AppliedOutcome.CONFLICT
    payment = await the_payment(store)
    assert (payment.state, payment.inquiry_wanted) == (PaymentState.AUTHORIZED, True)


async def test_what_an_answer_does_not_name_is_no_conflict(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact())])
    await store.apply([notified(a_payment_fact(Outcome.FAILED))])
    without = a_payment_fact(
        Outcome.FAILED, source=Source.INQUIRY, amount=None, payment_id="", fact_id="order-1"
    )
    for expected in (APPLIED, DUPLICATE):
        [answer] = await store.apply([Member(without)])
        assert answer.outcome is expected
        payment = await the_payment(store)
        assert (payment.state, payment.inquiry_wanted) == (PaymentState.FAILED, False)
    assert (await news(store))[-1] is EventType.PAYMENT_CORRECTED
    unnamed = a_payment_fact(source=Source.INQUIRY, amount=None)
    [conflict] = await store.apply([Member(unnamed)])
    assert conflict.outcome is AppliedOutcome.CONFLICT, "money that moved must be named"


async def test_an_answer_without_a_payment_id_tells_the_fact_that_is_known(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact()), notified(a_capture())])
    told = await news(store)
    payment = replace(INQUIRED_SUCCESS, payment_id="", fact_id="order-1-attempt-1")
    capture = replace(
        a_capture(source=Source.INQUIRY), payment_id="", payment_request_id="order-1-attempt-1"
    )
    answers = await store.apply([Member(payment), Member(capture)])
    assert [answer.outcome for answer in answers] == [DUPLICATE, DUPLICATE]
    assert await news(store) == told
    assert not (await the_payment(store)).inquiry_wanted


async def test_an_answer_that_names_another_payments_id_is_told_once(store: PaymentStore) -> None:
    await numbered(store, 2)
    await store.apply([notified(about(0))])
    stolen = replace(about(1, Outcome.PENDING), payment_id="P-0", fact_id="P-0")
    for _ in range(3):
        await store.apply([Member(replace(stolen, source=Source.INQUIRY))])
    assert (await news(store)).count(EventType.CONTRADICTION) == 1


async def test_a_known_success_told_again_with_a_sign_that_money_is_only_held_is_a_conflict(
    store: PaymentStore,
) -> None:
    await confirmed(store, capture_expected=False)
    await store.apply([Member(a_payment_fact(source=Source.INQUIRY))])
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED
    [sign] = await store.apply([notified(a_payment_fact(capture_expected=True))])
    assert sign.outcome is AppliedOutcome.CONFLICT
    payment = await the_payment(store)
    assert (payment.state, payment.inquiry_wanted) == (PaymentState.SUCCEEDED, True)
    await store.apply([Member(INQUIRED_SUCCESS)])
    payment = await the_payment(store)
    assert (payment.state, payment.captured_minor_units) == (PaymentState.AUTHORIZED, 0)
    [again] = await store.apply([notified(a_payment_fact(capture_expected=True))])
    assert again.outcome is DUPLICATE


# Captures


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "second"])
async def test_captures_of_more_than_the_amount_are_asked_about_until_they_add_up(
    store: PaymentStore, order: tuple[int, int]
) -> None:
    await confirmed(store)
    sixty = Money("EUR", 60)
    await store.apply([notified(a_payment_fact()), notified(a_capture(amount=sixty))])
    await store.apply([notified(a_capture(capture_id="C-2", amount=sixty))])
    captures = [
        a_capture(Outcome.FAILED, amount=sixty, source=Source.INQUIRY),
        a_capture(capture_id="C-2", amount=sixty, source=Source.INQUIRY),
    ]
    answer = [Member(INQUIRED_SUCCESS), *(Member(captures[n]) for n in order)]
    await store.apply(answer)
    if order == (1, 0):
        assert (await the_payment(store)).inquiry_wanted, "C-2 came before there was room for it"
        await store.apply(answer)
    payment = await the_payment(store)
    assert (payment.captured_minor_units, payment.inquiry_wanted) == (60, False)
    assert payment.state is PaymentState.AUTHORIZED


async def test_a_failed_capture_is_told_and_a_later_successful_one_too(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact()), notified(a_capture(Outcome.FAILED))])
    await store.apply([notified(a_capture(capture_id="C-2"))])
    failed, succeeded = (await whole_log(store))[2:]
    assert (failed.type, failed.capture_id) == (EventType.CAPTURE_FAILED, "C-1")
    assert failed.state is PaymentState.AUTHORIZED
    assert (succeeded.type, succeeded.capture_id) == (EventType.CAPTURE_SUCCEEDED, "C-2")
    assert succeeded.state is PaymentState.SUCCEEDED


async def test_the_events_of_what_was_adopted_are_answered_with_what_adopted_it(
    store: PaymentStore,
) -> None:
    await begun(store)
    [waiting] = await store.apply([notified(a_capture(amount=Money("USD", 100)))])
    assert waiting.adopted == ()
    [applied] = await store.apply([notified(a_payment_fact())])
    assert [event.type for event in applied.adopted] == [EventType.AMOUNT_MISMATCH]
    assert applied.adopted == tuple((await whole_log(store))[-1:])
