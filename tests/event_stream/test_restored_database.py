"""A database that is really restored to an older point: every cursor of the lost future is refused.

On SQLite a copy is written back, on PostgreSQL pg_dump and pg_restore are run.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from antom_payments.errors import CursorExpired, LogRewound, StoreUnavailable
from antom_payments.event_stream import EventStream
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentStore, Windows
from antom_payments.store.retention import Retention
from clock import FrozenClock
from dumps import dump, restore
from event_stream.news import News, whole_log
from event_stream.watching import (
    EVERYTHING,
    PATIENCE,
    AfterCursor,
    Earliest,
    Latest,
    Watcher,
    running,
)

SMALL = {"ring_events": 6, "start_events": 3, "page_events": 4}
QUIET = EventFilter(payment_request_ids=frozenset({"quiet"}))
KEPT, LOST = 8, 6
"""Events before the dump, and after it."""


async def checkpoints(stream: EventStream, news: News, count: int) -> list[str]:
    """Append, and take a cursor at each event and, where nothing matches, between them."""
    watcher = await (await Watcher.start(stream, Latest(), QUIET)).until_caught_up()
    live = await (await Watcher.start(stream, Latest())).until_caught_up()
    found = []
    for number in range(count):
        [event] = await news.about(f"payment-{number % 3}")
        await live.until_sequence(event.sequence)
        found += [
            live.cursor,
            watcher.subscription.checkpoint_cursor(),
            await stream.cursor_after(event.sequence),
        ]
    live.close()
    watcher.close()
    return found


async def prune(store: PaymentStore, clock: FrozenClock, rows: int) -> None:
    """Remove so many of the oldest events."""
    clock.advance(1)
    at_once = Windows(events=timedelta(0))
    pruning = Retention(store._database, at_once, now=clock.now, batch_rows=rows).prune()
    await anext(pruning)
    await pruning.aclose()


async def refused(stream: EventStream, cursors: list[str]) -> None:
    for cursor in set(cursors):
        for event_filter in (EVERYTHING, QUIET):
            with pytest.raises(LogRewound):
                await stream.subscribe(AfterCursor(cursor), event_filter)


async def resumed(stream: EventStream, cursor: str, log: list[tuple[int, str]]) -> None:
    """A cursor of what was kept goes on with exactly what the log has after it."""
    watcher = await (await Watcher.start(stream, AfterCursor(cursor))).until_caught_up()
    seen = [(seen.sequence, seen.event_id) for seen in watcher.seen]
    assert seen == log[len(log) - len(seen) :]
    assert len(seen) == log[-1][0] - KEPT
    watcher.close()


@pytest.mark.parametrize("grown", [0, LOST, 20])
async def test_a_database_restored_before_a_server_starts(
    database_url: str, store: PaymentStore, clock: FrozenClock, tmp_path: Path, grown: int
) -> None:
    news = News(store)
    async with running(store.log, **SMALL) as stream:
        kept = await checkpoints(stream, news, KEPT)
        await dump(database_url, tmp_path / "dump")
        lost = await checkpoints(stream, news, LOST)
        await prune(store, clock, KEPT + 2)
        # Before the oldest event kept, which is one of those that will be lost.
        edge = await (await Watcher.start(stream, Earliest())).until_caught_up()
        lost.append(await stream.cursor_after(0))
        assert edge.sequences[0] == KEPT + 3
    await restore(database_url, tmp_path / "dump")
    for number in range(grown):
        await settled(news, f"payment-{number % 3}")
    async with running(store.log, **SMALL) as stream:
        await refused(stream, lost)
        await resumed(stream, kept[-1], await whole_log(store))
        if grown == 20:
            # Pruned until nothing is known any more of where the lost cursors were.
            await prune(store, clock, KEPT + LOST + 4)
            await stream._tail._read()
            for cursor in set(lost):
                with pytest.raises((LogRewound, CursorExpired)):
                    await stream.subscribe(AfterCursor(cursor), EVERYTHING)


@pytest.mark.parametrize("grown", [0, 20])
async def test_a_database_restored_under_a_running_server(
    database_url: str, store: PaymentStore, tmp_path: Path, grown: int
) -> None:
    news = News(store)
    async with running(store.log, **SMALL) as stream:
        kept = await checkpoints(stream, news, KEPT)
        await dump(database_url, tmp_path / "dump")
        lost = await checkpoints(stream, news, LOST)
        live = await (await Watcher.start(stream, Latest())).until_caught_up()
        behind = await Watcher.start(stream, Earliest())
        await behind.take()
        await restore(database_url, tmp_path / "dump")
        for number in range(grown):
            await settled(news, f"payment-{number % 3}")
        for watcher in (live, behind):
            with pytest.raises(LogRewound):
                await watcher.until_sequence(10**6)
        # What it saw was the log as it was once, and nothing of both.
        assert behind.sequences == list(range(1, len(behind.seen) + 1))
        await refused(stream, lost)
        await resumed(stream, kept[-1], await whole_log(store))
        fresh = await (await Watcher.start(stream, Earliest())).until_caught_up()
        assert [(seen.sequence, seen.event_id) for seen in fresh.seen] == await whole_log(store)


async def settled(news: News, payment_request_id: str) -> None:
    """Append, once connections have noticed what became of their prepared statements."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await news.about(payment_request_id)
            except StoreUnavailable:
                continue
            return
