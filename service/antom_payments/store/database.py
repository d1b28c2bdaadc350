"""The database: engines with their settings, transactions with retries, errors in our words.

PostgreSQL (asyncpg) and SQLite (aiosqlite) run the same SQL; what differs is here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import URL, Connection, NullPool, Pool, event, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from antom_payments import telemetry
from antom_payments.errors import ConfigurationError, StoreUnavailable

T = TypeVar("T")

_WRITER = "antom_payments_writer"
_ATTEMPTS = 5
_LONGEST_TRANSACTION_SECONDS = 15.0
# PostgreSQL: serialization failure, deadlock, lock timeout. The transaction did nothing: run it
# again (PostgreSQL docs 13.5).
_RETRIED_SQLSTATES = frozenset({"40001", "40P01", "55P03"})
_POSTGRES_SETTINGS = {
    "application_name": "antom-payments",
    "timezone": "UTC",
    "search_path": "public",
    "statement_timeout": "5000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "10000",
    # An acknowledged notification must survive a power cut (ops.md P-18).
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
}
_POSTGRES_17 = 17
# An array's elements are unnested, hence locked, in its order.
_LOCK_EACH = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
_OUTAGES = (
    exc.DBAPIError,
    exc.TimeoutError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Sizes of the connection pool; an exhausted pool fails after ``timeout_seconds``."""

    size: int = 8
    timeout_seconds: float = 2.0
    statement_cache_size: int = 100
    """0 behind PgBouncer in transaction mode: its prepared statements are per connection."""
    command_timeout_seconds: float | None = 10.0
    """Longest wait for one answer of PostgreSQL, for a server that is frozen; None is for ever."""


class Database:
    """One database: reads, and writes in retried transactions.

    Raises StoreUnavailable for whatever the database does wrong; programming errors, and values
    that cannot be written, stay as they are.
    """

    def __init__(self, url: str, pool: PoolOptions | None = None) -> None:
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self._url = url
        self._pool = pool or PoolOptions()
        self._engine = _create_engine(url, self._pool)
        self._writer = self._engine.execution_options(**{_WRITER: True})
        # SQLite has one writer at a time and an unfair busy handler: queue here, in order.
        self._turn: asyncio.Lock | None = asyncio.Lock() if self.is_sqlite else None
        self._under_way: set[asyncio.Task[Any]] = set()

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
        return _create_engine(self._url, self._pool, poolclass=NullPool)

    async def dispose(self) -> None:
        """Close all connections, once what is under way has ended."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_LONGEST_TRANSACTION_SECONDS)
        await self._engine.dispose()

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction that is rolled back. Raises StoreUnavailable."""
        return await self._to_its_end(self._read(work))

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` in one transaction and commit it; again when the database asks for it.

        ``work`` must have no effect outside the transaction and must be safe to repeat even after
        a commit whose answer was lost. Raises StoreUnavailable, and what ``work`` raises.
        """
        return await self._to_its_end(self._write(work))

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` whole, also when the caller is cancelled.

        A transaction that is cut in the middle costs its connection, and leaves open whether it was
        committed. The database's own timeouts bound it.
        """
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may be waiting any more

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        with in_our_words():
            async with self._engine.connect() as connection:
                return await work(connection)

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        for attempt in range(_ATTEMPTS):
            try:
                with telemetry.quiet_span("transaction"):
                    return await self._write_once(work)
            except exc.ProgrammingError:
                raise
            except exc.IntegrityError:
                # Two transactions wrote the same new key: the second look finds the first's row.
                if attempt + 1 == _ATTEMPTS:
                    raise
            except _OUTAGES as error:
                if _is_about_a_value(error):
                    raise
                if attempt + 1 == _ATTEMPTS or not _is_retried(error):
                    raise StoreUnavailable from error
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("unreachable")

    async def _write_once(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        if self._turn is None:
            async with self._writer.begin() as connection:
                return await work(connection)
        async with self._turn, self._writer.begin() as connection:
            return await work(connection)


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn whatever the database does wrong into StoreUnavailable; our mistakes stay as they are.

    asyncpg's own errors are listed because SQLAlchemy does not wrap them while connecting.
    """
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError):
        raise
    except _OUTAGES as error:
        raise StoreUnavailable from error


