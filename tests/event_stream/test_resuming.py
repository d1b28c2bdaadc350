"""A subscriber that crashes and resumes a thousand times, while writers append."""

from __future__ import annotations

import asyncio
import random

import pytest

from antom_payments.event_stream import BatchLimits, EventStream
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentStore
from event_stream.news import News, whole_log
from event_stream.watching import (
    EVERYTHING,
    PATIENCE,
    AfterCursor,
    Earliest,
    Watcher,
    running,
)

SMALL = {"ring_events": 20, "start_events": 5, "page_events": 8, "limits": BatchLimits(events=5)}
SOME = EventFilter(payment_request_ids=frozenset({"payment-0-1", "payment-1-0"}))


class Subscriber:
    """Keeps its effects and its cursor together; whatever else it has, a crash takes."""

    def __init__(self, seed: int, event_filter: EventFilter) -> None:
        self.moods = random.Random(seed)
        self.event_filter = event_filter
        self.effects: list[tuple[int, str]] = []
        self.cursor = ""

    async def live(self, stream: EventStream) -> None:
        """Resume, take a few batches, and crash: before, within or after the last one's effects."""
        start = AfterCursor(self.cursor) if self.cursor else Earliest()
        watcher = await Watcher.start(stream, start, self.event_filter)
        for _ in range(self.moods.randint(0, 3)):
            before = len(watcher.seen)
            batch = await watcher.take(self.moods.choice((0.0, 0.0, 0.001, 0.001, PATIENCE)))
            if self.moods.random() < 0.2:
                break  # what was taken has no effect yet
            if batch is None:
                self.cursor = watcher.subscription.checkpoint_cursor()
                continue
            took = watcher.seen[before:]
            # Each event has a cursor of its own: a part of a batch is a place to crash at, too.
            kept = self.moods.randint(0, len(took)) if self.moods.random() < 0.3 else len(took)
            self.effects += [(seen.sequence, seen.event_id) for seen in took[:kept]]
            if kept < len(took):
                self.cursor = took[kept - 1].cursor if kept else self.cursor
                break
            self.cursor = batch.cursor
        watcher.close()


async def keep_appending(store: PaymentStore, writer: int, over: asyncio.Event) -> None:
    """Append until told to stop."""
    moods, news = random.Random(writer), News(store)
    while not over.is_set():
        count = moods.randint(1, 4)
        await news.about(*(f"payment-{writer}-{moods.randrange(3)}" for _ in range(count)))
        await asyncio.sleep(moods.choice((0, 0.001, 0.005)))


@pytest.mark.parametrize(("crashes", "event_filter"), [(1_000, EVERYTHING), (200, SOME)])
async def test_who_crashes_and_resumes_a_thousand_times_sees_exactly_the_log(
    store: PaymentStore, crashes: int, event_filter: EventFilter
) -> None:
    subscriber = Subscriber(7, event_filter)
    over = asyncio.Event()
    async with running(store.log, **SMALL) as one, running(store.log, **SMALL) as another:
        writers = [asyncio.create_task(keep_appending(store, n, over)) for n in range(2)]
        for _ in range(crashes):
            # Of two replicas, whichever answers.
            await subscriber.live(subscriber.moods.choice((one, another)))
        over.set()
        await asyncio.gather(*writers)
        log = await whole_log(store)
        async with asyncio.timeout(PATIENCE):
            while await one.cursor_after(log[-1][0]) != subscriber.cursor:
                await subscriber.live(one)
    due = {event_id for _, event_id in log}
    if event_filter is SOME:
        page = await store.log.page(0, window=len(log), limit=len(log), event_filter=SOME)
        due = {event.event_id for event in page.events}
    assert subscriber.effects == [entry for entry in log if entry[1] in due]
    assert len(log) > crashes / 5
