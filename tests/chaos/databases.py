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
from chaos.process import PATIENCE, NotInjected
from chaos.scene import Fault, Scene
from chaos.town import Town

_OURS = "application_name = 'antom-payments'"
_TERMINATE = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {_OURS}"
_WAITING = (
    f"SELECT count(*) FROM pg_stat_activity WHERE {_OURS} AND $1 = ANY(pg_blocking_pids(pid))"
)
_LAST = "SELECT coalesce(max(sequence), 0) FROM events"
_FULL_BYTES = 4096
_FELT_SECONDS = 20.0
_SOME_EVENTS = 10
_AT_ONCE = 16


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
        "a long transaction elsewhere": long_transaction,
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
    """Somebody else's transaction holds what everybody needs, until one of ours has waited."""
    connection, observer = [await asyncpg.connect(scene.town.cluster.url) for _ in range(2)]
    try:
        await connection.execute("BEGIN")
        async with asyncio.timeout(10):
            await connection.execute(statement)
        holder = connection.get_server_pid()
        try:
            async with asyncio.timeout(_FELT_SECONDS):
                while not await observer.fetchval(_WAITING, holder):  # noqa: ASYNC110 - PostgreSQL tells nobody
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise NotInjected("nobody waited for the lock") from None
        await scene.hold(0.5, 2.5)
        yield
        await connection.execute("ROLLBACK")
    finally:
        connection.terminate()
        observer.terminate()


@contextlib.asynccontextmanager
async def long_transaction(scene: Scene) -> AsyncIterator[None]:
    """An old snapshot, with a transaction id: nothing can be vacuumed, and ours go on the same."""
    connection, observer = [await asyncpg.connect(scene.town.cluster.url) for _ in range(2)]
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.fetchval("SELECT pg_current_xact_id()")
        seen = await connection.fetchval(_LAST)
        await scene.hold(0.5, 2.5)
        heard = scene.load.counts["event"]
        try:
            async with asyncio.timeout(PATIENCE):
                while (  # noqa: ASYNC110 - PostgreSQL tells nobody
                    await observer.fetchval(_LAST) < seen + _SOME_EVENTS
                    or scene.load.counts["event"] < heard + _SOME_EVENTS
                ):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError("the log stood still beside a long transaction") from None
        if await connection.fetchval(_LAST) != seen:
            raise NotInjected("the transaction held no snapshot")
        yield
        await connection.execute("ROLLBACK")
    finally:
        connection.terminate()
        observer.terminate()


@contextlib.asynccontextmanager
async def exhausted(scene: Scene) -> AsyncIterator[None]:
    """Others hold all connections that PostgreSQL allows, and ours are cut."""
    url = scene.town.cluster.url
    taken: list[asyncpg.Connection] = []

    async def take() -> bool:
        """Take one more; False when there is none."""
        try:
            taken.append(await asyncpg.connect(url))
        except asyncpg.TooManyConnectionsError:
            return False
        return True

    try:
        await take()
        async with asyncio.timeout(_FELT_SECONDS):
            # Ours come back as fast as they can: of the places that they leave, some are theirs.
            while True:
                while all(await asyncio.gather(*(take() for _ in range(_AT_ONCE)))):
                    pass
                if not await taken[0].fetchval(_TERMINATE):
                    break
        await scene.hold(0.5, 1.5)
        yield
    except TimeoutError:
        raise NotInjected("ours kept a connection") from None
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
        async with asyncio.timeout(PATIENCE):
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
        if not await connection.fetchval(_TERMINATE):
            raise NotInjected("nobody was connected")
    finally:
        connection.terminate()


async def _recovered(town: Town) -> None:
    """Wait until PostgreSQL takes connections again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await town.cluster.execute("SELECT 1")
                return
            await asyncio.sleep(0.05)
