"""Engines: pools of connections with the settings of a payments database.

PostgreSQL (asyncpg) and SQLite (aiosqlite) run the same SQL; how their connections differ is here.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import URL, Connection, Pool, event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from antom_payments.errors import ConfigurationError
from antom_payments.store.outages import Trouble, drop_with_its_pool, hang_up, trouble_of_driver

WRITER = "antom_payments_writer"
"""The execution option of connections whose transactions begin as writers."""

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
_CONNECT_SECONDS = 3.0
_WAL_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Sizes and times of one process's use of its database. Times in seconds."""

    size: int = 8
    timeout_seconds: float = 2.0
    """Longest wait for a connection of the pool; one more is then refused."""
    statement_cache_size: int = 100
    """0 behind PgBouncer in transaction mode: its prepared statements are per connection."""
    command_timeout_seconds: float | None = 6.0
    """Longest wait for one answer of PostgreSQL, for a server that is frozen: longer than what the
    server itself allows a statement. None is for ever."""
    budget_seconds: float = 12.0
    """Longest that a caller waits for one read or write, repetitions and waiting included. Longer
    than SQLite waits for another process's lock (10 s)."""
    in_flight: int = 512
    """Most reads and writes of callers at one time, whether they run or wait."""

    @property
    def writers(self) -> int:
        """Connections that writers may hold at one time.

        A lock storm must leave some to readers, the event stream among them.
        """
        return max(1, self.size - max(1, self.size // 4))


def create_engine(url: str, pool: PoolOptions, poolclass: type[Pool] | None = None) -> AsyncEngine:
    """An engine for ``url``, as operators write it. Raises ConfigurationError."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        engine = _create_sqlite(str(parsed.database or ""), pool)
    elif backend == "postgresql":
        engine = _create_postgres(parsed, pool, poolclass)
    else:
        raise ConfigurationError(
            "ANTOM_PAYMENTS_DATABASE_URL",
            "expected postgresql://user:password@host/database or sqlite:///path/to/file.db",
        )
    event.listen(engine.sync_engine, "handle_error", drop_with_its_pool)
    return engine


def _create_postgres(url: URL, pool: PoolOptions, poolclass: type[Pool] | None) -> AsyncEngine:
    sizes: dict[str, Any] = {"poolclass": poolclass} if poolclass else _pool_arguments(pool)
    engine = create_async_engine(
        _asyncpg_url(url),
        **sizes,
        hide_parameters=True,
        connect_args={
            "server_settings": _POSTGRES_SETTINGS,
            "statement_cache_size": pool.statement_cache_size,
            "timeout": _CONNECT_SECONDS,
            "command_timeout": pool.command_timeout_seconds,
            # Never a standby: its log is behind, and it takes no payment (ops.md P-19).
            "target_session_attrs": "read-write",
        },
    )
    event.listen(engine.sync_engine, "connect", _set_transaction_timeout)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "close", _hang_up_when_idle)
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


def _refuse_closed(connection: Any, record: Any, proxy: Any) -> None:  # noqa: ARG001 - an event's
    """Take another connection when the server has ended this one, and with it all older ones.

    The driver knows without asking. (`pool_pre_ping` asks, for a fifth of the throughput: ops M25.)
    """
    driver: asyncpg.Connection[Any] = connection.driver_connection
    if driver.is_closed():
        raise exc.InvalidatePoolError


def _hang_up_when_idle(connection: Any, record: Any) -> None:  # noqa: ARG001 - an event's
    """Wait for no good-bye: of a frozen server's pool, each connection would cost two seconds.

    In a transaction the driver's own way is better: it cancels what runs, hence frees its locks.
    """
    driver = connection.driver_connection
    if not driver.is_closed() and not driver.is_in_transaction():
        hang_up(connection)


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
    _switch_to_wal(connection, cursor)
    for pragma in (
        # NORMAL may lose an acknowledged commit in a power cut (ops.md P-20).
        "synchronous = FULL",
        "busy_timeout = 10000",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _switch_to_wal(connection: Any, cursor: Any) -> None:
    """Use a write-ahead log, which the file remembers.

    Two processes that switch a new file at once fail without waiting, whatever their timeout
    (measured: one in six pairs).
    """
    for attempt in range(_WAL_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if trouble_of_driver(error) is not Trouble.CONFLICT or attempt + 1 == _WAL_ATTEMPTS:
                raise
            pause = random.uniform(0, 0.02)
            connection.run_async(lambda _, pause=pause: asyncio.sleep(pause))
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the write lock at once.

    A transaction that reads first and writes later fails at once when another process wrote in
    between (measured: 98 % of two processes' transactions).
    """
    is_writer = connection.get_execution_options().get(WRITER)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")
