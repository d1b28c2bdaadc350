"""Antom's answers outlive outages of the database."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
from sqlalchemy import event, make_url

from antom_payments.errors import (
    AntomRefused,
    StoreOverloaded,
    StoreUnavailable,
)
from antom_payments.payment import EventType
from antom_payments.service import (
    SessionAnswer,
)
from antom_payments.store import (
    Applied,
    DataCipher,
    Member,
    PaymentStore,
    PoolOptions,
    keeping,
    open_store,
)
from clock import FrozenClock
from database_proxy import database_proxy
from databases import Databases
from scripted_antom import (
    SESSION,
    Held,
    refused,
    session,
)
from sqlite_disk import Disk
from use_cases.till import (
    LEASE_SECONDS,
    PATIENCE,
    Till,
    break_writes,
)


@pytest.mark.parametrize("told", [session(), refused()], ids=["session", "refusal"])
async def test_antoms_answer_outlives_an_outage_of_the_database(
    till: Till, told: Callable[..., Awaitable[None]]
) -> None:
    answer = Held(told)
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    noticed, mend = break_writes(till.store)
    answer.go_on.set()
    await noticed.wait()
    mend()
    [outcome] = await asyncio.gather(creating, return_exceptions=True)
    assert isinstance(outcome, SessionAnswer | AntomRefused)
    assert len(await till.news()) == 1
    assert len(till.antom.asked) == 1


async def test_an_answer_that_cannot_be_kept_is_fetched_again(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_KEEP_SECONDS", 0.0)
    answer = Held(session("lost"))
    till.antom.will(SESSION, answer, session())
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    _, mend = break_writes(till.store)
    answer.go_on.set()
    with pytest.raises(StoreUnavailable):
        await creating
    mend()
    till.clock.advance(LEASE_SECONDS + 1)
    again = await till.create()
    assert again.session
    assert again.session.payment_session_id == "session-1"
    assert await till.news() == [EventType.SESSION_CREATED]


async def test_antoms_answer_outlives_more_writes_than_the_database_takes(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_once = asyncio.Event()
    append = till.store._append

    async def overloaded_once(members: Sequence[Member], session: str = "") -> list[Applied]:
        if not refused_once.is_set():
            refused_once.set()
            raise StoreOverloaded("store_writes")
        return await append(members, session)

    monkeypatch.setattr(till.store, "_append", overloaded_once)
    till.antom.will(SESSION, session())
    assert (await till.create()).session
    assert refused_once.is_set()
    assert len(till.antom.asked) == 1


async def test_antoms_answer_outlives_another_processs_lock_on_sqlite(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock, till_on: Callable[..., Till]
) -> None:
    answer = Held(session())
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        till = till_on(store)
        till.antom.will(SESSION, answer)
        creating = asyncio.create_task(till.create())
        await till.antom.was_asked()
        other = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer.go_on.set()
        assert (await till.stored()) is not None  # readers are not held up
        other.execute("ROLLBACK")
        other.close()
        assert (await creating).session


@pytest.mark.parametrize("trouble", ["full", "read-only"])
async def test_antoms_answer_outlives_a_disk_that_takes_nothing(
    sqlite_till: Till, trouble: str
) -> None:
    till, disk, answer = sqlite_till, Disk(), Held(session(data="more than a page. " * 400))
    disk.put_under(till.store)
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    refused_once = refusals_of(till.store)
    disk.pages, disk.is_read_only = (1, False) if trouble == "full" else (0, True)
    answer.go_on.set()
    await asyncio.wait_for(refused_once.wait(), PATIENCE)
    disk.pages, disk.is_read_only = 0, False
    assert (await creating).session
    assert await till.news() == [EventType.SESSION_CREATED]
    assert len(till.antom.asked) == 1
    gc.collect()  # a statement that failed keeps its file open as long as its error is referenced


def refusals_of(store: PaymentStore) -> asyncio.Event:
    """Set when the database refused a statement."""
    refused_once = asyncio.Event()
    engine = store._database.engine.sync_engine
    event.listen(engine, "handle_error", lambda _: refused_once.set())
    return refused_once


@pytest.mark.parametrize("outage", ["refused", "frozen"])
async def test_antoms_answer_outlives_a_network_that_is_gone(
    postgres_url: str,
    cipher: DataCipher,
    clock: FrozenClock,
    till_on: Callable[..., Till],
    outage: str,
) -> None:
    answer = Held(session())
    pool = PoolOptions(command_timeout_seconds=0.2, budget_seconds=0.5)
    async with (
        database_proxy(postgres_url) as proxy,
        open_store(proxy.url, cipher=cipher, now=clock.now, pool=pool) as store,
    ):
        till = till_on(store)
        till.antom.will(SESSION, answer)
        creating = asyncio.create_task(till.create())
        await till.antom.was_asked()
        (proxy.refuse if outage == "refused" else proxy.freeze)()
        answer.go_on.set()
        with pytest.raises(StoreUnavailable):
            await till.read()
        proxy.thaw()
        if outage == "refused":
            await proxy.accept()
        assert (await creating).session
        assert await till.news() == [EventType.SESSION_CREATED]
    assert len(till.antom.asked) == 1


async def test_antoms_answer_outlives_a_queue_that_is_full(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock, till_on: Callable[..., Till]
) -> None:
    """To be turned away for the number of others is no reason to lose it."""
    answer = Held(session())
    pool = PoolOptions(in_flight=1)
    async with open_store(sqlite_url, cipher=cipher, now=clock.now, pool=pool) as store:
        till = till_on(store)
        till.antom.will(SESSION, answer)
        creating = asyncio.create_task(till.create())
        await till.antom.was_asked()
        holding, go_on = asyncio.Event(), asyncio.Event()

        async def hold(_: object) -> None:
            holding.set()
            await go_on.wait()

        other = asyncio.create_task(store._database.read(hold))
        await holding.wait()
        answer.go_on.set()
        with pytest.raises(StoreOverloaded):
            await till.read()
        go_on.set()
        await other
        assert (await creating).session


async def test_antoms_answer_outlives_postgresql_turning_everybody_away(
    postgres_url: str,
    databases: Databases,
    cipher: DataCipher,
    clock: FrozenClock,
    till_on: Callable[..., Till],
) -> None:
    name = make_url(postgres_url).database
    admin_url = databases.server().url.set(drivername="postgresql")
    admin = await asyncpg.connect(admin_url.render_as_string(hide_password=False))
    answer = Held(session())
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        till = till_on(store)
        till.antom.will(SESSION, answer)
        creating = asyncio.create_task(till.create())
        await till.antom.was_asked()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        refused_once = asyncio.Event()
        engine = store._database.engine.sync_engine
        event.listen(engine, "do_connect", lambda *_: refused_once.set())
        answer.go_on.set()
        await refused_once.wait()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert (await creating).session
    await admin.close()
