"""What only a signed inquiry settles, and what news told again adds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.store import AppliedOutcome, Member, PaymentStore
from facts import a_capture, a_notification, a_payment_fact
from stored import about, confirmed, notified, numbered, rows, the_payment, whole_log

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
    assert (await the_payment(store)).state is PaymentState.CANCELLED
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
