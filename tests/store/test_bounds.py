"""However many want the database, and however slow it is: bounded numbers, bounded time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import StoreOverloaded, StoreUnavailable
from antom_payments.store import DataCipher, PaymentStore, PoolOptions, open_store
from clock import FrozenClock
from stored import begun, confirmed

FEW = PoolOptions(size=4, timeout_seconds=0.2, budget_seconds=5.0, in_flight=10)


@pytest.fixture
async def store(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    async with open_store(database_url, cipher=cipher, now=clock.now, pool=FEW) as store:
        yield store


class Storm:
    """Writers that hold what they have until they are told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Semaphore(0)

    async def __call__(self, _: AsyncConnection) -> None:
        self.begun.release()
        await self.go_on.wait()


async def test_beyond_a_number_one_more_is_turned_away_before_anything_is_done(
    store: PaymentStore,
) -> None:
    storm = Storm()
    writing = [asyncio.create_task(store._database.write(storm)) for _ in range(FEW.in_flight)]
    await storm.begun.acquire()
    with pytest.raises(StoreOverloaded):
        await begun(store)
    with pytest.raises(StoreOverloaded):
        await store.payment("default", payment_request_id="order-1")
    await store.log.bounds()  # the event stream goes on
    await store.log.oldest()
    await store.ping()
    storm.go_on.set()
    await asyncio.gather(*writing, return_exceptions=True)
    assert (await begun(store)).lease_token


async def test_callers_that_gave_up_still_count_while_their_work_goes_on(
    store: PaymentStore,
) -> None:
    """Otherwise callers with short deadlines fill the memory of a slow database's client."""
    storm = Storm()
    impatient = [asyncio.create_task(store._database.write(storm)) for _ in range(FEW.in_flight)]
    await storm.begun.acquire()
    for one in impatient:
        one.cancel()
    await asyncio.gather(*impatient, return_exceptions=True)
    with pytest.raises(StoreOverloaded):
        await begun(store)
    storm.go_on.set()


async def test_a_storm_of_writers_leaves_connections_to_readers(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with open_store(postgres_url, cipher=cipher, now=clock.now, pool=FEW) as store:
        await confirmed(store)
        storm = Storm()
        writing = [asyncio.create_task(store._database.write(storm)) for _ in range(8)]
        for _ in range(FEW.writers):
            await storm.begun.acquire()
        for _ in range(20):
            await store.log.bounds()
        told = await asyncio.wait_for(
            asyncio.gather(*writing[FEW.writers :], return_exceptions=True), 5
        )
        assert all(isinstance(one, StoreUnavailable) for one in told), "in the pool's own time"
        storm.go_on.set()
        await asyncio.gather(*writing[: FEW.writers])


async def test_whoever_got_its_connection_too_late_begins_nothing(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    late = PoolOptions(size=1, timeout_seconds=5.0, budget_seconds=0.1)
    async with open_store(database_url, cipher=cipher, now=clock.now, pool=late) as store:
        async with store._database.engine.connect():
            with pytest.raises(StoreUnavailable):
                await begun(store)
        await asyncio.gather(*store._database._under_way, return_exceptions=True)
        assert await store.payment("default", payment_request_id="order-1-attempt-1") is None


async def test_a_transaction_that_crawls_is_cut_off_and_gives_back_its_connection(
    postgres_url: str,
    cipher: DataCipher,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("antom_payments.store.database._LONGEST_TRANSACTION_SECONDS", 0.3)
    one = PoolOptions(size=1)

    async def crawl(connection: AsyncConnection) -> None:
        with contextlib.suppress(AssertionError):
            while True:
                await connection.execute(text("SELECT pg_sleep(0.05)"))

    async with open_store(postgres_url, cipher=cipher, now=clock.now, pool=one) as store:
        with pytest.raises(StoreUnavailable):
            await store._database.write(crawl)
        assert (await begun(store)).lease_token
