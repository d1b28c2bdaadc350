"""Antom's answers outlive outages of the database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
from sqlalchemy import event, make_url

from antom_payments import service as service_module
from antom_payments.errors import (
    AntomRefused,
    LimitReached,
    StoreUnavailable,
)
from antom_payments.payment import EventType
from antom_payments.service import (
    SessionAnswer,
)
from antom_payments.store import Applied, DataCipher, Member, open_store
from clock import FrozenClock
from databases import Databases
from scripted_antom import (
    SESSION,
    Held,
    refused,
    session,
)
from use_cases.till import (
    LEASE_SECONDS,
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
    monkeypatch.setattr(service_module, "_KEEP_ANSWER_SECONDS", 0.0)
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
    apply = till.store.apply

    async def overloaded_once(members: Sequence[Member]) -> list[Applied]:
        if not refused_once.is_set():
            refused_once.set()
            raise LimitReached("store_writes")
        return await apply(members)

    monkeypatch.setattr(till.store, "apply", overloaded_once)
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
