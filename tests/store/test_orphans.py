"""Orphans to their ends: adopted, foreign, unattributed; money news is never lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from antom_payments.fact import Outcome
from antom_payments.payment import EventType, PaymentState
from antom_payments.store import (
    UNADOPTED,
    AppliedOutcome,
    InquiryKind,
    OrphanState,
    PaymentStore,
    WantedInquiry,
)
from antom_payments.store.orphans import EndOfOrphan
from clock import FrozenClock
from facts import a_capture, a_payment_fact
from stored import confirmed, execute, notified, rows, the_payment, whole_log

FOREIGN, UNATTRIBUTED = OrphanState.FOREIGN, OrphanState.UNATTRIBUTED
ENDS = [FOREIGN, UNATTRIBUTED]


async def states(store: PaymentStore) -> dict[str, str]:
    """The state of each orphan, by its fact's id."""
    found = await rows(store, "SELECT fact_id, orphan_state FROM facts ORDER BY fact_id")
    return {fact_id: state for fact_id, state in found if state}


@pytest.mark.parametrize("end", ENDS)
async def test_all_waiting_facts_of_a_payment_id_end_together_and_once(
    store: PaymentStore, end: EndOfOrphan
) -> None:
    of_another = replace(a_capture(capture_id="C-3"), payment_id="P-2")
    of_others = replace(a_capture(capture_id="C-4"), merchant_account="other")
    told = [a_capture(), a_capture(capture_id="C-2"), of_another, of_others]
    await store.apply([notified(fact) for fact in told])
    assert await store.end_orphans("default", "P-1", end) == 2
    assert await store.end_orphans("default", "P-1", end) == 0
    assert await states(store) == {"C-1": end, "C-2": end, "C-3": "WAITING", "C-4": "WAITING"}


async def test_what_ended_is_not_concluded_otherwise(store: PaymentStore) -> None:
    await store.apply([notified(a_capture())])
    await store.end_orphans("default", "P-1", FOREIGN)
    assert await store.end_orphans("default", "P-1", UNATTRIBUTED) == 0
    assert await states(store) == {"C-1": FOREIGN}


@pytest.mark.parametrize("end", ENDS)
async def test_a_payment_that_appears_later_adopts_what_had_ended(
    store: PaymentStore, end: EndOfOrphan
) -> None:
    capture = notified(a_capture())
    await store.apply([capture])
    await store.end_orphans("default", "P-1", end)
    await confirmed(store)
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.payment is not None
    assert applied.payment.state is PaymentState.SUCCEEDED
    assert await states(store) == {"C-1": "ADOPTED"}
    assert await store.end_orphans("default", "P-1", end) == 0
    assert capture.notification is not None
    assert await rows(
        store,
        "SELECT outcome FROM notifications WHERE notification_id = :id",
        id=capture.notification.notification_id,
    ) == [("APPLIED",)]


async def test_a_resend_leaves_a_foreign_orphan_where_it_ended(store: PaymentStore) -> None:
    news = notified(a_capture(), b"the same bytes")
    await store.apply([news])
    await store.end_orphans("default", "P-1", FOREIGN)
    [again] = await store.apply([news])
    assert (again.outcome, again.wanted) == (AppliedOutcome.ORPHANED, None)
    assert await states(store) == {"C-1": FOREIGN}


async def test_news_of_an_unknown_payment_says_whom_to_ask_about(store: PaymentStore) -> None:
    [applied] = await store.apply([notified(a_capture())])
    assert applied.wanted == WantedInquiry("default", InquiryKind.ORPHAN, "P-1")


async def test_an_end_and_an_adoption_at_the_same_instant_leave_an_adopted_fact(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    await store.apply([notified(a_capture())])
    await asyncio.gather(
        store.end_orphans("default", "P-1", UNATTRIBUTED),
        store.apply([notified(a_payment_fact())]),
    )
    assert await states(store) == {"C-1": "ADOPTED"}
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED


# The local net


async def test_the_sweep_applies_news_that_outran_its_own_payment(store: PaymentStore) -> None:
    """The session's answer was lost or late: nothing else tells the payment of its news."""
    news = [notified(a_capture()), notified(a_payment_fact())]
    await store.apply(news)
    assert len(await store.sweep_orphans(10)) == 0
    await confirmed(store)
    # The payment's fact names the payment; it then adopts the capture.
    assert len(await store.sweep_orphans(10)) == 1
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED
    assert [event.type for event in await whole_log(store)] == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    assert len(await store.sweep_orphans(10)) == 0


@pytest.mark.parametrize("end", [None, *ENDS])
async def test_the_sweep_finds_the_payment_of_a_capture_by_its_payment_id(
    store: PaymentStore, end: EndOfOrphan | None
) -> None:
    await confirmed(store)
    await store.apply([notified(a_capture())])
    if end is not None:
        await store.end_orphans("default", "P-1", end)
    # As a restored database has it: the payment knows its paymentId, the fact was never applied.
    await execute(store, "UPDATE payments SET payment_id = 'P-1', state = 'AUTHORIZED'")
    assert len(await store.sweep_orphans(10)) == 1
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED
    assert await states(store) == {"C-1": "ADOPTED"}


async def test_sweeps_at_the_same_instant_make_one_event(store: PaymentStore) -> None:
    await store.apply([notified(a_payment_fact())])
    await confirmed(store)
    await asyncio.gather(*(store.sweep_orphans(10) for _ in range(5)))
    assert len(await whole_log(store)) == 2


async def test_what_no_payment_will_adopt_does_not_block_the_sweep(store: PaymentStore) -> None:
    """A fact that names another payment's request is nobody's, whoever has its paymentId."""
    astray = a_payment_fact(Outcome.PENDING, payment_request_id="nobody")
    await store.apply([notified(astray)])
    await store.apply([notified(a_payment_fact())])
    await confirmed(store)
    assert len(await store.sweep_orphans(1)) == 1
    assert len(await store.sweep_orphans(1)) == 0
    assert len(await whole_log(store)) == 2


# The list


async def test_orphans_are_listed_with_what_is_known_of_them(
    store: PaymentStore, clock: FrozenClock
) -> None:
    news = notified(a_capture())
    told_time = clock.now()
    await store.apply([news])
    clock.advance(1)
    await store.apply([notified(a_payment_fact(payment_id="P-2", fact_id="P-2"))])
    first, second = await store.back_office.orphans(UNADOPTED, 10, actor="ada")
    assert (first.kind, first.fact_id, first.outcome) == ("CAPTURE", "C-1", "SUCCEEDED")
    assert (first.payment_id, first.payment_request_id) == ("P-1", "")
    assert (first.state, first.event_id, first.told_time) == (OrphanState.WAITING, "", told_time)
    assert news.notification is not None
    assert first.notification_id == news.notification.notification_id
    assert second.payment_request_id == "order-1-attempt-1"
    assert await store.back_office.orphans(UNADOPTED, 1, actor="ada") == [first]
    await confirmed(store)
    assert len(await store.sweep_orphans(10)) == 1
    [adopted] = await store.back_office.orphans([OrphanState.ADOPTED], 10, actor="ada")
    assert adopted.fact_id == "P-2"
    assert adopted.event_id == (await whole_log(store))[-1].event_id
    assert await store.back_office.orphans([FOREIGN], 10, actor="ada") == []
