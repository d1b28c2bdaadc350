"""Hints between processes that the log has grown: quick, outside the writing transaction, few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from antom_payments.store import DataCipher, PaymentStore, PoolOptions, hints, open_store
from clock import FrozenClock
from database_proxy import database_proxy
from stored import confirmed, rows

SOON = 20.0
"""Far below what the readers of these tests would wait for by themselves."""
LONG = 600.0
NO_WAIT = "SET LOCAL synchronous_commit = off"


@pytest.fixture
async def writer(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        yield store


@pytest.fixture
async def reader(
    postgres_url: str,
    cipher: DataCipher,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[PaymentStore]:
    """A process that listens: its first hint says that it has begun to."""
    monkeypatch.setattr(hints, "_RECONNECT_SECONDS", 0.0)
    async with open_store(postgres_url, cipher=cipher, now=clock.now, listens=True) as store:
        await asyncio.wait_for(store.log.wait(LONG), SOON)
        yield store


async def test_an_append_of_another_process_wakes_whoever_waits(
    writer: PaymentStore, reader: PaymentStore
) -> None:
    waiting = asyncio.create_task(reader.log.wait(LONG))
    await confirmed(writer)
    await asyncio.wait_for(waiting, SOON)


async def test_a_listener_that_was_cut_off_wakes_its_readers_and_listens_again(
    writer: PaymentStore, reader: PaymentStore, postgres_url: str
) -> None:
    waiting = asyncio.create_task(reader.log.wait(LONG))
    other = create_async_engine(postgres_url)
    async with other.connect() as connection:
        cut = await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
            )
        )
        assert len(cut.all()) == 1
    await other.dispose()
    await asyncio.wait_for(waiting, SOON)
    while not await rows(
        writer,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        "AND query ILIKE 'LISTEN%' AND state = 'idle'",
    ):
        await asyncio.wait_for(reader.log.wait(LONG), SOON)
    await reader.log.wait(0.05)  # what the new listener says for itself
    waiting = asyncio.create_task(reader.log.wait(LONG))
    await confirmed(writer)
    await asyncio.wait_for(waiting, SOON)


async def test_a_listener_whose_connection_the_network_forgot_listens_again(
    writer: PaymentStore,
    postgres_url: str,
    cipher: DataCipher,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hints, "_RECONNECT_SECONDS", 0.0)
    monkeypatch.setattr(hints, "_HEARTBEAT_SECONDS", 0.1)
    pool = PoolOptions(command_timeout_seconds=0.2)
    async with (
        database_proxy(postgres_url) as proxy,
        open_store(proxy.url, cipher=cipher, now=clock.now, pool=pool, listens=True) as reader,
    ):
        await asyncio.wait_for(reader.log.wait(LONG), SOON)
        proxy.freeze_open()
        await asyncio.wait_for(reader.log.wait(LONG), SOON)  # it was noticed
        await asyncio.wait_for(reader.log.wait(LONG), SOON)  # a new one says for itself
        waiting = asyncio.create_task(reader.log.wait(LONG))
        await confirmed(writer)
        await asyncio.wait_for(waiting, SOON)


async def test_a_hint_is_sent_after_the_commit_and_alone_in_its_transaction(
    writer: PaymentStore,
) -> None:
    transactions: list[list[str]] = []
    sent = asyncio.Event()

    def begin(_: object) -> None:
        transactions.append([])

    def execute(_: object, cursor: object, statement: str, *rest: object) -> None:  # noqa: ARG001
        transactions[-1].append(statement)
        if statement.startswith("NOTIFY"):
            sent.set()

    engine = writer._database.engine.sync_engine
    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", execute)
    await confirmed(writer)
    await asyncio.wait_for(sent.wait(), SOON)
    appending = [n for n, done in enumerate(transactions) if any("INTO events" in s for s in done)]
    notifying = [n for n, done in enumerate(transactions) if any("NOTIFY" in s for s in done)]
    assert appending
    assert notifying
    assert min(notifying) > min(appending)
    for n in notifying:
        # Nothing of the appending transaction, and no wait for the disk.
        assert transactions[n] == [NO_WAIT, "NOTIFY antom_payments_log"]


async def test_many_appends_share_a_hint(
    writer: PaymentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "_LEAST_PAUSE_SECONDS", LONG)
    count = 0

    def execute(_: object, cursor: object, statement: str, *rest: object) -> None:  # noqa: ARG001
        nonlocal count
        count += statement.startswith("NOTIFY")

    event.listen(writer._database.engine.sync_engine, "before_cursor_execute", execute)
    for n in range(20):
        await confirmed(writer, payment_request_id=f"order-{n}")
    assert count == 1


async def test_a_hint_that_cannot_be_sent_harms_nobody(writer: PaymentStore) -> None:
    tried = asyncio.Event()

    def refuse(_: object, cursor: object, statement: str, *rest: object) -> None:  # noqa: ARG001
        if statement.startswith("NOTIFY"):
            tried.set()
            raise OSError("cut")

    event.listen(writer._database.engine.sync_engine, "before_cursor_execute", refuse)
    await confirmed(writer)
    await asyncio.wait_for(tried.wait(), SOON)
    await confirmed(writer, payment_request_id="order-2")
    assert await writer.log.bounds() == (1, 2)
