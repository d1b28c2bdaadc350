"""Group commit: what comes while a transaction is under way shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from antom_payments.errors import StoreUnavailable
from antom_payments.payment import EventType, PaymentState
from antom_payments.store import (
    AppliedOutcome,
    Confirmed,
    Member,
    PaymentStore,
)
from antom_payments.store.group_commit import GroupCommit
from facts import a_capture, a_notification, a_payment_fact
from store.transactions import Transactions, while_one_is_under_way
from stored import (
    SESSION,
    about,
    begun,
    confirmed,
    intended,
    notified,
    rows,
    the_payment,
    told_kinds,
    whole_log,
)


async def test_alone_a_call_is_a_transaction_of_its_own_at_once(
    store: PaymentStore, transactions: Transactions
) -> None:
    await intended(store, 3)
    before = transactions.count
    for n in range(3):
        [applied] = await store.apply([notified(about(n))])
        assert applied.outcome is AppliedOutcome.APPLIED
        assert transactions.count == before + n + 1


async def test_calls_that_come_during_a_transaction_share_the_next_one_in_their_order(
    store: PaymentStore, transactions: Transactions
) -> None:
    await intended(store, 20)
    before = transactions.count
    order = [*range(10, 20), *range(10)]
    answers = await while_one_is_under_way(
        store, transactions, *(store.apply([notified(about(n))]) for n in order)
    )
    assert transactions.count == before + 2
    told = [f"order-{n}" for n in order]
    assert [a[0].payment.payment_request_id for a in answers] == told  # type: ignore[index, union-attr] - none failed
    assert [event.payment.payment_request_id for event in await whole_log(store)] == told


async def test_fifty_copies_at_once_are_one_event_and_all_are_answered_with_it(
    store: PaymentStore, transactions: Transactions
) -> None:
    await confirmed(store)
    before = transactions.count
    copies = await asyncio.gather(
        *(store.apply([notified(a_payment_fact(), b"the same bytes")]) for _ in range(50))
    )
    assert transactions.count - before <= 2
    outcomes = [applied.outcome for [applied] in copies]
    assert outcomes == [AppliedOutcome.APPLIED] + [AppliedOutcome.DUPLICATE] * 49
    [_, event] = await whole_log(store)
    assert {applied.event and applied.event.event_id for [applied] in copies} == {event.event_id}


@pytest.mark.parametrize("is_capture_first", [True, False])
async def test_a_payment_and_its_capture_in_one_group_end_succeeded(
    store: PaymentStore, transactions: Transactions, is_capture_first: bool
) -> None:
    await confirmed(store)
    news = [notified(a_payment_fact()), notified(a_capture())]
    if is_capture_first:
        news.reverse()
    await while_one_is_under_way(store, transactions, *(store.apply([one]) for one in news))
    assert (await the_payment(store)).state is PaymentState.SUCCEEDED
    assert {kind for _, kind in told_kinds(await whole_log(store))} == {
        "SESSION_CREATED",
        "PAYMENT_AUTHORIZED",
        "CAPTURE_SUCCEEDED",
    }


async def test_answers_of_antom_about_sessions_share_the_transaction_with_notifications(
    store: PaymentStore, transactions: Transactions
) -> None:
    claims = [await begun(store, payment_request_id=f"order-{n}") for n in range(3)]
    before = transactions.count
    confirmed_one, refused, paid, twice = await while_one_is_under_way(
        store,
        transactions,
        store.confirm_session(claims[0], SESSION),
        store.refuse_session(claims[1], "PARAM_ILLEGAL"),
        store.apply([notified(about(2))]),
        store.confirm_session(claims[0], SESSION),
    )
    assert transactions.count == before + 2
    assert isinstance(confirmed_one, Confirmed)
    assert confirmed_one == twice
    assert confirmed_one.payment.state is PaymentState.AWAITING_BUYER
    assert isinstance(refused, tuple)
    failed, counts = refused
    assert counts
    assert (failed.state, failed.result_code) == (PaymentState.FAILED, "PARAM_ILLEGAL")
    assert isinstance(paid, list)
    assert [event.type for event in await whole_log(store)] == [
        EventType.SESSION_CREATED,
        EventType.SESSION_REFUSED,
        EventType.PAYMENT_AUTHORIZED,
    ]
    assert (await begun(store, payment_request_id="order-0")).session == SESSION
    leases = await rows(store, "SELECT lease_token FROM payments ORDER BY payment_request_id")
    assert leases == [(None,), (None,), (claims[2].lease_token,)]


async def test_a_session_and_the_buyers_payment_in_one_group_keep_what_was_reached(
    store: PaymentStore, transactions: Transactions
) -> None:
    claim = await begun(store)
    confirmed_one, _ = await while_one_is_under_way(
        store,
        transactions,
        store.confirm_session(claim, SESSION),
        store.apply([notified(a_payment_fact())]),
    )
    assert isinstance(confirmed_one, Confirmed)
    payment = confirmed_one.payment
    assert payment == await the_payment(store), "answered with all that was committed with it"
    assert (payment.state, payment.version) == (PaymentState.AUTHORIZED, 2)
    assert confirmed_one.event_id == (await whole_log(store))[-1].event_id, "of its last_sequence"


async def test_the_same_bytes_held_back_and_good_in_one_group_name_their_event_and_it_names_them(
    store: PaymentStore, transactions: Transactions
) -> None:
    await confirmed(store)
    stale = Member(a_payment_fact(), a_notification(b"same"), not_understood="outside_window")
    good = notified(a_payment_fact(), b"same")
    held, applied = await while_one_is_under_way(
        store, transactions, store.apply([stale]), store.apply([good])
    )
    assert isinstance(held, list)
    assert isinstance(applied, list)
    assert held[0].outcome is AppliedOutcome.QUARANTINED
    assert applied[0].outcome is AppliedOutcome.APPLIED
    event = (await whole_log(store))[-1]
    assert applied[0].event == event
    query = "SELECT notification_id, outcome, reason, event_id, copies FROM notifications"
    kept = [tuple(row) for row in await rows(store, f"{query} WHERE event_id IS NOT NULL")]
    assert kept == [(event.notification_id, "APPLIED", "", event.event_id, 1)]
    assert stale.notification is not None
    assert event.notification_id == stale.notification.notification_id
    facts = await rows(store, "SELECT notification_id FROM facts WHERE event_id IS NOT NULL")
    assert facts == [(event.notification_id,)]


# How groups are made


class Ledger:
    """Commits numbers: notes each group, and may be held."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go_on = asyncio.Event()

    async def commit(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        await self.go_on.wait()
        return [-number for number in numbers]


async def test_a_group_takes_the_calls_that_waited_longest_and_splits_none() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, most_members=4)
    calls = [asyncio.create_task(group.submit([0]))]
    await asyncio.sleep(0)
    members = [[1], [2, 3], [4, 5], [6], [7, 8, 9, 10, 11], [12]]
    calls += [asyncio.create_task(group.submit(numbers)) for numbers in members]
    await asyncio.sleep(0)
    ledger.go_on.set()
    answers = await asyncio.gather(*calls)
    assert ledger.groups == [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11], [12]]
    assert answers == [[-number for number in numbers] for numbers in [[0], *members]]