def _is_about_a_value(error: Exception) -> bool:
    """Whether the database is well and refuses what it was given (SQLSTATE class 22)."""
    if not isinstance(error, exc.DBAPIError):
        return False
    if isinstance(error, exc.DataError) or isinstance(error.driver_exception, ValueError):
        return True
    return str(getattr(error.orig, "sqlstate", "")).startswith("22")


def _is_retried(error: Exception) -> bool:
    if not isinstance(error, exc.DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) in _RETRIED_SQLSTATES:
        return True
    if error.connection_invalidated:
        return True
    return "database is locked" in str(error.orig)


def _create_engine(url: str, pool: PoolOptions, poolclass: type[Pool] | None = None) -> AsyncEngine:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _create_sqlite(str(parsed.database or ""), pool)
    if backend != "postgresql":
        raise ConfigurationError(
            "ANTOM_PAYMENTS_DATABASE_URL",
            "expected postgresql://user:password@host/database or sqlite:///path/to/file.db",
        )
    sizes: dict[str, Any] = {"poolclass": poolclass} if poolclass else _pool_arguments(pool)
    engine = create_async_engine(
        _asyncpg_url(parsed),
        **sizes,
        hide_parameters=True,
        connect_args={
            "server_settings": _POSTGRES_SETTINGS,
            "statement_cache_size": pool.statement_cache_size,
            "timeout": 5,
            "command_timeout": pool.command_timeout_seconds,
        },
    )
    event.listen(engine.sync_engine, "connect", _set_transaction_timeout)
    return engine


def _asyncpg_url(url: URL) -> URL:
    """``url`` for asyncpg, which calls libpq's `sslmode` `ssl`; refuses what it would not know."""
    words = dict(url.query)
    mode = words.pop("sslmode", None) or words.pop("ssl", None)
    if words:
        raise ConfigurationError(
            "ANTOM_PAYMENTS_DATABASE_URL",
            f"expected no other parameter than sslmode, found {', '.join(sorted(words))}",
        )
    return url.set(drivername="postgresql+asyncpg", query={"ssl": mode} if mode else {})


def _pool_arguments(pool: PoolOptions) -> dict[str, Any]:
    return {
        "pool_size": pool.size,
        "max_overflow": 0,
        "pool_timeout": pool.timeout_seconds,
        "pool_recycle": 1800,
        "pool_use_lifo": True,
    }


def _set_transaction_timeout(connection: Any, record: Any) -> None:  # noqa: ARG001 - an event's
    """Bound whole transactions where the server can (PostgreSQL 17 and newer).

    On the driver's own connection: in the transaction that SQLAlchemy has open here, the setting
    would be rolled back.
    """

    async def bound(driver: Any) -> None:
        if driver.get_server_version().major >= _POSTGRES_17:
            await driver.execute("SET transaction_timeout = '15s'")

    connection.run_async(bound)


def _create_sqlite(path: str, pool: PoolOptions) -> AsyncEngine:
    if not path or path == ":memory:":
        raise ConfigurationError(
            "ANTOM_PAYMENTS_DATABASE_URL",
            "expected a file, as in sqlite:///path/to/file.db: several processes share it",
        )
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        **_pool_arguments(pool),
        hide_parameters=True,
        # No implicit transactions of the driver: `_begin_sqlite` says how each one begins.
        connect_args={"isolation_level": None, "timeout": 10},
    )
    event.listen(engine.sync_engine, "connect", _set_sqlite_pragmas)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _set_sqlite_pragmas(connection: Any, record: Any) -> None:  # noqa: ARG001 - an event's
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        # NORMAL may lose an acknowledged commit in a power cut (ops.md P-20).
        "synchronous = FULL",
        "busy_timeout = 10000",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the write lock at once.

    A transaction that reads first and writes later fails at once when another process wrote in
    between (measured: 98 % of two processes' transactions).
    """
    is_writer = connection.get_execution_options().get(_WRITER)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


async def lock_transaction(connection: AsyncConnection, keys: Sequence[int]) -> None:
    """Take PostgreSQL's advisory locks ``keys``, in this order, until the transaction ends.

    SQLite needs none: BEGIN IMMEDIATE lets one writer in.
    """
    if keys and connection.dialect.name == "postgresql":
        await connection.execute(_LOCK_EACH, {"keys": keys})
