"""What PostgreSQL itself does wrong: it crashes, fails over, is locked, frozen, full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import asyncpg

from antom_payments.store.log import LOG_LOCK
from chaos.scene import Fault, Scene
from chaos.town import NotInjected, Town

_OURS = "application_name = 'antom-payments'"
_FULL_BYTES = 4096


def faults() -> list[Fault]:
    """By what happens."""
    injects = {
        "immediate shutdown, crash recovery": partial(restarted, crash=True),
        "fast shutdown, restarted": partial(restarted, crash=False),
        "failed over to read-only": read_only,
        "all sessions terminated": terminated,
        "one backend dies by kill -9": backend_killed,
        "all backends frozen": backends_frozen,
        "payments locked": partial(locked, "LOCK TABLE payments IN ACCESS EXCLUSIVE MODE"),
        "the log's lock held": partial(locked, f"SELECT pg_advisory_xact_lock({LOG_LOCK})"),
        "a long transaction elsewhere": partial(locked, "SELECT count(*) FROM events"),
        "no connection left": exhausted,
        "no room for the write-ahead log": full,
    }
    return [Fault("PostgreSQL", name, inject) for name, inject in injects.items()]


@contextlib.asynccontextmanager
async def restarted(scene: Scene, *, crash: bool) -> AsyncIterator[None]:
    cluster = scene.town.cluster
    await asyncio.to_thread(cluster.crash if crash else cluster.stop)
    await scene.hold(0, 1)
    yield
    await asyncio.to_thread(cluster.start)


@contextlib.asynccontextmanager
async def read_only(scene: Scene) -> AsyncIterator[None]:
    """Demoted, as the old primary is in a failover; then it, or another, is promoted."""
    cluster = scene.town.cluster
    await cluster.execute(
        "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
    )
    try:
        await _terminated(scene.town)
        await scene.hold(0.5, 2)
        yield
    finally:
        await cluster.execute(
            "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"
        )


@contextlib.asynccontextmanager
async def terminated(scene: Scene) -> AsyncIterator[None]:
    await _terminated(scene.town)
    yield


@contextlib.asynccontextmanager
async def backend_killed(scene: Scene) -> AsyncIterator[None]:
    """PostgreSQL takes its shared memory for spoilt: it ends all sessions, and recovers."""
    os.kill(scene.random.choice(await _backends(scene.town)), signal.SIGKILL)
    yield
    await _recovered(scene.town)


@contextlib.asynccontextmanager
async def backends_frozen(scene: Scene) -> AsyncIterator[None]:
    pids = await _backends(scene.town)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await scene.hold(1, 3)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def locked(statement: str, scene: Scene) -> AsyncIterator[None]:
    """Somebody else's transaction holds what everybody needs."""
    connection = await asyncpg.connect(scene.town.cluster.url)
    try:
        await connection.execute("BEGIN")
        async with asyncio.timeout(10):
            await connection.execute(statement)
        await scene.hold(0.5, 2.5)
        yield
        await connection.execute("ROLLBACK")
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def exhausted(scene: Scene) -> AsyncIterator[None]:
    """Others hold all connections that PostgreSQL allows, and ours are cut."""
    taken: list[asyncpg.Connection] = []
    try:
        await _terminated(scene.town)
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(scene.town.cluster.url))
        await scene.hold(0.5, 1.5)
        if not taken:
            raise NotInjected("no connection was to be had")
        yield
    finally:
        for connection in taken:
            connection.terminate()


@contextlib.asynccontextmanager
async def full(scene: Scene) -> AsyncIterator[None]:
    """Backends may write no file beyond its first page: the first commit is a PANIC."""
    town = scene.town
    before = await _backends(town)
    limiting = town.process("limiting", "limit", bytes=_FULL_BYTES)
    owner = town.cluster.data.stat()
    limiting.order |= {"pids": before, "uid": owner.st_uid, "gid": owner.st_gid}
    await limiting.launch()
    if code := await limiting.ended():
        raise NotInjected(f"limits ended with {code}: {limiting.last_words()}")
    try:
        async with asyncio.timeout(10):
            while set(before) & set(await _backends(town, or_none=True)):  # noqa: ASYNC110 - PostgreSQL tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise NotInjected("PostgreSQL wrote nothing") from None
    yield
    await _recovered(scene.town)


async def _backends(town: Town, *, or_none: bool = False) -> list[int]:
    """Process ids of the sessions of servers and sidecars."""
    try:
        connection = await asyncpg.connect(town.cluster.url)
    except (OSError, asyncpg.PostgresError):
        return []
    try:
        rows = await connection.fetch(f"SELECT pid FROM pg_stat_activity WHERE {_OURS}")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return []
    finally:
        connection.terminate()
    pids = [row["pid"] for row in rows]
    if not pids and not or_none:
        raise NotInjected("nobody was connected")
    return pids


async def _terminated(town: Town) -> None:
    connection = await asyncpg.connect(town.cluster.url)
    try:
        told = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {_OURS}"
        if not await connection.fetchval(told):
            raise NotInjected("nobody was connected")
    finally:
        connection.terminate()


async def _recovered(town: Town) -> None:
    """Wait until PostgreSQL takes connections again."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await town.cluster.execute("SELECT 1")
                return
            await asyncio.sleep(0.05)
