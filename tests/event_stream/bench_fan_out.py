"""How many deliveries a second 500 subscribers of everything get, before gRPC.

Run by hand: `python tests/event_stream/bench_fan_out.py [DATABASE_URL ...]`. Also prints the
longest time that the event loop was held, and the same for subscribers that read their history from
the database (SQLite unless others are named; they must be empty).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from antom_payments.event_stream import AfterCursor, Earliest, EventStream, Subscription
from antom_payments.store import DataCipher, PaymentStore, migrate, new_data_key, open_store
from event_stream.memory_log import MemoryLog, event_of
from event_stream.news import News
from event_stream.watching import EVERYTHING, tail_is_at_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from antom_payments.payment import PaymentEvent

SUBSCRIBERS = 500
EVENTS = 10_000
HISTORY = 2_000
CATCHING_UP = 50


def encode(event: PaymentEvent, cursor: str) -> bytes:
    """As large as a serialised event."""
    return f"{event.event_id}{cursor}".encode().ljust(600, b".")


async def follow(subscription: Subscription, events: int) -> int:
    """Take so many events; how many batches they came in."""
    batches = 0
    while events > 0:
        batch = await subscription.next(60)
        if batch is not None and batch.events:
            events -= batch.events
            batches += 1
            await asyncio.sleep(0)  # the write
    return batches


class Meter:
    """The loop's CPU time: in all, and the most that it was held for without a turn for others."""

    def __init__(self) -> None:
        self.held = 0.0
        self.spent = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        began = time.thread_time()
        watch = asyncio.create_task(self._watch())
        yield
        watch.cancel()
        self.spent = time.thread_time() - began

    def say(self, what: str, deliveries: int) -> None:
        sys.stdout.write(
            f"{what}: {deliveries / self.spent:,.0f} deliveries per second of CPU, "
            f"loop held {self.held * 1e3:.1f} ms of CPU at most\n"
        )

    async def _watch(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            self.held = max(self.held, time.thread_time() - began)


async def live(burst: int) -> None:
    log = MemoryLog(turns=0)
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    start = AfterCursor(await stream.cursor_after(0))
    subscriptions = [await stream.subscribe(start, EVERYTHING) for _ in range(SUBSCRIBERS)]
    following = [
        asyncio.create_task(follow(subscription, EVENTS)) for subscription in subscriptions
    ]
    drafts = [event_of() for _ in range(EVENTS)]
    meter = Meter()
    async with meter.running():
        for number in range(0, EVENTS, burst):
            for draft in drafts[number : number + burst]:
                log.append(draft)
            await tail_is_at_head(stream)
            await asyncio.sleep(0)
        batches = sum(await asyncio.gather(*following))
    a_batch = SUBSCRIBERS * EVENTS / batches
    meter.say(f"live, {SUBSCRIBERS} subscribers, {a_batch:.0f} a batch", SUBSCRIBERS * EVENTS)


async def history(store: PaymentStore) -> None:
    news = News(store)
    for start in range(0, HISTORY, 100):
        await news.about(*(f"payment-{start + n}" for n in range(100)))
    stream = EventStream(store.log, encode=encode, start_events=0)
    subscriptions = [await stream.subscribe(Earliest(), EVERYTHING) for _ in range(CATCHING_UP)]
    meter = Meter()
    async with meter.running():
        await asyncio.gather(*(follow(subscription, HISTORY) for subscription in subscriptions))
    meter.say(f"history, {CATCHING_UP} subscribers", CATCHING_UP * HISTORY)


async def main() -> None:
    for burst in (1, 16, 200):
        await live(burst)
    urls = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for url in urls or [f"sqlite:///{folder}/log.db"]:
            await migrate(url)
            cipher = DataCipher(new_data_key())
            async with open_store(url, cipher=cipher, now=lambda: datetime.now(UTC)) as store:
                await history(store)


if __name__ == "__main__":
    asyncio.run(main())
