"""SQLite that cannot write: full, read-only, or locked by another process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import time
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import event, make_url

from antom_payments.errors import StoreUnavailable
from antom_payments.store import (
    AppliedOutcome,
    DataCipher,
    Member,
    PaymentStore,
    PoolOptions,
    open_store,
)
from clock import FrozenClock
from facts import a_payment_fact
from sqlite_disk import Disk
from stored import about, begun, confirmed, intended, notified, rows, whole_log

BUDGET = PoolOptions(budget_seconds=0.5, in_flight=20)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock, disk: Disk
) -> AsyncIterator[PaymentStore]:
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        disk.put_under(store)
        await confirmed(store)
        yield store
    gc.collect()  # a statement that failed keeps its file open as long as its error is referenced


async def fill(store: PaymentStore, disk: Disk) -> int:
    """Fill the disk, with acknowledged notifications; how many they are."""
    [(pages,)] = await rows(store, "PRAGMA page_count")
    disk.pages = pages + 2
    count = 0
    with contextlib.suppress(StoreUnavailable):
        while True:
            await store.apply([Member(None, big_notification(count).notification, "poison")])
            count += 1
    return count


def big_notification(number: int) -> Member:
    return notified(a_payment_fact(), b'{"number": %d, "more": "%s"}' % (number, b"x" * 3000))


async def test_a_full_disk_is_unavailable_for_writers_and_harmless_for_readers(
    store: PaymentStore, disk: Disk
) -> None:
    acknowledged = await fill(store, disk)
    await store.ping()
    assert await store.payment("default", payment_request_id="order-1-attempt-1") is not None
    assert len(await whole_log(store)) == 1
    with pytest.raises(StoreUnavailable):
        await store.apply([big_notification(1000)])
    assert await rows(store, "SELECT count(*) FROM notifications") == [(acknowledged,)]
    assert await rows(store, "PRAGMA integrity_check") == [("ok",)]


async def test_when_there_is_room_again_everything_goes_on(store: PaymentStore, disk: Disk) -> None:
    acknowledged = await fill(store, disk)
    disk.pages = 0
    [applied] = await store.apply([big_notification(1000)])
    assert applied.outcome is AppliedOutcome.APPLIED
    assert await rows(store, "SELECT count(*) FROM notifications") == [(acknowledged + 1,)]
    assert [event.sequence for event in await whole_log(store)] == [1, 2]
    assert await rows(store, "PRAGMA integrity_check") == [("ok",)]


async def test_a_file_that_may_not_be_written_is_unavailable_until_it_may(
    store: PaymentStore, disk: Disk
) -> None:
    disk.is_read_only = True
    with pytest.raises(StoreUnavailable):
        await store.apply([notified(a_payment_fact())])
    assert len(await whole_log(store)) == 1
    disk.is_read_only = False
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.event is not None


async def test_connections_that_were_opened_read_only_are_replaced(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    """SQLite opens a file that may not be written all the same, and stays as it opened it."""
    made: list[Callable[[], None]] = []
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        await confirmed(store)
        async with store._database.engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA query_only = 1")
        event.listen(store._database.engine.sync_engine, "connect", lambda *_: made.append(print))
        [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.event is not None
    assert len(made) == 1


async def test_while_another_process_holds_the_lock_writers_are_bounded_and_readers_go_on(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with open_store(sqlite_url, cipher=cipher, now=clock.now, pool=BUDGET) as store:
        await intended(store, 60)
        other = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        writing = [
            asyncio.create_task(store.apply([notified(about(n), b"%d" % n)])) for n in range(60)
        ]
        assert await store.payment("default", payment_request_id="order-1") is not None
        await store.ping()
        told = await asyncio.gather(*writing, return_exceptions=True)
        assert time.monotonic() - began < BUDGET.budget_seconds + 2
        assert all(isinstance(one, StoreUnavailable) for one in told)
        async with asyncio.timeout(2):
            while len(store._database._under_way) > 1:  # noqa: ASYNC110 - the queue has no event
                await asyncio.sleep(0)
        other.execute("ROLLBACK")
        other.close()
        await begun(store, payment_request_id="after")
