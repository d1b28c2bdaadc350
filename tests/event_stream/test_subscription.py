"""One subscriber among others: history, live, batches, and nobody slows anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from antom_payments.event_stream import BatchLimits, EventStream
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentStore
from event_stream.faulty_log import FaultyLog
from event_stream.memory_log import MemoryLog, event_of
from event_stream.news import News
from event_stream.watching import (
    AfterCursor,
    Earliest,
    Latest,
    Watcher,
    encode,
    running,
    tail_is_at_head,
)

A = EventFilter(payment_request_ids=frozenset({"a"}))
B = EventFilter(payment_request_ids=frozenset({"b"}))


@pytest.fixture
def news(store: PaymentStore) -> News:
    return News(store)


@pytest.fixture
def log(store: PaymentStore) -> FaultyLog:
    return FaultyLog(store.log)


@pytest.fixture
async def stream(log: FaultyLog) -> AsyncIterator[EventStream]:
    """A stream with a ring of three events, and pages of four."""
    async with running(log, ring_events=3, page_events=4, page_reads=2) as stream:
        yield stream


async def test_caught_up_comes_once_after_history_and_before_what_is_live(
    news: News, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d", "e")
    watcher = await Watcher.start(stream, Earliest())
    await news.about("f", "g")
    await tail_is_at_head(stream)
    while not watcher.caught_up:
        batch = await watcher.take()
    assert batch is not None
    assert (batch.data, batch.events, batch.cursor) == (b"", 0, watcher.seen[-1].cursor)
    assert watcher.sequences == [1, 2, 3, 4, 5]
    await watcher.until_sequence(7)
    assert await watcher.take(0.001) is None
    assert watcher.caught_up == 1


@pytest.mark.parametrize("start", [Earliest(), Latest()])
async def test_caught_up_comes_at_once_on_an_empty_log(stream: EventStream, start: object) -> None:
    watcher = await Watcher.start(stream, start)
    batch = await watcher.take(0)
    assert batch is not None
    assert batch.caught_up
    resumed = await Watcher.start(stream, AfterCursor(batch.cursor))
    assert (await resumed.until_caught_up()).cursor == batch.cursor


async def test_events_that_are_there_come_without_waiting(news: News, stream: EventStream) -> None:
    watcher = await (await Watcher.start(stream, Latest())).until_caught_up()
    await news.about("a", "b", "c")
    await tail_is_at_head(stream)
    assert await watcher.take(0) is not None
    assert watcher.sequences == [1, 2, 3]
    assert await watcher.take(0) is None


async def test_a_batch_holds_what_fits_by_count(news: News, log: FaultyLog) -> None:
    await news.about(*(f"p-{n}" for n in range(10)))
    async with running(log, limits=BatchLimits(events=4)) as stream:
        watcher = await Watcher.start(stream, Earliest())
        sizes = [(await watcher.take()).events for _ in range(3)]  # type: ignore[union-attr]
        assert sizes == [4, 4, 2]


async def test_a_batch_holds_what_fits_by_size_and_a_large_event_goes_alone(
    news: News, log: FaultyLog
) -> None:
    await news.about("p" * 40, "p" * 41, "q", "r", "s", "p" * 42)
    for ring_events in (1, 100):  # from pages, and from the ring
        limits = BatchLimits(size_bytes=350)
        async with running(log, limits=limits, ring_events=ring_events) as stream:
            oldest = await stream.cursor_after(0)
            watcher = await Watcher.start(stream, AfterCursor(oldest))
            await watcher.until_sequence(6)
            assert watcher.sequences == [1, 2, 3, 4, 5, 6]
        async with running(log, limits=BatchLimits(size_bytes=1)) as stream:
            watcher = await Watcher.start(stream, Earliest())
            for sequence in range(1, 7):
                batch = await watcher.take()
                assert batch is not None
                assert (batch.events, watcher.sequences[-1]) == (1, sequence)


async def test_one_who_catches_up_does_not_hold_up_the_others(
    news: News, log: FaultyLog, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d", "e")
    door = log.hold(A)
    stuck = [await Watcher.start(stream, Earliest(), A) for _ in range(5)]
    taking = [asyncio.create_task(watcher.until_sequence(1)) for watcher in stuck]
    live = await Watcher.start(stream, Latest())
    await news.about("f")
    assert (await live.until_sequence(6)).sequences == [6]
    assert all(watcher.seen == [] for watcher in stuck)
    door.set()
    await asyncio.gather(*taking)
    assert all(watcher.sequences == [1] for watcher in stuck)


async def test_few_pages_are_read_at_once_however_many_catch_up(
    news: News, log: FaultyLog, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d", "e")
    watchers = [await Watcher.start(stream, Earliest(), A) for _ in range(20)]
    await asyncio.gather(*(watcher.until_caught_up() for watcher in watchers))
    assert all(watcher.sequences == [1] for watcher in watchers)
    assert log.most_at_once == 2


async def test_a_slow_page_does_not_hold_up_the_checkpoint_and_is_not_read_again(
    news: News, log: FaultyLog, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d", "e")
    door = log.hold(A)
    watcher = await Watcher.start(stream, Earliest(), A)
    start = watcher.subscription.checkpoint_cursor()
    for _ in range(3):
        assert await watcher.take(0.001) is None
        assert watcher.subscription.checkpoint_cursor() == start
    door.set()
    assert (await watcher.until_caught_up()).sequences == [1]
    assert log.pages[A] == 1


async def test_a_cancelled_wait_loses_nothing(
    news: News, log: FaultyLog, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d", "e")
    door = log.hold(A)
    watcher = await Watcher.start(stream, Earliest(), A)
    for _ in range(3):
        taking = asyncio.create_task(watcher.take())
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
    door.set()
    assert (await watcher.until_caught_up()).sequences == [1]
    taking = asyncio.create_task(watcher.take())
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await news.about("a")
    assert (await watcher.until_sequence(6)).sequences == [1, 6]


async def test_a_closed_subscriber_is_forgotten(
    news: News, log: FaultyLog, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d", "e")
    log.hold(A)
    live = await Watcher.start(stream, Latest())
    reading = [await Watcher.start(stream, Earliest(), A) for _ in range(3)]
    for watcher in reading:
        assert await watcher.take(0.001) is None
    assert stream.subscribers == 4
    for watcher in (live, *reading, *reading):
        watcher.close()
    assert stream.subscribers == 0
    # What it was reading gave its turn back.
    others = [await Watcher.start(stream, Earliest(), B) for _ in range(3)]
    await asyncio.gather(*(other.until_sequence(2) for other in others))


async def test_whoever_falls_behind_the_ring_reads_pages_and_misses_nothing(
    news: News, stream: EventStream
) -> None:
    idle = await (await Watcher.start(stream, Latest())).until_caught_up()
    for _ in range(5):
        await news.about("a", "b", "c", "d", "e")
        await tail_is_at_head(stream)
    assert (await idle.until_sequence(25)).sequences == list(range(1, 26))
    assert idle.caught_up == 1


async def test_who_was_not_woken_needs_no_page_though_the_ring_went_round(
    news: News, log: FaultyLog, stream: EventStream
) -> None:
    watcher = await (await Watcher.start(stream, Latest(), A)).until_caught_up()
    for _ in range(4):
        await news.about("b", "c", "d", "e", "f")
    await news.about("a")
    await tail_is_at_head(stream)
    assert await watcher.take(0) is not None
    assert watcher.sequences == [21]
    assert log.pages[A] == 0


async def test_nothing_is_handed_out_that_the_tail_has_not_read() -> None:
    log = MemoryLog()
    for _ in range(10):
        log.append(event_of())
    stream = EventStream(log, encode=encode, ring_events=2)  # type: ignore[arg-type]
    watcher = await Watcher.start(stream, Earliest())  # and its tail does not run
    for _ in range(10):
        log.append(event_of())
    await watcher.until_caught_up()
    assert watcher.sequences == list(range(1, 11))
    assert await watcher.take(0.001) is None
    await tail_is_at_head(stream)
    assert (await watcher.until_sequence(20)).sequences == list(range(1, 21))


async def test_lag_is_how_much_older_the_place_is_than_the_newest_event() -> None:
    log = MemoryLog()  # appends one event a second
    for _ in range(6):
        log.append(event_of())
    log.prune(3)
    async with running(log, ring_events=2, page_events=3, limits=BatchLimits(events=2)) as stream:
        watcher = await Watcher.start(stream, Earliest())
        # Nothing delivered yet: as old as the oldest event kept, which is the third.
        assert watcher.subscription.lag_seconds() == 3
        for sequence, lag in ((4, 2), (5, 1), (6, 0)):
            await watcher.until_sequence(sequence)
            assert watcher.subscription.lag_seconds() == lag
        await watcher.until_caught_up()
        log.append(event_of())
        await tail_is_at_head(stream)
        assert watcher.subscription.lag_seconds() == 1
        await watcher.until_sequence(7)
        assert watcher.subscription.lag_seconds() == 0
