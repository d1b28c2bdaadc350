"""Readers while the log's old end is pruned: everything, or CursorExpired and where to go on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from antom_payments.cursor import CursorSeal
from antom_payments.errors import CursorExpired
from antom_payments.event_stream import BatchLimits, EventStream
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentStore, Windows
from antom_payments.store.retention import Retention
from clock import FrozenClock
from event_stream.news import News
from event_stream.watching import (
    EVERYTHING,
    PATIENCE,
    AfterCursor,
    Earliest,
    Latest,
    Watcher,
    running,
)

EVENTS = 160
SMALL = {
    "ring_events": 9,
    "start_events": 3,
    "page_events": 6,
    "page_reads": 2,
    "limits": BatchLimits(events=4),
}
"""So that most of the history is read from the database, in pages of a few events."""
EVEN = EventFilter(payment_request_ids=frozenset({"payment-0", "payment-2"}))


@pytest.fixture
async def stream(store: PaymentStore) -> AsyncIterator[EventStream]:
    async with running(store.log, **SMALL) as stream:
        yield stream


class Head:
    """How far the writer is, and waiting for it."""

    def __init__(self) -> None:
        self.sequence = 0
        self._moved = asyncio.Condition()

    async def move(self, sequence: int) -> None:
        async with self._moved:
            self.sequence = sequence
            self._moved.notify_all()

    async def reach(self, sequence: int) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self.sequence >= min(sequence, EVENTS))


class Reader:
    """A subscriber with moods, who notes what it saw and what it was told to be lost."""

    def __init__(
        self,
        store: PaymentStore,
        stream: EventStream,
        head: Head,
        seed: int,
        event_filter: EventFilter,
    ) -> None:
        self.stream = stream
        self.head = head
        self.event_filter = event_filter
        self.moods = random.Random(seed)
        self.seal = CursorSeal(store.log.cursor_key, store.log.log_id)
        self.sequences: list[int] = []
        self.lost: set[int] = set()
        self.place = 0

    async def read(self) -> Reader:
        start = AfterCursor(await self.stream.cursor_after(0))
        self._go_on(start.cursor)
        async with asyncio.timeout(PATIENCE):
            while self.place < EVENTS:
                try:
                    start = AfterCursor(await self._life(start))
                except CursorExpired as expired:
                    self._go_on(expired.oldest_cursor)
                    start = AfterCursor(expired.oldest_cursor)
        return self

    def _go_on(self, cursor: str) -> None:
        """Expiry names a later place, and says with it what is gone."""
        kept = self.seal.open(cursor).sequence
        assert kept >= self.place
        self.lost.update(range(self.place + 1, kept + 1))
        self.place = kept

    async def _life(self, start: AfterCursor) -> str:
        """Follow for some batches, now and then slowly; the checkpoint at its end."""
        watcher = await Watcher.start(self.stream, start, self.event_filter)
        try:
            for _ in range(self.moods.randint(1, 12)):
                await watcher.take(self.moods.choice((0.0, 0.001, 0.01)))
                if self.moods.random() < 0.2:
                    await self.head.reach(self.place + self.moods.randint(10, 60))
            return watcher.subscription.checkpoint_cursor()
        finally:
            watcher.close()
            self.sequences += watcher.sequences
            here = watcher.subscription.checkpoint_cursor()
            self.place = max(self.place, self.seal.open(here).sequence, *watcher.sequences[-1:], 0)


async def append(news: News, clock: FrozenClock, head: Head, seed: int) -> list[int]:
    """Append, some events at a time; which of them the even filter admits."""
    moods = random.Random(seed)
    even = []
    sequence = 0
    while sequence < EVENTS:
        payments = [f"payment-{moods.randrange(4)}" for _ in range(moods.randint(1, 5))]
        for event in await news.about(*payments[: EVENTS - sequence]):
            clock.advance(1)
            sequence = event.sequence
            if event.payment.payment_request_id in {"payment-0", "payment-2"}:
                even.append(sequence)
        await head.move(sequence)
    return even


async def keep_pruning(store: PaymentStore, clock: FrozenClock, seed: int) -> None:
    """Prune a few events at a time, everything but the newest in the end."""
    moods = random.Random(seed)
    at_once = Windows(events=timedelta(0))
    while True:
        rows = moods.randint(1, 9)
        retention = Retention(store._database, at_once, now=clock.now, batch_rows=rows)
        async with contextlib.aclosing(retention.prune()) as pruning:
            async for _ in pruning:
                break
        await asyncio.sleep(moods.choice((0, 0.002, 0.01)))


async def test_readers_that_race_a_pruner_see_everything_or_are_told(
    store: PaymentStore, stream: EventStream, clock: FrozenClock
) -> None:
    head = Head()
    readers = [Reader(store, stream, head, n, EVEN if n % 2 else EVERYTHING) for n in range(5)]
    pruning = [asyncio.create_task(keep_pruning(store, clock, n)) for n in range(2)]
    try:
        async with asyncio.TaskGroup() as crowd:
            appending = crowd.create_task(append(News(store), clock, head, 1))
            for reader in readers:
                crowd.create_task(reader.read())
    finally:
        for task in pruning:
            task.cancel()
        await asyncio.gather(*pruning, return_exceptions=True)
    even = appending.result()
    for reader in readers:
        due = range(1, EVENTS + 1) if reader.event_filter == EVERYTHING else even
        assert reader.sequences == sorted(set(reader.sequences))
        assert set(due) - set(reader.sequences) <= reader.lost
        assert set(reader.sequences) <= set(due)
    # Otherwise nothing was raced.
    assert any(reader.lost for reader in readers)
    assert all(len(reader.lost) < EVENTS for reader in readers)


async def test_a_log_of_one_event_is_a_place_to_start_and_to_resume(
    store: PaymentStore, stream: EventStream, clock: FrozenClock
) -> None:
    news = News(store)
    events = await news.about(*(f"payment-{n}" for n in range(10)))
    clock.advance(1)
    retention = Retention(store._database, Windows(events=timedelta(0)), now=clock.now)
    assert sum([rows async for _, rows in retention.prune()]) >= 9
    newest = stream.cursor_at(10, events[-1].event_id)
    await stream._tail._read()  # so that it knows
    async with running(store.log, **SMALL) as restarted:
        for following in (stream, restarted):
            assert (
                await Watcher.start(following, AfterCursor(newest))
            ).cursor == await following.cursor_after(10)
            earliest = await (await Watcher.start(following, Earliest())).until_caught_up()
            assert earliest.sequences == [10]
            latest = await (await Watcher.start(following, Latest())).until_caught_up()
            assert latest.cursor == newest
            # A payment whose events are gone has the place before what is kept.
            before = await following.cursor_after(3)
            resumed = await Watcher.start(following, AfterCursor(before))
            assert (await resumed.until_sequence(10)).sequences == [10]


async def test_the_place_before_the_oldest_event_expires_when_that_event_goes(
    store: PaymentStore, stream: EventStream, clock: FrozenClock
) -> None:
    news = News(store)
    await news.about(*(f"payment-{n}" for n in range(10)))
    clock.advance(1)
    retention = Retention(
        store._database, Windows(events=timedelta(0)), now=clock.now, batch_rows=4
    )
    pruning = retention.prune()
    await anext(pruning)
    edge = await stream.cursor_after(0)
    assert (
        await (await Watcher.start(stream, AfterCursor(edge))).until_sequence(10)
    ).sequences == [*range(5, 11)]
    await anext(pruning)
    await pruning.aclose()
    with pytest.raises(CursorExpired) as expired:
        await stream.subscribe(AfterCursor(edge), EVERYTHING)
    assert expired.value.oldest_cursor == await stream.cursor_after(0) != edge
