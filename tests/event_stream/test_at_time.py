"""Starting at a time: the first event that is not before it, or the one after the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antom_payments.errors import CursorExpired
from antom_payments.event_stream import AtTime, EventStream
from antom_payments.payment_event import PaymentEvent
from antom_payments.store import PaymentStore
from event_stream.memory_log import START, MemoryLog, event_of
from event_stream.news import News, execute
from event_stream.watching import EVERYTHING, AfterCursor, Watcher, encode, running, tail_is_at_head

TICK = timedelta(microseconds=1)


@pytest.fixture
def news(store: PaymentStore) -> News:
    return News(store)


@pytest.fixture
async def stream(store: PaymentStore) -> AsyncIterator[EventStream]:
    async with running(store.log, ring_events=7, page_events=5) as stream:
        yield stream


async def spread(database_url: str, news: News, count: int = 20) -> list[datetime]:
    """Events a second apart, but for each fourth, which has the time of the one before."""
    events = await news.about(*(f"payment-{n}" for n in range(count)))
    times = [START + timedelta(seconds=n - (n % 4 == 3)) for n in range(len(events))]
    for n, time in enumerate(times, 1):
        zone = "" if database_url.startswith("sqlite") else "+00"
        await execute(
            database_url,
            f"UPDATE events SET append_time = '{time:%Y-%m-%d %H:%M:%S.%f}{zone}'"
            f" WHERE sequence = {n}",
        )
    return times


async def test_a_stream_starts_with_the_first_event_that_is_not_before_the_time(
    news: News, stream: EventStream, database_url: str
) -> None:
    times = await spread(database_url, news)
    for time in {*times, *(time + TICK for time in times), *(time - TICK for time in times)}:
        due = [n for n, found in enumerate(times, 1) if found >= time]
        watcher = await (await Watcher.start(stream, AtTime(time))).until_caught_up()
        assert watcher.sequences == due
        watcher.close()


async def test_any_time_before_the_first_event_is_the_logs_start(
    news: News, stream: EventStream
) -> None:
    await news.about("payment", "payment-2")
    for time in (datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)):
        watcher = await (await Watcher.start(stream, AtTime(time))).until_caught_up()
        assert watcher.sequences == [1, 2]


async def test_a_time_that_lies_ahead_starts_at_the_head_and_skips_nothing(
    news: News, stream: EventStream
) -> None:
    for ahead in (datetime.now(UTC) + timedelta(days=1), datetime.max.replace(tzinfo=UTC)):
        events = await news.about("payment")
        watcher = await (await Watcher.start(stream, AtTime(ahead))).until_caught_up()
        assert watcher.sequences == []
        assert watcher.cursor == stream.cursor_at(events[-1].sequence, events[-1].event_id)
        await news.about("payment")
        await watcher.until_sequence(events[-1].sequence + 1)


async def test_what_another_process_appends_while_the_time_is_looked_up_is_not_skipped(
    store: PaymentStore, news: News
) -> None:
    """The head is looked up first, and nothing after it is passed over."""
    stream = EventStream(store.log, encode=encode)  # its tail does not run
    await news.about("payment")
    looked_up = store.log.first_since

    async def late(time: datetime) -> int:
        found = await looked_up(time)
        await news.about("payment")
        return found

    store.log.first_since = late  # type: ignore[method-assign]
    ahead = AtTime(datetime.now(UTC) + timedelta(days=1))
    watcher = await Watcher.start(stream, ahead)
    store.log.first_since = looked_up  # type: ignore[method-assign]
    await tail_is_at_head(stream)
    await news.about("payment")
    resumed = await Watcher.start(stream, AfterCursor(watcher.cursor))
    await tail_is_at_head(stream)
    assert (await resumed.until_sequence(3)).sequences == [2, 3]


async def test_a_time_before_what_is_kept_expires_with_the_oldest_cursor(
    news: News, stream: EventStream, database_url: str
) -> None:
    times = await spread(database_url, news)
    await execute(database_url, "DELETE FROM events WHERE sequence < 12")
    # The pruned ones may be of the oldest one's very time.
    for time in (times[0], times[10], times[11]):
        with pytest.raises(CursorExpired) as expired:
            await stream.subscribe(AtTime(time), EVERYTHING)
        oldest = AfterCursor(expired.value.oldest_cursor)
        resumed = await Watcher.start(stream, oldest)
        assert (await resumed.until_sequence(20)).sequences[0] == 12
    watcher = await Watcher.start(stream, AtTime(times[11] + TICK))
    assert (await watcher.until_sequence(20)).sequences[0] == 13


async def test_an_empty_log_has_no_time_and_starts_with_its_first_event(
    news: News, stream: EventStream
) -> None:
    watcher = await (await Watcher.start(stream, AtTime(START))).until_caught_up()
    await news.about("payment")
    await watcher.until_sequence(1)


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(0, 30),
    st.integers(-2, 60),
)
async def test_halving_finds_what_looking_at_every_event_finds(
    gaps: list[int], pruned: int, second: int
) -> None:
    log = MemoryLog()
    time = START
    for gap in gaps:
        time += timedelta(seconds=gap)
        event = log.append(event_of())
        log.events[log.head] = _at(event, time)
    log.prune(pruned)
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    due = [
        n
        for n, event in log.events.items()
        if event.append_time and event.append_time >= START + timedelta(seconds=second)
    ]
    start = AtTime(START + timedelta(seconds=second))
    if due and due[0] == log._oldest > 1:
        with pytest.raises(CursorExpired):
            await stream.subscribe(start, EVERYTHING)
        return
    watcher = await (await Watcher.start(stream, start)).until_caught_up()
    assert watcher.sequences == due
    watcher.close()
    await asyncio.sleep(0)


def _at(event: PaymentEvent, time: datetime) -> PaymentEvent:
    return replace(event, append_time=time)
