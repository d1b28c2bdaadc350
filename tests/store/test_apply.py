"""Facts in the store: each exactly one event, whatever told it, in whatever order it came."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.store import AppliedOutcome, DataCipher, Member, PaymentStore
from clock import FrozenClock
from facts import LATER, a_capture, a_notification, a_payment_fact
from stored import about, confirmed, notified, numbered, rows, the_payment, told_kinds, whole_log

APPLIED, DUPLICATE = AppliedOutcome.APPLIED, AppliedOutcome.DUPLICATE
ORPHANED, QUARANTINED = AppliedOutcome.ORPHANED, AppliedOutcome.QUARANTINED


async def test_a_new_fact_makes_one_event_and_moves_the_payment(store: PaymentStore) -> None:
    await confirmed(store)
    member = notified(a_payment_fact(antom_time=LATER))
    [applied] = await store.apply([member])
    assert applied.outcome is APPLIED
    event = applied.event
    assert event is not None
    assert event == (await whole_log(store))[-1]
    assert (event.type, event.source) == (EventType.PAYMENT_AUTHORIZED, Source.NOTIFICATION)
    assert event.state_before is PaymentState.AWAITING_BUYER
    assert event.antom_time == LATER
    assert member.notification is not None
    assert event.notification_id == member.notification.notification_id
    assert event.payment == applied.payment == await the_payment(store)
    assert event.payment.version == 2
    assert event.payment.last_sequence == event.sequence == 2


async def test_a_notification_repeated_is_acknowledged_with_the_event_it_made(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    [first] = await store.apply([notified(a_payment_fact(), b"the same bytes")])
    [again] = await store.apply([notified(a_payment_fact(), b"the same bytes")])
    assert again.outcome is DUPLICATE
    assert again.event == first.event
    assert len(await whole_log(store)) == 2


async def test_a_fact_that_an_inquiry_told_first_is_a_duplicate_when_it_is_notified(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    [first] = await store.apply([Member(a_payment_fact(source=Source.INQUIRY))])
    [again] = await store.apply([notified(a_payment_fact(), b"told later")])
    assert (first.outcome, again.outcome) == (APPLIED, DUPLICATE)
    assert again.event == first.event
    assert first.event is not None
    assert first.event.source is Source.INQUIRY
    [(event_id,)] = await rows(store, "SELECT event_id FROM notifications")
    assert event_id == first.event.event_id


async def test_a_fact_that_a_notification_told_first_is_a_duplicate_when_it_is_inquired(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    [first] = await store.apply([notified(a_payment_fact())])
    [again] = await store.apply([Member(a_payment_fact(source=Source.INQUIRY))])
    assert again.outcome is DUPLICATE
    assert again.event == first.event


async def test_copies_within_one_batch_share_one_event(store: PaymentStore) -> None:
    await confirmed(store)
    answers = await store.apply([notified(a_payment_fact(), b"same") for _ in range(50)])
    assert [answer.outcome for answer in answers] == [APPLIED] + [DUPLICATE] * 49
    assert {answer.event and answer.event.event_id for answer in answers} == {
        (await whole_log(store))[-1].event_id
    }
    assert len(await whole_log(store)) == 2


async def test_the_members_of_a_batch_are_answered_in_their_order(store: PaymentStore) -> None:
    await numbered(store, 5)
    order = [3, 0, 4, 1, 2, 0]
    answers = await store.apply([notified(about(n), b"%d" % n) for n in order])
    assert [answer.payment and answer.payment.payment_request_id for answer in answers] == [
        f"order-{n}" for n in order
    ]
    events = (await whole_log(store))[5:]
    assert [event.payment.payment_request_id for event in events] == [
        f"order-{n}" for n in order[:5]
    ]


async def test_an_empty_batch_changes_nothing(store: PaymentStore) -> None:
    assert await store.apply([]) == []
    assert await whole_log(store) == []


# Told otherwise


async def test_a_fact_told_again_with_another_amount_is_kept_and_concludes_nothing(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact())])
    before = await the_payment(store)
    [applied] = await store.apply([notified(a_payment_fact(amount=Money("EUR", 1)), b"otherwise")])
    assert applied.outcome is AppliedOutcome.CONFLICT
    after = await the_payment(store)
    assert replace(after, inquiry_wanted=False, update_time=before.update_time) == before
    assert after.inquiry_wanted
    kept = await rows(store, "SELECT outcome FROM notifications WHERE outcome = 'CONFLICT'")
    assert len(kept) == 1


async def test_another_amount_or_currency_never_leads_to_money(store: PaymentStore) -> None:
    await numbered(store, 4)
    wrong = [Money("EUR", 99), Money("USD", 100), Money("EUR", 101), None]
    answers = await store.apply(
        [notified(replace(about(n), amount=amount)) for n, amount in enumerate(wrong)]
    )
    for answer, amount in zip(answers, wrong, strict=True):
        assert answer.event is not None
        assert answer.event.type is EventType.AMOUNT_MISMATCH
        assert answer.event.reported_amount == amount
        assert answer.event.payment.state is PaymentState.AWAITING_BUYER
        assert answer.event.payment.inquiry_wanted


async def test_an_inquiry_closes_what_a_mismatch_left_open(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(amount=Money("EUR", 99)))])
    [closed] = await store.apply([Member(a_payment_fact(source=Source.INQUIRY))])
    assert closed.outcome is APPLIED
    assert closed.payment is not None
    assert closed.payment.state is PaymentState.AUTHORIZED


async def test_an_inquiry_closes_whether_a_capture_is_expected(store: PaymentStore) -> None:
    await confirmed(store, capture_expected=None)
    [told] = await store.apply([notified(a_payment_fact())])
    assert told.payment is not None
    assert told.payment.state is PaymentState.PROCESSING
    inquiry = a_payment_fact(source=Source.INQUIRY, capture_expected=False)
    [closed] = await store.apply([Member(inquiry)])
    assert closed.payment is not None
    assert closed.payment.state is PaymentState.SUCCEEDED
    [again] = await store.apply([Member(inquiry)])
    assert again.outcome is DUPLICATE
    assert again.event == closed.event


async def test_a_notification_does_not_close_what_only_an_inquiry_may(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(amount=Money("EUR", 99)))])
    [again] = await store.apply([notified(a_payment_fact(), b"now right")])
    assert again.outcome is AppliedOutcome.CONFLICT
    assert again.payment is not None
    assert again.payment.state is PaymentState.AWAITING_BUYER


async def test_one_payment_id_belongs_to_one_payment(store: PaymentStore) -> None:
    await numbered(store, 2)
    await store.apply([notified(about(0))])
    stolen = replace(about(1, Outcome.PENDING), payment_id="P-0", fact_id="P-0")
    [applied] = await store.apply([notified(stolen)])
    assert applied.event is not None
    assert applied.event.type is EventType.CONTRADICTION
    other = await store.payment("default", payment_request_id="order-1")
    assert other is not None
    assert other.payment_id is None
    assert other.inquiry_wanted


# Orphans


async def test_news_of_an_unknown_payment_is_kept_as_an_orphan(store: PaymentStore) -> None:
    for fact in (a_payment_fact(), a_capture()):
        [applied] = await store.apply([notified(fact)])
        assert applied.outcome is ORPHANED
        assert applied.event is None
        [again] = await store.apply([notified(fact)])
        assert again.outcome is ORPHANED
    assert await whole_log(store) == []
    assert len(await rows(store, "SELECT 1 FROM facts WHERE orphan_state = 'WAITING'")) == 2


async def test_a_payment_adopts_the_captures_that_outran_it(store: PaymentStore) -> None:
    await confirmed(store)
    capture = notified(a_capture(), b"capture first")
    assert (await store.apply([capture]))[0].outcome is ORPHANED
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.payment is not None
    assert applied.payment.state is PaymentState.SUCCEEDED
    events = await whole_log(store)
    assert [event.type for event in events] == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    assert capture.notification is not None
    assert events[-1].notification_id == capture.notification.notification_id
    [again] = await store.apply([capture])
    assert again.outcome is DUPLICATE
    assert again.event == events[-1]
    [(outcome, event_id)] = await rows(
        store,
        "SELECT outcome, event_id FROM notifications WHERE notification_id = :id",
        id=capture.notification.notification_id,
    )
    assert (outcome, event_id) == ("APPLIED", events[-1].event_id)


async def test_an_orphan_is_not_adopted_by_another_merchants_payment(store: PaymentStore) -> None:
    await confirmed(store)
    theirs = replace(a_capture(), merchant_account="other")
    await store.apply([notified(theirs)])
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.payment is not None
    assert applied.payment.state is PaymentState.AUTHORIZED
    assert applied.payment.captures == ()


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
async def test_every_order_of_payment_and_captures_ends_succeeded_with_the_same_events(
    store: PaymentStore, together: bool
) -> None:
    orders = list(itertools.permutations(["payment", "C-1", "C-2"]))
    await numbered(store, len(orders))
    for n, order in enumerate(orders):
        parts = {
            "payment": about(n),
            "C-1": a_capture(capture_id=f"C-1-{n}", amount=Money("EUR", 60)),
            "C-2": a_capture(capture_id=f"C-2-{n}", amount=Money("EUR", 40)),
        }
        members = [notified(replace(parts[part], payment_id=f"P-{n}")) for part in order]
        for batch in [members] if together else [[member] for member in members]:
            await store.apply(batch)
        payment = await store.payment("default", payment_request_id=f"order-{n}")
        assert payment is not None
        assert payment.state is PaymentState.SUCCEEDED
        assert (payment.version, payment.captured_minor_units) == (4, 100)
    news = told_kinds(await whole_log(store))
    kinds = ["CAPTURE_SUCCEEDED", "CAPTURE_SUCCEEDED", "PAYMENT_AUTHORIZED", "SESSION_CREATED"]
    assert news == sorted((f"order-{n}", kind) for n in range(len(orders)) for kind in kinds)


# Not understood


async def test_a_notification_that_is_not_understood_is_kept_for_an_operator(
    store: PaymentStore, cipher: DataCipher
) -> None:
    body = b'{"notifyType": "NEWS", "ada@example.com": "\x00\xff\xed\xa0\x80"}'
    notification = a_notification(body)
    [applied] = await store.apply([Member(None, notification, not_understood="notifyType")])
    assert (applied.outcome, applied.event, applied.payment) == (QUARANTINED, None, None)
    kept = await rows(store, "SELECT reason, outcome, body FROM notifications")
    assert [tuple(row)[:2] for row in kept] == [("notifyType", "QUARANTINED")]
    stored = bytes(kept[0][2])
    assert b"ada@example.com" not in stored
    assert cipher.decrypt(stored) == body


async def test_the_same_quarantined_bytes_are_kept_once_and_counted(store: PaymentStore) -> None:
    members = [Member(None, a_notification(b"?"), not_understood="JSON") for _ in range(3)]
    for batch in (members[:1], members[1:]):
        answers = await store.apply(batch)
        assert {answer.outcome for answer in answers} == {QUARANTINED}
    assert await rows(store, "SELECT copies FROM notifications") == [(2,)]


async def test_a_poisoned_member_does_not_stop_the_others_of_its_batch(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    poisoned = Member(None, a_notification(b"\x00"), not_understood="JSON")
    answers = await store.apply([poisoned, notified(a_payment_fact())])
    assert [answer.outcome for answer in answers] == [QUARANTINED, APPLIED]


async def test_a_fact_that_is_held_back_is_applied_only_once_an_inquiry_agrees(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    old = Member(a_payment_fact(), a_notification(), not_understood="outside the window")
    [held] = await store.apply([old])
    assert (held.outcome, held.event) == (QUARANTINED, None)
    assert len(await whole_log(store)) == 1
    [applied] = await store.apply([Member(a_payment_fact(source=Source.INQUIRY))])
    assert applied.outcome is APPLIED
    [again] = await store.apply([old])
    assert again.outcome is DUPLICATE
    assert again.event == applied.event


async def test_time_of_telling_is_the_services_clock(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    told_time = clock.advance(60)
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.payment is not None
    assert applied.payment.update_time == told_time
