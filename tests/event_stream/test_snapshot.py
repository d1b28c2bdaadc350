"""A snapshot, then live: nothing is missing at the seam, wherever it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from antom_payments.cursor import CursorSeal, Position, SnapshotPosition
from antom_payments.errors import CursorExpired, CursorInvalid, LogRewound
from antom_payments.event_stream import AfterCursor, BatchLimits, EventStream, Pace, Snapshot
from antom_payments.fact import Outcome
from antom_payments.payment import EventType, Payment
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentsPage, PaymentStore
from event_stream.faulty_log import FaultyLog
from event_stream.news import News, execute
from event_stream.replica import Replica, encode, state_of, streaming
from event_stream.watching import EVERYTHING, PATIENCE, tail_is_at_head
from stored import all_payments

SMALL = {
    "ring_events": 7,
    "page_events": 5,
    "page_reads": 2,
    "limits": BatchLimits(events=3),
}


@pytest.fixture
def news(store: PaymentStore) -> News:
    return News(store)


@pytest.fixture
async def stream(store: PaymentStore) -> AsyncIterator[EventStream]:
    async with streaming(store.log, **SMALL) as stream:
        yield stream


def states(payments: Sequence[Payment]) -> dict[tuple[str, str], tuple[int, str]]:
    """What a replica of everything must hold."""
    return {
        (payment.merchant_account, payment.payment_request_id): state_of(payment)
        for payment in payments
        if payment.version
    }


async def test_a_snapshot_is_every_payments_state_and_then_what_happens(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    await news.about("payment-3", "payment-3", "payment-7")
    replica = await (await Replica().join(stream)).until_snapshot_end()
    assert replica.payments == states(await all_payments(store))
    assert len(replica.told) == 20
    assert replica.told[-1]["key"] == ["default", "payment-7"]
    await news.about("payment-3", "payment-new")
    await replica.until_version(("default", "payment-new"), 1)
    assert replica.payments == states(await all_payments(store))
    assert replica.caught_up
    assert replica.snapshot_ends == 1


async def test_a_snapshot_of_nothing_ends_at_once_and_misses_nothing(
    news: News, stream: EventStream
) -> None:
    replica = await (await Replica().join(stream)).until_caught_up()
    assert (replica.told, replica.snapshot_ends) == ([], 1)
    await news.about("payment")
    await replica.until_version(("default", "payment"), 1)


async def test_an_intent_without_an_event_is_told_by_its_first_event(
    news: News, stream: EventStream
) -> None:
    await news._create("default", "intent")
    replica = await (await Replica().join(stream)).until_snapshot_end()
    assert replica.payments == {}
    await news.about("intent")
    await replica.until_version(("default", "intent"), 1)


async def test_snapshots_amid_changes_equal_the_payments_wherever_they_are_resumed(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    """One resumes after each message, on another replica of the service; one never; one checks."""
    keys = [f"payment-{n}" for n in range(12)]
    await news.about(*keys)
    over = asyncio.Event()

    async def change() -> None:
        number = 0
        while not over.is_set():
            await news.about(keys[number % 12], f"new-{number % 5}")
            number += 1

    changing = asyncio.create_task(change())
    async with streaming(store.log, **SMALL) as other:
        steady, restless, wary = Replica(), Replica(), Replica()
        await steady.join(stream)
        await wary.join(other)
        for turn in range(30):
            await restless.join((stream, other)[turn % 2])
            await restless.take(most=1 + turn % 3)
            await wary.take(0.0)
            await steady.take()
        over.set()
        await changing
        await tail_is_at_head(stream)
        for replica in (steady, restless, wary):
            await replica.join(stream)
            await replica.until_snapshot_end()
            await replica.until_caught_up()
            assert replica.payments == states(await all_payments(store))
            assert replica.snapshot_ends == 1


@pytest.mark.parametrize(
    "event_filter",
    [
        EventFilter(merchant_accounts=frozenset({"other"})),
        EventFilter(payment_request_ids=frozenset({"payment-1", "payment-8"})),
        EventFilter(
            merchant_accounts=frozenset({"other"}), payment_request_ids=frozenset({"payment-1"})
        ),
        EventFilter(merchant_accounts=frozenset({"nobody"})),
        EventFilter(final_states_only=True),
        EventFilter(types=frozenset({EventType.PAYMENT_SUCCEEDED})),
    ],
)
async def test_a_snapshot_has_the_payments_that_the_filter_admits(
    store: PaymentStore, news: News, stream: EventStream, event_filter: EventFilter
) -> None:
    """Types do not count: a payment has a state."""
    for merchant in ("default", "other"):
        await news.about(*(f"payment-{n}" for n in range(9)), merchant_account=merchant)
        await news.payment_is(Outcome.SUCCEEDED, "payment-5", merchant)
    replica = await (await Replica(event_filter).join(stream)).until_snapshot_end()
    merchants, ids = event_filter.merchant_accounts, event_filter.payment_request_ids
    assert set(replica.payments) == {
        (payment.merchant_account, payment.payment_request_id)
        for payment in await all_payments(store)
        if (merchants is None or payment.merchant_account in merchants)
        and (ids is None or payment.payment_request_id in ids)
        and (not event_filter.final_states_only or payment.state.is_final)
    }


async def test_payments_whose_events_were_pruned_are_in_the_snapshot_which_still_resumes(
    store: PaymentStore, news: News, stream: EventStream, database_url: str
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    replica = await Replica().join(stream)
    await replica.take()
    assert len(replica.told) == 3
    await execute(database_url, "DELETE FROM events WHERE sequence < 20")
    await replica.join(stream)
    await replica.until_snapshot_end()
    assert replica.payments == states(await all_payments(store))
    again = await (await Replica().join(stream)).until_snapshot_end()
    assert again.payments == replica.payments


async def test_a_place_in_a_snapshot_expires_with_the_head_that_it_was_read_at(
    store: PaymentStore, news: News, stream: EventStream, database_url: str
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    replica = await Replica().join(stream)
    await replica.take()
    await news.about("payment-1", "payment-2")
    await execute(database_url, "DELETE FROM events WHERE sequence < 22")
    async with streaming(store.log, **SMALL) as restarted:
        with pytest.raises(CursorExpired) as expired:
            await replica.join(restarted)
        assert expired.value.oldest_cursor == await restarted.cursor_after(0)
        # A new snapshot is the way on, and needs no more than what is there.
        fresh = await (await Replica().join(restarted)).until_caught_up()
    assert fresh.payments == states(await all_payments(store))


async def test_a_place_in_a_snapshot_of_a_lost_future_is_noticed(
    store: PaymentStore, news: News, stream: EventStream, database_url: str
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    replica = await Replica().join(stream)
    await replica.take()
    await execute(database_url, "DELETE FROM events WHERE sequence > 10")
    async with streaming(store.log, **SMALL) as restarted:
        with pytest.raises(LogRewound):
            await replica.join(restarted)
        await News(store).about(*(f"other-{n}" for n in range(15)))
        with pytest.raises(LogRewound):
            await replica.join(restarted)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET event_id = 'another' WHERE sequence = 20",
        "DELETE FROM events WHERE sequence > 10",
    ],
)
async def test_a_restore_in_the_middle_of_a_snapshot_ends_it_before_the_tail_sees_it(
    store: PaymentStore, news: News, database_url: str, statement: str
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    asleep = Pace(busy_seconds=3600, idle_seconds=3600)
    async with streaming(store.log, **{**SMALL, "pace": asleep}) as stream:
        replica = await Replica().join(stream)
        await replica.take()
        await execute(database_url, statement)
        with pytest.raises(LogRewound):
            await replica.until_snapshot_end()


async def test_a_database_that_is_down_makes_a_snapshot_wait(
    store: PaymentStore, news: News
) -> None:
    await news.about(*(f"payment-{n}" for n in range(8)))
    log = FaultyLog(store.log)
    async with streaming(log, **SMALL) as stream:
        replica = await Replica().join(stream)
        await replica.take()
        log.is_down = True
        taking = asyncio.create_task(replica.until_snapshot_end())
        await log.has_failed()
        log.is_down = False
        await taking
    assert replica.payments == states(await all_payments(store))


async def test_slow_subscribers_of_snapshots_hold_one_page_and_take_turns(
    store: PaymentStore, news: News
) -> None:
    await news.about(*(f"payment-{n}" for n in range(30)))
    log = FaultyLog(store.log)
    async with streaming(log, **SMALL) as stream:
        replicas = [await Replica().join(stream) for _ in range(6)]
        await asyncio.gather(*(replica.take() for replica in replicas))
        idle, *reading = replicas
        await news.about(*(f"payment-{n}" for n in range(15)))
        await asyncio.gather(*(replica.until_snapshot_end() for replica in reading))
        assert log.most_at_once <= 2
        assert len(idle.told) == 3
        # What changed before it was told comes by its events.
        await idle.until_snapshot_end()
        assert len(idle.told) == 20  # the page that it held, and what has not changed
        for number in range(15):
            await idle.until_version(("default", f"payment-{number}"), 2)
    assert idle.payments == states(await all_payments(store))


async def test_a_snapshot_ends_while_payments_change_faster_than_it_is_taken(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    keys = [f"payment-{n:02}" for n in range(40)]
    await news.about(*keys)
    replica = await Replica().join(stream)
    for turn in range(20):
        await replica.take(most=2)
        if replica.snapshot_ends:
            break
        await news.about(*(keys[(3 * turn + n) % 40] for n in range(3)))
    assert replica.snapshot_ends == 1
    await tail_is_at_head(stream)
    await (await replica.join(stream)).until_caught_up()
    assert replica.payments == states(await all_payments(store))


async def test_a_payment_that_changes_by_an_event_that_is_not_wanted_is_in_the_snapshot(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    keys = [f"payment-{n}" for n in range(8)]
    await news.about(*keys)
    replica = await Replica(EventFilter(types=frozenset({EventType.PAYMENT_SUCCEEDED}))).join(
        stream
    )
    await replica.take()
    await news.about(*keys)
    await replica.until_snapshot_end()
    assert replica.payments == states(await all_payments(store))


async def test_a_place_in_a_snapshot_is_of_its_filter_alone(
    news: News, stream: EventStream
) -> None:
    await news.about(*(f"payment-{n}" for n in range(8)))
    wanted = EventFilter(merchant_accounts=frozenset({"default", "other"}))
    replica = await Replica(wanted).join(stream)
    await replica.take()
    for other in (
        EVERYTHING,
        EventFilter(merchant_accounts=frozenset({"default"})),
        EventFilter(payment_request_ids=frozenset({"default", "other"})),
        EventFilter(wanted.merchant_accounts, final_states_only=True),
        EventFilter(wanted.merchant_accounts, types=frozenset(EventType)),
    ):
        with pytest.raises(CursorInvalid):
            await stream.subscribe(AfterCursor(replica.cursor), other)
    same = EventFilter(merchant_accounts=frozenset({"other", "default"}))
    (await stream.subscribe(AfterCursor(replica.cursor), same)).close()
    await replica.until_snapshot_end()
    # Past its end it is a place in the log, for everybody.
    (await stream.subscribe(AfterCursor(replica.cursor), EVERYTHING)).close()


async def test_what_another_process_appended_an_instant_ago_is_in_the_snapshot_and_not_repeated(
    store: PaymentStore, news: News
) -> None:
    asleep = Pace(busy_seconds=3600, idle_seconds=3600)
    stream = EventStream(store.log, encode=encode, pace=asleep)  # and its tail does not run
    await tail_is_at_head(stream)
    await news.about("payment", "payment")
    replica = await (await Replica().join(stream)).until_caught_up()
    assert replica.payments == states(await all_payments(store))
    await news.about("payment")
    await tail_is_at_head(stream)
    await replica.until_version(("default", "payment"), 3)
    replica.leave()


async def test_what_is_appended_once_the_last_page_was_read_is_told_after_the_snapshot(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    await news.about("payment")
    read = store.log.payments

    async def overtaken(*place: Any, **options: Any) -> PaymentsPage:
        page = await read(*place, **options)
        await news.about("payment")
        return page

    store.log.payments = overtaken  # type: ignore[method-assign]
    replica = await (await Replica().join(stream)).until_snapshot_end()
    assert replica.cursor == await stream.cursor_after(1)
    await replica.until_version(("default", "payment"), 2)
    replica.leave()


async def test_a_checkpoint_within_a_snapshot_is_a_place_in_it_and_has_no_lag(
    news: News, stream: EventStream
) -> None:
    await news.about(*(f"payment-{n}" for n in range(8)))
    subscription = await stream.subscribe(Snapshot(), EVERYTHING)
    assert subscription.lag_seconds() is None
    batch = await subscription.next(PATIENCE)
    assert batch is not None
    assert subscription.checkpoint_cursor() == batch.cursor
    while (batch := await subscription.next(PATIENCE)) and not batch.snapshot_end:
        # The end of a snapshot is only where it was said.
        assert len(subscription.checkpoint_cursor()) > 46
    assert len(subscription.checkpoint_cursor()) == 46
    assert subscription.lag_seconds() == 0
    subscription.close()


async def test_garbled_places_in_a_snapshot_are_invalid(
    store: PaymentStore, stream: EventStream
) -> None:
    seal = CursorSeal(store.log.cursor_key, store.log.log_id)
    cursor = seal.seal(SnapshotPosition(0, Position(0, bytes(8)), EVERYTHING.identity()))
    for text in (cursor[:-1], cursor[::-1], cursor + "A"):
        with pytest.raises(CursorInvalid):
            await stream.subscribe(AfterCursor(text), EVERYTHING)
    (await stream.subscribe(AfterCursor(cursor), EVERYTHING)).close()
