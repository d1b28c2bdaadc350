"""The process's one reader of the log: outages, holes, a log restored under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import ProgrammingError

from antom_payments.errors import (
    CursorError,
    CursorExpired,
    LogCorrupt,
    LogRewound,
    StoreUnavailable,
)
from antom_payments.event_stream import EventStream
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import PaymentStore
from event_stream.faulty_log import FaultyLog
from event_stream.memory_log import MemoryLog, event_of
from event_stream.news import News, execute
from event_stream.watching import (
    EVERYTHING,
    PATIENCE,
    AfterCursor,
    Earliest,
    Latest,
    Watcher,
    encode,
    running,
    tail_is_at_head,
)


@pytest.fixture
def news(store: PaymentStore) -> News:
    return News(store)


@pytest.fixture
def log(store: PaymentStore) -> FaultyLog:
    return FaultyLog(store.log)


@pytest.fixture
async def stream(log: FaultyLog) -> AsyncIterator[EventStream]:
    async with running(log, ring_events=5, page_events=4) as stream:
        yield stream


def lose(first: int, last: int = 10**9) -> str:
    """What a restore, or worse, does to the log."""
    return f"DELETE FROM events WHERE sequence BETWEEN {first} AND {last}"


async def test_an_outage_only_delays(log: FaultyLog, news: News, stream: EventStream) -> None:
    live = await (await Watcher.start(stream, Latest())).until_caught_up()
    behind = await Watcher.start(stream, Earliest())
    await news.about("a", "b")
    await live.until_sequence(2)
    log.is_down = True
    for _ in range(5):
        await log.has_failed()
    await news.about("c", "d", "e", "f", "g", "h", "i")
    before = live.subscription.checkpoint_cursor()
    assert await live.take(0.001) is None
    assert live.subscription.checkpoint_cursor() == before
    log.is_down = False
    for watcher in (live, behind):
        await watcher.until_sequence(9)
        assert watcher.sequences == list(range(1, 10))


async def test_an_outage_delays_pages_too(log: FaultyLog, news: News, stream: EventStream) -> None:
    await news.about(*(f"payment-{n}" for n in range(12)))
    watcher = await Watcher.start(stream, Earliest())
    await watcher.take()
    log.is_down = True
    taking = asyncio.create_task(watcher.until_sequence(12))
    for _ in range(5):
        await log.has_failed()
    log.is_down = False
    assert (await taking).sequences == list(range(1, 13))


async def test_a_tail_that_starts_in_an_outage_starts_after_it(
    store: PaymentStore, news: News
) -> None:
    log = FaultyLog(store.log)
    log.is_down = True
    async with running(log) as stream:
        for _ in range(3):
            await log.has_failed()
        log.is_down = False
        watcher = await Watcher.start(stream, Earliest())
        await news.about("a")
        assert (await watcher.until_sequence(1)).sequences == [1]


@pytest.mark.parametrize(
    "error", [ValueError("odd"), ProgrammingError("SELECT", {}, Exception("no such table"))]
)
async def test_an_error_that_nobody_expects_is_told_and_survived(
    log: FaultyLog, news: News, stream: EventStream, error: Exception
) -> None:
    await news.about("a")
    watcher = await (await Watcher.start(stream, Earliest())).until_sequence(1)
    log.broken = error
    with pytest.raises(StoreUnavailable):
        await watcher.until_sequence(2)
    for _ in range(3):
        await log.has_failed()
    await news.about("b")
    log.broken = None
    resumed = await Watcher.start(stream, AfterCursor(watcher.cursor))
    assert (await resumed.until_sequence(2)).sequences == [2]


async def test_a_hole_ends_every_stream_loudly_and_nothing_goes_past_it(
    database_url: str, news: News, stream: EventStream
) -> None:
    await news.about("a", "b")
    watchers = [
        await (await Watcher.start(stream, Latest(), event_filter)).until_caught_up()
        for event_filter in (EVERYTHING, EventFilter(payment_request_ids=frozenset({"z"})))
    ]
    await execute(database_url, "UPDATE events SET sequence = sequence + 10 WHERE sequence = 2")
    for watcher in watchers:
        with pytest.raises(LogCorrupt):
            await watcher.until_sequence(3)
        assert watcher.seen == []


async def test_a_hole_is_looked_at_again_and_never_skipped() -> None:
    log = MemoryLog()
    log.append(event_of())
    async with running(log) as stream:
        watcher = await (await Watcher.start(stream, Earliest())).until_caught_up()
        missing = log.append(event_of())
        del log.events[2]
        log.append(event_of())
        with pytest.raises(LogCorrupt):
            await watcher.until_sequence(3)
        assert watcher.sequences == [1]
        for start in (Earliest(), Latest(), AfterCursor(watcher.cursor)):
            with pytest.raises(LogCorrupt):
                await stream.subscribe(start, EVERYTHING)
        with pytest.raises(LogCorrupt):
            await watcher.take(0)
        log.events[2] = missing
        while True:
            try:
                resumed = await Watcher.start(stream, AfterCursor(watcher.cursor))
                break
            except LogCorrupt:
                await asyncio.sleep(0)
        assert (await resumed.until_sequence(3)).sequences == [2, 3]


async def test_a_hole_in_history_ends_those_who_need_it() -> None:
    log = MemoryLog()
    for _ in range(20):
        log.append(event_of())
    del log.events[5]
    del log.events[10]
    async with running(log, ring_events=2, page_events=3) as stream:
        watcher = await Watcher.start(stream, Earliest())
        with pytest.raises(LogCorrupt):
            await watcher.until_sequence(20)
        # A filtered read cannot see the hole, but it does not rest on it either.
        other = EventFilter(payment_request_ids=frozenset({"other"}))
        filtered = await Watcher.start(stream, Earliest(), other)
        assert (await filtered.until_caught_up()).seen == []
        live = await (await Watcher.start(stream, Latest())).until_caught_up()
        log.append(event_of())
        assert (await live.until_sequence(21)).sequences == [21]


async def test_a_page_that_ends_in_a_hole_is_refused() -> None:
    log = MemoryLog()
    for _ in range(6_000):
        log.append(event_of())
    del log.events[5_000]  # where the first window ends
    async with running(log, ring_events=2) as stream:
        nothing = EventFilter(types=frozenset())
        watcher = await Watcher.start(stream, Earliest(), nothing)
        with pytest.raises(LogCorrupt):
            await watcher.until_caught_up()


async def test_a_log_that_went_back_is_noticed(
    database_url: str, news: News, stream: EventStream
) -> None:
    await news.about("a", "b", "c", "d")
    witness = await Watcher.start(stream, Latest())
    watcher = await (await Watcher.start(stream, Earliest())).until_sequence(4)
    await execute(database_url, lose(3))
    for follower in (watcher, witness):
        with pytest.raises(LogRewound):
            await follower.until_sequence(5)
        with pytest.raises(LogRewound):
            await follower.take(0)
    assert stream.subscribers == 0
    for seen in watcher.seen[2:]:
        with pytest.raises(LogRewound):
            await stream.subscribe(AfterCursor(seen.cursor), EVERYTHING)
    resumed = await Watcher.start(stream, AfterCursor(watcher.seen[0].cursor))
    await news.about("e")
    assert (await resumed.until_sequence(3)).sequences == [2, 3]


async def test_a_log_that_went_back_and_grew_past_the_old_head_is_noticed(
    database_url: str, log: FaultyLog, news: News, stream: EventStream
) -> None:
    await news.about("a", "b", "c")
    watcher = await (await Watcher.start(stream, Earliest())).until_sequence(3)
    old = list(watcher.seen)
    log.is_down = True
    await log.has_failed()
    await execute(database_url, lose(2))
    await news.about("d", "e", "f", "g")
    log.is_down = False
    with pytest.raises(LogRewound):
        await watcher.until_sequence(4)
    assert watcher.seen == old
    for seen in old[1:]:
        with pytest.raises(LogRewound):
            await stream.subscribe(AfterCursor(seen.cursor), EVERYTHING)
    resumed = await (await Watcher.start(stream, AfterCursor(old[0].cursor))).until_sequence(5)
    assert [seen.payment_request_id for seen in resumed.seen] == ["d", "e", "f", "g"]


async def test_a_log_that_was_emptied_is_noticed(
    database_url: str, news: News, stream: EventStream
) -> None:
    await news.about("a", "b", "c")
    watcher = await (await Watcher.start(stream, Earliest())).until_sequence(3)
    await execute(database_url, lose(1))
    with pytest.raises(LogRewound):
        await watcher.until_sequence(4)
    with pytest.raises(LogRewound):
        await stream.subscribe(AfterCursor(watcher.cursor), EVERYTHING)
    fresh = await (await Watcher.start(stream, Earliest())).until_caught_up()
    await news.about("d")
    assert (await fresh.until_sequence(1)).sequences == [1]


async def test_a_page_of_a_log_that_went_back_is_not_believed() -> None:
    log = MemoryLog()
    for _ in range(10):
        log.append(event_of())
    stream = EventStream(log, encode=encode, ring_events=2, page_events=3)  # type: ignore[arg-type]
    watcher = await Watcher.start(stream, Earliest())  # and its tail does not run
    for sequence in range(4, 11):
        del log.events[sequence]
    log.head = 3
    with pytest.raises(LogRewound):
        await watcher.until_sequence(10)


async def test_a_tail_that_slept_longer_than_retention_says_so() -> None:
    log = MemoryLog()
    log.append(event_of())
    stream = EventStream(log, encode=lambda *_: b"event")  # type: ignore[arg-type]
    watching = await stream.subscribe(Latest(), EVERYTHING)
    for _ in range(10):
        log.append(event_of())
    log.prune(8)
    again = await stream.subscribe(Latest(), EVERYTHING)
    with pytest.raises(CursorExpired) as expired:
        await watching.next(0)
    assert (await again.next(0)).caught_up  # type: ignore[union-attr]
    resumed = await stream.subscribe(AfterCursor(expired.value.oldest_cursor), EVERYTHING)
    batch = await resumed.next(1)
    assert batch is not None
    assert batch.events == 4


async def test_a_tail_that_slept_from_the_start_of_the_log_says_so_too() -> None:
    log = MemoryLog()
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    watching = await Watcher.start(stream, Latest())
    for _ in range(10):
        log.append(event_of())
    log.prune(8)
    await stream.subscribe(Latest(), EVERYTHING)
    with pytest.raises(CursorExpired) as expired:
        await watching.until_sequence(10)
    assert watching.seen == []
    resumed = await Watcher.start(stream, AfterCursor(expired.value.oldest_cursor))
    assert (await resumed.until_sequence(10)).sequences == [8, 9, 10]


async def test_a_checkpoint_never_jumps_over_what_a_subscriber_lost() -> None:
    log = MemoryLog()
    log.append(event_of())
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    watching = await (await Watcher.start(stream, Latest())).until_caught_up()
    before = watching.subscription.checkpoint_cursor()
    for _ in range(10):
        log.append(event_of())
    log.prune(8)
    await stream.subscribe(Latest(), EVERYTHING)
    assert watching.subscription.checkpoint_cursor() == before
    with pytest.raises(CursorExpired):
        await watching.take()
    assert watching.subscription.checkpoint_cursor() == before


async def test_a_restored_log_is_told_also_when_the_database_fails_just_then(
    database_url: str, log: FaultyLog, news: News, stream: EventStream
) -> None:
    await news.about("a", "b", "c")
    watcher = await (await Watcher.start(stream, Latest())).until_caught_up()
    log.bounds_fail = True  # asked for only when the tail starts anew
    await execute(database_url, lose(3))
    await log.has_failed()
    log.bounds_fail = False
    with pytest.raises(LogRewound):
        await watcher.until_sequence(4)


async def test_a_log_restored_while_a_cursor_is_looked_up_is_noticed() -> None:
    class RestoredLog(MemoryLog):
        """Goes back to the fourth event, and on, while the fifth is being read."""

        is_restored = False

        async def event(self, sequence: int) -> PaymentEvent | None:
            found = await super().event(sequence)
            if sequence == 5 and not self.is_restored:
                self.is_restored = True
                self.head = 4
                for _ in range(8):
                    self.append(event_of())
                await tail_is_at_head(stream)
            return found

    log = RestoredLog()
    for _ in range(10):
        log.append(event_of())
    stream = EventStream(log, encode=encode, ring_events=2)  # type: ignore[arg-type]
    await tail_is_at_head(stream)
    cursor = stream.cursor_at(5, log.events[5].event_id)
    with pytest.raises(LogRewound):
        await stream.subscribe(AfterCursor(cursor), EVERYTHING)


async def test_who_comes_back_after_a_restart_needs_no_page(
    log: FaultyLog, news: News, stream: EventStream
) -> None:
    events = await news.about(*(f"payment-{n}" for n in range(12)))
    cursors = [stream.cursor_at(event.sequence, event.event_id) for event in events]
    ours = EventFilter(merchant_accounts=frozenset({"default"}))
    async with running(log, ring_events=100, start_events=8, page_events=3) as restarted:
        for cursor in cursors[3:]:
            watcher = await Watcher.start(restarted, AfterCursor(cursor), ours)
            await watcher.until_caught_up()
            assert watcher.sequences == list(range(cursors.index(cursor) + 2, 13))
        assert log.pages[ours] == 0
        await (await Watcher.start(restarted, AfterCursor(cursors[0]), ours)).until_sequence(12)
        assert log.pages[ours] > 0


async def test_a_log_that_was_pruned_to_its_newest_event_is_followed() -> None:
    log = MemoryLog()
    for _ in range(10):
        log.append(event_of())
    log.prune(10)
    async with running(log) as stream:
        watcher = await Watcher.start(stream, Earliest())
        log.append(event_of())
        assert (await watcher.until_sequence(11)).sequences == [10, 11]


async def test_everybody_is_told_the_same_error_without_the_others_frames(
    database_url: str, news: News, stream: EventStream
) -> None:
    await news.about("a", "b")
    watchers = [await Watcher.start(stream, Latest()) for _ in range(5)]
    await execute(database_url, lose(2))
    depths = []
    for watcher in watchers:
        with pytest.raises(CursorError) as told:
            await watcher.until_sequence(9)
        depths.append(len(told.traceback))
    assert len(set(depths)) == 1


async def test_one_read_serves_any_number_of_subscribers(
    log: FaultyLog, news: News, stream: EventStream
) -> None:
    watchers = [await (await Watcher.start(stream, Latest())).until_caught_up() for _ in range(50)]
    await news.about("a", "b", "c")
    await tail_is_at_head(stream)
    for watcher in watchers:
        assert (await watcher.until_sequence(3)).sequences == [1, 2, 3]
    assert set(log.pages) == {None}


async def test_those_who_wait_for_the_same_event_share_one_read(log: FaultyLog, news: News) -> None:
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    await stream.subscribe(Latest(), EVERYTHING)  # and its tail does not run
    await news.about("a")
    log.pages.clear()
    latest = (stream.subscribe(Latest(), EVERYTHING) for _ in range(20))
    for subscription in await asyncio.gather(*latest):
        assert subscription.checkpoint_cursor() == await stream.cursor_after(1)
    assert log.pages == {None: 1}


async def test_an_event_is_serialised_once_for_all(store: PaymentStore, news: News) -> None:
    made: list[int] = []

    def encode(event: object, cursor: str) -> bytes:  # noqa: ARG001
        made.append(1)
        return b"event"

    stream = EventStream(store.log, encode=encode)
    subscriptions = [await stream.subscribe(Latest(), EVERYTHING) for _ in range(20)]
    await news.about("a", "b", "c")
    await tail_is_at_head(stream)
    for subscription in subscriptions:
        assert (await subscription.next(0)).caught_up  # type: ignore[union-attr]
        assert (await subscription.next(0)).data == b"eventeventevent"  # type: ignore[union-attr]
    assert len(made) == 3


class RestoredLog(MemoryLog):
    """A log of five that tells once that it has eight: a restore takes three away right then."""

    def __init__(self) -> None:
        super().__init__(turns=0)
        for _ in range(5):
            self.append(event_of())
        self.is_told = False

    async def bounds(self) -> tuple[int, int]:
        oldest, head = await super().bounds()
        if self.is_told:
            return oldest, head
        self.is_told = True
        return oldest, head + 3


async def test_a_head_that_a_restore_took_back_is_not_waited_for() -> None:
    log = RestoredLog()
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE):
        await tail_is_at_head(stream)
        for start in (Latest(), Earliest()):
            log.is_told = False
            watcher = await (await Watcher.start(stream, start)).until_caught_up()
            assert watcher.sequences == ([] if start == Latest() else [1, 2, 3, 4, 5])
            watcher.close()
        log.is_told = False
        page, is_last = await stream.page(Earliest(), EVERYTHING, limit=9, size_bytes=10_000)
        assert (len(page.entries), is_last) == (5, True)
        log.is_told = False
        with pytest.raises(LogRewound):
            await Watcher.start(stream, AfterCursor(stream.cursor_at(7, "lost")))
