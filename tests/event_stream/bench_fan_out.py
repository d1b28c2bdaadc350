"""How many deliveries a second 500 subscribers of everything get, before gRPC.

Run by hand: `python tests/event_stream/bench_fan_out.py [DATABASE_URL ...]`. Also prints the
longest time that the event loop was held, the same with a share of the events appended in sampled
traces, whose deliveries are spans, and the same for subscribers that read their history from the
database (SQLite unless others are named; they must be empty).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from antom_payments import telemetry
from antom_payments.event_stream import AfterCursor, Earliest, EventStream, Subscription
from antom_payments.grpc_api import tracing
from antom_payments.sampling import UndecidedTraces, sampler_of
from antom_payments.store import DataCipher, PaymentStore, migrate, new_data_key, open_store
from event_stream.memory_log import MemoryLog, event_of
from event_stream.news import News
from event_stream.watching import EVERYTHING, tail_is_at_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

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
            if batch.append_links:
                with tracing.deliver_span(batch, INVALID_SPAN_CONTEXT):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(0)  # the write
    return batches


class Nowhere(SpanExporter):
    """Takes spans, and does nothing with them."""

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def trace_everything() -> None:
    """Make spans as a process does that exports them."""
    provider = TracerProvider(sampler=sampler_of({}), shutdown_on_exit=False)
    provider.add_span_processor(UndecidedTraces(BatchSpanProcessor(Nowhere())))
    telemetry.tracer = provider.get_tracer("bench")


def appended(sampled: float, number: int) -> PaymentEvent:
    """An event; every so many of them in a sampled trace."""
    is_sampled = sampled and number % round(1 / sampled) == 0
    traceparent = f"00-{number + 1:032x}-{number + 1:016x}-0{1 if is_sampled else 0}"
    return replace(event_of(), append_traceparent=traceparent)


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


async def live(burst: int, sampled: float = 0.0) -> None:
    log = MemoryLog(turns=0)
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    start = AfterCursor(await stream.cursor_after(0))
    subscriptions = [await stream.subscribe(start, EVERYTHING) for _ in range(SUBSCRIBERS)]
    following = [
        asyncio.create_task(follow(subscription, EVENTS)) for subscription in subscriptions
    ]
    drafts = [appended(sampled, number) for number in range(EVENTS)]
    meter = Meter()
    async with meter.running():
        for number in range(0, EVENTS, burst):
            for draft in drafts[number : number + burst]:
                log.append(draft)
            await tail_is_at_head(stream)
            await asyncio.sleep(0)
        batches = sum(await asyncio.gather(*following))
    a_batch = SUBSCRIBERS * EVENTS / batches
    what = f"live, {SUBSCRIBERS} subscribers, {a_batch:.0f} a batch, {sampled:.0%} sampled"
    meter.say(what, SUBSCRIBERS * EVENTS)


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
    trace_everything()
    for burst, sampled in ((1, 0.0), (16, 0.0), (1, 0.01), (16, 0.01), (200, 0.01)):
        await live(burst, sampled)
    urls = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for url in urls or [f"sqlite:///{folder}/log.db"]:
            await migrate(url)
            cipher = DataCipher(new_data_key())
            async with open_store(url, cipher=cipher, now=lambda: datetime.now(UTC)) as store:
                await history(store)


if __name__ == "__main__":
    asyncio.run(main())
