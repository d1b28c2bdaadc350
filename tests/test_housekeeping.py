"""Housekeeping: at the start and again and again, through outages, and counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from antom_payments import housekeeping
from antom_payments.errors import StoreUnavailable
from antom_payments.housekeeping import keep_house, prune_once
from antom_payments.store import Kind, Oldest, PaymentStore
from clock import FrozenClock
from readings import observed
from stored import aged, confirmed, numbered, rows

PATIENCE = 20.0


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """What the instruments say."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    monkeypatch.setattr(housekeeping, "_pruned", meter.create_counter("pruned"))
    monkeypatch.setattr(housekeeping, "_oldest_sequence", meter.create_gauge("oldest_sequence"))
    yield reader
    provider.shutdown()


def told(reader: InMemoryMetricReader) -> dict[str, dict[str, float]]:
    """Every instrument's values by their kind."""
    found: dict[str, dict[str, float]] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            kind = str((point.attributes or {}).get("kind", ""))
            found.setdefault(metric.name, {})[kind] = point.value  # type: ignore[union-attr]
    return found


async def test_what_was_pruned_and_where_the_log_begins_is_counted(
    store: PaymentStore, clock: FrozenClock, readings: InMemoryMetricReader
) -> None:
    await numbered(store, 5)
    await aged(store, 40, through=3)
    clock.advance(7201)
    kept = await store.log.event(4)
    assert kept is not None
    removed, oldest = await prune_once(store.retention)
    assert removed == {Kind.EVENTS: 3, Kind.PRIVATE_DATA: 5}
    assert oldest == Oldest(4, kept.append_time)
    assert told(readings)["pruned"] == {"events": 3, "private_data": 5}


async def test_an_empty_database_needs_no_housekeeping(store: PaymentStore) -> None:
    assert await prune_once(store.retention) == ({}, Oldest())


class Interrupted:
    """The real retention, behind a database that fails for a while."""

    def __init__(self, store: PaymentStore, failures: int) -> None:
        self._retention = store.retention
        self._failures = failures
        self.works_again = asyncio.Event()
        self.looks = asyncio.Semaphore(0)

    async def prune(self):
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable
        async for removed in self._retention.prune():
            yield removed
        self.works_again.set()

    async def oldest(self) -> Oldest:
        self.looks.release()
        return await self._retention.oldest()


@contextlib.asynccontextmanager
async def keeping(interrupted: Interrupted, clock: FrozenClock) -> AsyncIterator[None]:
    task = asyncio.create_task(
        keep_house(interrupted, now=clock.now, pause_seconds=0.001)  # type: ignore[arg-type]  # it behaves as the real one
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_housekeeping_survives_an_outage(store: PaymentStore, clock: FrozenClock) -> None:
    await confirmed(store)
    clock.advance(7201)
    interrupted = Interrupted(store, failures=3)
    async with keeping(interrupted, clock):
        await interrupted.works_again.wait()
    assert await rows(store, "SELECT * FROM private_data") == []


async def test_the_age_of_the_oldest_event_grows_while_nothing_can_be_pruned(
    store: PaymentStore, readings: InMemoryMetricReader
) -> None:
    await confirmed(store)
    oldest = await store.retention.oldest()
    assert oldest.append_time is not None
    clock = FrozenClock(oldest.append_time)
    interrupted = Interrupted(store, failures=1_000_000)
    async with keeping(interrupted, clock):
        for _ in range(2):
            # What the first look found is told when the second begins.
            await interrupted.looks.acquire()
        assert told(readings)["oldest_sequence"] == {"": oldest.sequence}
        for days in (1, 400):
            clock.advance(days * 86_400)
        assert observed(housekeeping._oldest_age) == {(): 401 * 86_400}
    assert observed(housekeeping._oldest_age) == {}
