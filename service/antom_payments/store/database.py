"""The database: reads, and writes in transactions that are repeated when it asks for it.

outages.py says what its errors mean, engines.py how its connections are made.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from antom_payments import sampling, telemetry
from antom_payments.errors import StoreOverloaded, StoreUnavailable
from antom_payments.store.engines import WRITER, PoolOptions, create_engine
from antom_payments.store.measures import DatabaseMeasures, count_failure, count_retry
from antom_payments.store.outages import TRIED_AGAIN, Trouble, code_of, trouble_of

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
Once = Callable[[float], Awaitable[T]]
"""One attempt, which must not begin after that time of the event loop."""

WRITES = "SELECT 1 FROM log_identity WHERE false FOR UPDATE"
"""Asks PostgreSQL whether it takes writes: fails where one would, without touching a row."""

_ATTEMPTS = 5
_LONGEST_TRANSACTION_SECONDS = 15.0
"""What PostgreSQL 17 allows a transaction itself; here also for older ones, and for a network that
takes its time with every statement."""
# An array's elements are unnested, hence locked, in its order.
_LOCK_EACH = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
_LONGEST_PAUSE_SECONDS = 0.1
"""Between two batches of one process."""
_SILENT_SECONDS = 10.0
"""Between two lines of the log about the same trouble."""

_log = telemetry.logger(__name__)


class Database:
    """One database: reads, and writes in retried transactions.

    Raises StoreUnavailable for whatever the database does wrong; programming errors stay as they
    are. Nothing waits without bound: callers wait at most `PoolOptions.budget_seconds`, and at most
    `PoolOptions.in_flight` of them.
    """

    def __init__(self, url: str, pool: PoolOptions | None = None) -> None:
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self._system = "sqlite" if self.is_sqlite else "postgresql"
        self._url = url
        self._pool = pool or PoolOptions()
        self._engine = create_engine(url, self._pool)
        self._writer = self._engine.execution_options(**{WRITER: True})
        # SQLite has one writer at a time and an unfair busy handler: queue here, in order.
        self._turns = asyncio.Semaphore(1 if self.is_sqlite else self._pool.writers)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._told: dict[Trouble, float] = {}
        self._measures = DatabaseMeasures(lambda: self._engine.pool, self._pool.size)
        self._measured = ExitStack()
        for context in self._measures.measured():
            self._measured.enter_context(context)

    @property
    def options(self) -> PoolOptions:
        """Its sizes and times."""
        return self._pool

    @property
    def engine(self) -> AsyncEngine:
        """The pool, for reading."""
        return self._engine

    @property
    def writer(self) -> AsyncEngine:
        """The same pool, with transactions that begin as writers."""
        return self._writer

    def unpooled(self) -> AsyncEngine:
        """An engine without a pool, for a connection with a life of its own (LISTEN).

        It is idle outside transactions for as long as it lives; its owner disposes of it.
        """
        return create_engine(self._url, self._pool, poolclass=NullPool)

    async def dispose(self) -> None:
        """Close all connections, once what is under way has ended, and whatever the server does."""
        self._measured.close()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_LONGEST_TRANSACTION_SECONDS)
        await self._engine.dispose()

    async def ping(self) -> None:
        """Ask for a sign of life of a database that takes writes. Raises StoreUnavailable.

        A server that was demoted answers reads as before: it is no database to serve from, and its
        connections are dropped.
        """
        question = "SELECT 1" if self.is_sqlite else WRITES
        await self.read(lambda connection: connection.execute(text(question)), sheds=False)

    async def read(self, work: Work[T], *, sheds: bool = True) -> T:
        """Run ``work`` in a transaction that is rolled back; again when its connection was cut.

        With ``sheds`` False it is never turned away for the number of those who wait: for the few
        readers whose number is bounded elsewhere, as the event stream's.

        Raises StoreUnavailable, and StoreOverloaded when too many wait.
        """
        return await self._to_its_end(lambda until: self._read_once(work, until), sheds=sheds)

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in one transaction and commit it; again when the database asks for it.

        ``work`` must have no effect outside the transaction and must be safe to repeat even after
        a commit whose answer was lost. After StoreUnavailable nobody knows whether it was
        committed, and it may yet be; after StoreOverloaded, which is one, nothing was done. Raises
        these, and what ``work`` raises.
        """
        return await self._to_its_end(lambda until: self._write_once(work, until), sheds=True)

    async def write_in_turn(self, work: Work[T]) -> T:
        """`write`, then pause as long as that took, at most 0.1 s: for one of many batches.

        SQLite's busy handler is no queue, and sleeps up to 0.1 s between two looks. Batch upon
        batch without a pause, other processes get the lock now and then only (measured: one
        notification waited 4.5 s for a pruning, 0.5 s with it).
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        written = await self.write(work)
        await asyncio.sleep(min(clock() - began, _LONGEST_PAUSE_SECONDS))
        return written

    async def _to_its_end(self, once: Once[T], *, sheds: bool) -> T:
        """Run ``once`` whole, also when the caller is cancelled or has waited long enough.

        A transaction that is cut in the middle costs its connection, and leaves open whether it was
        committed. The database's own timeouts bound it, and ours.
        """
        if sheds and len(self._under_way) >= self._pool.in_flight:
            self._note(Trouble.OVERLOADED)
            raise StoreOverloaded
        task = asyncio.create_task(self._repeated(once))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=self._pool.budget_seconds)
        if not done:
            self._note(Trouble.SLOW)
            raise StoreUnavailable
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may be waiting any more

    async def _repeated(self, once: Once[T]) -> T:
        """Run ``once`` until it succeeds, or fails in a way that repeating does not mend."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + self._pool.budget_seconds
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await once(give_up)
            except Exception as error:
                trouble = trouble_of(error)
                is_over = attempt == _ATTEMPTS or clock() >= give_up
                if trouble is None or (is_over and trouble is Trouble.TAKEN):
                    raise
                if is_over or trouble not in TRIED_AGAIN:
                    self._note(trouble, error)
                    raise StoreUnavailable from error
            count_retry(trouble)
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError("unreachable")

    async def _read_once(self, work: Work[T], until: float) -> T:
        with self._measures.transaction(writes=False) as transaction:
            async with self._engine.connect() as connection:
                transaction.connected()
                _refuse_late(until)
                return await work(connection)

    async def _write_once(self, work: Work[T], until: float) -> T:
        with self._traced(), self._measures.transaction(writes=True) as transaction:
            # In SQLite's queue as long as somebody may wait; else as for a connection.
            patience = self._pool.budget_seconds if self.is_sqlite else self._pool.timeout_seconds
            async with asyncio.timeout(patience):
                await self._turns.acquire()
            try:
                # SQLite's own thread goes on whatever is cancelled here.
                longest = None if self.is_sqlite else _LONGEST_TRANSACTION_SECONDS
                async with asyncio.timeout(longest), self._writer.begin() as connection:
                    transaction.connected()
                    _refuse_late(until)
                    return await work(connection)
            finally:
                self._turns.release()

    @contextmanager
    def _traced(self) -> Iterator[None]:
        """A span around a transaction; only what the database does wrong is an error of it."""
        name = sampling.TRANSACTION
        attributes = {"db.system.name": self._system, "db.operation.name": name}
        with telemetry.quiet_span(name, SpanKind.CLIENT, attributes=attributes) as span:
            try:
                yield
            except Exception as error:
                if trouble_of(error) is not None:
                    span.set_attribute("error.type", type(error).__name__)
                    span.set_status(StatusCode.ERROR)
                raise

    def _note(self, trouble: Trouble, error: Exception | None = None) -> None:
        """Count it, and say it now and then: not once for each call that suffers from it."""
        count_failure(trouble)
        now = asyncio.get_running_loop().time()
        if now - self._told.get(trouble, -_SILENT_SECONDS) < _SILENT_SECONDS:
            return
        self._told[trouble] = now
        code = code_of(error) if error else ""
        _log.warning("database_trouble", trouble=trouble.value, code=code, exc_info=error)


def _refuse_late(until: float) -> None:
    """Begin nothing that nobody waits for any more: its lease would keep others waiting."""
    if asyncio.get_running_loop().time() >= until:
        raise TimeoutError


async def lock_transaction(connection: AsyncConnection, keys: Sequence[int]) -> None:
    """Take PostgreSQL's advisory locks ``keys``, in this order, until the transaction ends.

    SQLite needs none: BEGIN IMMEDIATE lets one writer in.
    """
    if keys and connection.dialect.name == "postgresql":
        await connection.execute(_LOCK_EACH, {"keys": keys})
