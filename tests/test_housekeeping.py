"""Housekeeping: at the start and again and again, through outages, and counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from antom_payments import housekeeping
from antom_payments.errors import StoreUnavailable
from antom_payments.housekeeping import keep_house, prune_once
from antom_payments.store import Kind, Oldest, PaymentStore
from clock import FrozenClock
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
    monkeypatch.setattr(housekeeping, "_oldest_age", meter.create_gauge("oldest_age"))
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
    removed, oldest = await prune_once(store.retention, now=clock.now)
    assert removed == {Kind.EVENTS: 3, Kind.PRIVATE_DATA: 5}
    assert oldest == Oldest(4, kept.append_time)
    values = told(readings)
    assert values["pruned"] == {"events": 3, "private_data": 5}
    assert values["oldest_sequence"] == {"": 4}
    if store._database.is_sqlite:
        assert values["oldest_age"] == {"": 7201}


async def test_an_empty_database_needs_no_housekeeping(
    store: PaymentStore, clock: FrozenClock
) -> None:
    assert await prune_once(store.retention, now=clock.now) == ({}, Oldest())


class Interrupted:
    """The real retention, behind a database that fails for a while."""

    def __init__(self, store: PaymentStore, failures: int) -> None:
        self._retention = store.retention
        self._failures = failures
        self.works_again = asyncio.Event()

    async def prune(self):
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable
        async for removed in self._retention.prune():
            yield removed

    async def oldest(self) -> Oldest:
        found = await self._retention.oldest()
        self.works_again.set()
        return found


async def test_housekeeping_survives_an_outage(store: PaymentStore, clock: FrozenClock) -> None:
    await confirmed(store)
    clock.advance(7201)
    interrupted = Interrupted(store, failures=3)
    keeping = asyncio.create_task(
        keep_house(interrupted, now=clock.now, pause_seconds=0.001)  # type: ignore[arg-type]
    )
    async with asyncio.timeout(PATIENCE):
        await interrupted.works_again.wait()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert await rows(store, "SELECT * FROM private_data") == []
