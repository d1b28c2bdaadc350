"""What a page costs, by filter, in a log of a million events that are somebody else's.

Run by hand: `python tests/event_stream/bench_filters.py [--events N] [--json] [DATABASE_URL ...]`;
without URLs (of migrated, empty databases) on a new SQLite file and on a PostgreSQL of its own, as
the tests start it. For each filter: pages through the whole log, milliseconds a page, and how long
the event loop was held; a subscriber that resumes from far behind; a snapshot to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from antom_payments.event_stream import AtTime, Earliest, EventStream, Latest, Snapshot, Start
from antom_payments.event_stream.pages import window_of
from antom_payments.grpc_api import encode
from antom_payments.payment import EventType
from antom_payments.payment_event import EventFilter
from antom_payments.store import DataCipher, PaymentStore, new_data_key, open_store
from databases import POSTGRES, SQLITE, Databases
from event_stream.foreign_log import FOREIGN, fill
from event_stream.news import News
from postgres_server import choose

FILTERS = {
    "a merchant with one event": EventFilter(merchant_accounts=frozenset({"default"})),
    "a merchant without events": EventFilter(merchant_accounts=frozenset({"nobody"})),
    "100 merchants without events": EventFilter(
        merchant_accounts=frozenset(f"nobody-{n}" for n in range(100))
    ),
    "a payment without events": EventFilter(payment_request_ids=frozenset({"nothing"})),
    "a payment of a merchant": EventFilter(
        merchant_accounts=frozenset({FOREIGN}), payment_request_ids=frozenset({"p-50"})
    ),
    "100 payments": EventFilter(payment_request_ids=frozenset(f"p-{n * 7}" for n in range(100))),
    "a type without events": EventFilter(types=frozenset({EventType.PAYMENT_FAILED})),
    "final states, none": EventFilter(final_states_only=True),
    "final states of the busy merchant": EventFilter(
        merchant_accounts=frozenset({FOREIGN}), final_states_only=True
    ),
}
Figures = dict[str, float | int]


class LoopMeter:
    """The longest time for which the loop gave nobody else a turn, in milliseconds."""

    def __init__(self) -> None:
        self.held_ms = 0.0

    async def run(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            self.held_ms = max(self.held_ms, (time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.001)


async def through_the_log(store: PaymentStore, event_filter: EventFilter) -> Figures:
    """Page from the log's start to its head as `Pages` does."""
    _, head = await store.log.bounds()
    after, found, times = 0, 0, []
    while after < head:
        began = time.perf_counter()
        page = await store.log.page(
            after, window=window_of(event_filter), limit=64, event_filter=event_filter
        )
        times.append((time.perf_counter() - began) * 1e3)
        assert page.through > after
        after, found = page.through, found + len(page.events)
    return {
        "pages": len(times),
        "events": found,
        "median_ms": round(statistics.median(times), 2),
        "max_ms": round(max(times), 2),
        "total_s": round(sum(times) / 1e3, 3),
    }


async def to_the_head(stream: EventStream, start: Start, event_filter: EventFilter) -> Figures:
    """Subscribe, and take what comes until the marker that history, or the snapshot, is over."""
    meter = LoopMeter()
    metering = asyncio.create_task(meter.run())
    began = time.perf_counter()
    subscription = await stream.subscribe(start, event_filter)
    opened_ms = (time.perf_counter() - began) * 1e3
    told, checkpoints, cursors = 0, 0, set()
    while True:
        batch = await subscription.next(0.05)
        if batch is None:
            checkpoints += 1
            cursors.add(subscription.checkpoint_cursor())
        elif batch.caught_up:
            break
        else:
            told += batch.events + batch.payments
    subscription.close()
    metering.cancel()
    return {
        "told": told,
        "opened_ms": round(opened_ms, 1),
        "total_s": round(time.perf_counter() - began, 3),
        "checkpoints": checkpoints,
        "of_them_further_on": len(cursors),
        "loop_held_ms": round(meter.held_ms, 1),
    }


async def measured(store: PaymentStore, events: int) -> dict[str, Any]:
    """Everything about one database."""
    began = time.perf_counter()
    await fill(store, events)
    figures: dict[str, Any] = {"fill": {"total_s": round(time.perf_counter() - began, 1)}}
    figures["pages"] = {
        name: await through_the_log(store, event_filter) for name, event_filter in FILTERS.items()
    }
    stream = EventStream(store.log, encode=encode)
    (await stream.subscribe(Latest(), EventFilter())).close()
    late = AtTime(datetime.now(UTC))
    await News(store).about("late")
    starts: dict[str, Callable[[], Awaitable[Figures]]] = {
        "resume, a merchant without events": lambda: to_the_head(
            stream, Earliest(), FILTERS["a merchant without events"]
        ),
        "resume, final states, none": lambda: to_the_head(
            stream, Earliest(), FILTERS["final states, none"]
        ),
        "at a time near the head": lambda: to_the_head(stream, late, EventFilter()),
        "snapshot of a merchant with three payments": lambda: to_the_head(
            stream, Snapshot(), FILTERS["a merchant with one event"]
        ),
        "snapshot of a named payment": lambda: to_the_head(
            stream, Snapshot(), FILTERS["a payment of a merchant"]
        ),
        "snapshot of everything": lambda: to_the_head(stream, Snapshot(), EventFilter()),
    }
    figures["starts"] = {name: await measure() for name, measure in starts.items()}
    return figures


@contextlib.asynccontextmanager
async def named_databases(urls: list[str]) -> AsyncIterator[dict[str, str]]:
    """The given ones, or one of each kind."""
    if urls:
        yield {url.partition(":")[0]: url for url in urls}
        return
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(choose(os.environ), os.environ, Path(folder))
        try:
            async with databases.fresh(POSTGRES) as postgres, databases.fresh(SQLITE) as sqlite:
                yield {"postgresql": postgres, "sqlite": sqlite}
        finally:
            await databases.stop()


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(name: str, figures: dict[str, Any]) -> None:
    """A line for each figure."""
    say(f"\n{name}: filled in {figures['fill']['total_s']} s")
    for part in ("pages", "starts"):
        for what, measures in figures[part].items():
            told = "  ".join(f"{key} {value}" for key, value in measures.items())
            say(f"  {what:<45}{told}")


async def main() -> None:
    """Measure each database in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("urls", nargs="*", metavar="DATABASE_URL")
    asked = parser.parse_args()
    results = {}
    async with named_databases(asked.urls) as urls:
        for name, url in urls.items():
            cipher = DataCipher(new_data_key())
            async with open_store(url, cipher=cipher, now=lambda: datetime.now(UTC)) as store:
                results[name] = await measured(store, asked.events)
            if not asked.json:
                show(name, results[name])
    if asked.json:
        say(json.dumps({"events": asked.events, "databases": results}))


if __name__ == "__main__":
    asyncio.run(main())