async def test_others_get_their_turn_between_groups_and_a_lone_call_never_waits_for_them() -> None:
    ledger = Ledger()
    paused, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        paused.set()
        await go_on.wait()

    group = GroupCommit(ledger.commit, pause=pause)
    ledger.go_on.set()
    for number in range(3):
        assert await group.submit([number]) == [-number]
    assert not paused.is_set()
    ledger.go_on.clear()
    calls = [asyncio.create_task(group.submit([3]))]
    await asyncio.sleep(0)
    calls.append(asyncio.create_task(group.submit([4])))
    await asyncio.sleep(0)
    ledger.go_on.set()
    await paused.wait()
    assert ledger.groups == [[0], [1], [2], [3]]
    go_on.set()
    assert await asyncio.gather(*calls) == [[-3], [-4]]
    await group.close()


async def test_a_group_commit_that_breaks_fails_whoever_waits_and_begins_anew() -> None:
    ledger = Ledger()
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1
        raise RuntimeError

    group = GroupCommit(ledger.commit, pause=pause)
    calls = [asyncio.create_task(group.submit([0]))]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(group.submit([number, number])) for number in (1, 2)]
    await asyncio.sleep(0)
    ledger.go_on.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert first == [0]
    assert [type(error) for error in others] == [StoreUnavailable, StoreUnavailable]
    assert (pauses, group.members_waiting) == (1, 0)
    assert await group.submit([3]) == [-3]
    await group.close()


async def test_answers_that_are_missing_fail_their_call_only() -> None:
    async def commit(numbers: Sequence[int]) -> list[int]:
        return [-number for number in numbers if number]

    group = GroupCommit(commit)
    with pytest.raises(StoreUnavailable):
        await group.submit([0])
    assert await group.submit([1]) == [-1]
    await group.close()
