"""SQLite without its thread: statements run at once, their answers take a time that is drawn.

The real library and real files, behind the interface of aiosqlite that SQLAlchemy's dialect calls.
A file that another process has locked makes a statement wait in virtual time, as SQLite's own busy
handler does, so that the other process goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar
from unittest import mock

from sqlalchemy import make_url
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_dbapi, SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import LRUCache

from antom_payments.store import engines
from simulation.loop import Process, SeededLoop

T = TypeVar("T")

_SLOW = 0.08
"""How probably a statement takes time; the others only let other processes run in between."""
_BUSY_SECONDS = (0.001, 0.05)
"""Between two looks at a lock."""
_WAITS_FOR_LOCKS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Disk:
    """The machine room's one disk: opens files, counts, and lets things go wrong."""

    def __init__(self, loop: SeededLoop, random: Random, on_commit: Callable[[], None]) -> None:
        self.loop = loop
        self.random = random
        self.on_commit = on_commit
        """Called after each commit, before anybody else runs."""
        self.is_away: set[Process] = set()
        """For whom no statement works."""
        self.statements = self.busy = self.errors = 0

    async def run(self, work: Callable[[], T], process: Process, patience: float) -> T:
        """Do ``work``, wait while the file is locked, and let the answer take its time."""
        self.statements += 1
        deadline = self.loop.time() + patience
        while True:
            try:
                if process in self.is_away:
                    raise _error(sqlite3.SQLITE_IOERR, "SQLITE_IOERR")
                result = work()
                break
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)
                if code not in _WAITS_FOR_LOCKS or self.loop.time() >= deadline:
                    self.errors += 1
                    raise
            self.busy += 1
            await asyncio.sleep(self.random.uniform(*_BUSY_SECONDS))
        slow = self.random.random() < _SLOW
        await asyncio.sleep(self.random.expovariate(200.0) if slow else 0)
        return result

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the product's engines use this disk while the block runs."""
        InlineDialect.disk = self
        with mock.patch.object(engines, "create_async_engine", _create_inline):
            try:
                yield
            finally:
                del InlineDialect.disk


class _Connection:
    """What aiosqlite's connection is to SQLAlchemy."""

    def __init__(self, disk: Disk, file: str, **words: Any) -> None:
        self._disk = disk
        self._file = file
        self._words = words | {"timeout": 0, "check_same_thread": False}
        self._patience = 10.0
        self._process = disk.loop.current
        self._connection: sqlite3.Connection | None = None
        self._thread = SimpleNamespace(daemon=True)

    def __await__(self) -> Generator[Any, None, _Connection]:
        return self._connect().__await__()

    async def _connect(self) -> _Connection:
        def work() -> None:
            self._connection = sqlite3.connect(self._file, **self._words)

        self._process.at_death.append(self._drop)
        await self._run(work)
        return self

    @property
    def raw(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("no active connection")
        return self._connection

    def cursor(self) -> _Cursor:
        return _Cursor(self)

    async def create_function(self, *words: Any, **more: Any) -> None:
        self.raw.create_function(*words, **more)

    async def commit(self) -> None:
        wrote = self.raw.in_transaction

        def work() -> None:
            self.raw.commit()
            if wrote:
                self._disk.on_commit()

        await self._run(work)

    async def rollback(self) -> None:
        if self.raw.in_transaction:
            await self._run(self.raw.rollback)

    async def close(self) -> None:
        self.stop()
        await asyncio.sleep(0)

    def stop(self) -> None:
        with contextlib.suppress(ValueError):
            self._process.at_death.remove(self._drop)
        self._drop()

    def _drop(self) -> None:
        """Let go of the file, of what was begun first.

        A connection with statements that were not read to their end would live on, and its lock.
        """
        raw, self._connection = self._connection, None
        if raw is not None:
            raw.rollback()
            raw.close()

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._disk.run(work, self._process, self._patience)

    async def execute(self, cursor: sqlite3.Cursor, sql: str, *values: Any) -> None:
        if sql.startswith("PRAGMA busy_timeout"):
            # The real one would hold up the whole simulation.
            self._patience = int(sql.rpartition("=")[2]) / 1000
            return
        await self._run(lambda: cursor.execute(sql, *values))

    async def executemany(self, cursor: sqlite3.Cursor, sql: str, values: Any) -> None:
        await self._run(lambda: cursor.executemany(sql, values))


class _Cursor:
    """What aiosqlite's cursor is to SQLAlchemy."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._cursor = connection.raw.cursor()

    async def __aenter__(self) -> _Cursor:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    async def execute(self, sql: str, *values: Any) -> _Cursor:
        await self._connection.execute(self._cursor, sql, *values)
        return self

    async def executemany(self, sql: str, values: Any) -> _Cursor:
        await self._connection.executemany(self._cursor, sql, values)
        return self

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()


class InlineDialect(SQLiteDialect_aiosqlite):
    """SQLite's dialect on the disk that is in use.

    All of these are the same to SQLAlchemy: what one engine has compiled, the others need not. The
    many short-lived engines of a run would compile for most of its time.
    """

    driver = "inline"
    supports_statement_cache = True
    disk: ClassVar[Disk]

    @classmethod
    def import_dbapi(cls) -> AsyncAdapt_aiosqlite_dbapi:
        """Shaped like aiosqlite."""
        names = (
            *("DatabaseError", "Error", "IntegrityError", "NotSupportedError", "OperationalError"),
            *("ProgrammingError", "sqlite_version", "sqlite_version_info"),
        )
        shape: Any = SimpleNamespace(
            connect=lambda file, **words: _Connection(cls.disk, file, **words),
            Connection=_Connection,
            __version__="0.22.1",
            **{name: getattr(sqlite3, name) for name in names},
        )
        return AsyncAdapt_aiosqlite_dbapi(shape, sqlite3)

    def __hash__(self) -> int:
        return hash(InlineDialect)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InlineDialect)


registry.register("sqlite.inline", __name__, InlineDialect.__name__)
_COMPILED: Any = LRUCache(2_000)


def _create_inline(url: str, **words: Any) -> AsyncEngine:
    engine = create_async_engine(make_url(url).set(drivername="sqlite+inline"), **words)
    engine.sync_engine._compiled_cache = _COMPILED
    return engine


def _error(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


def snapshot(file: Path, copy: Path) -> None:
    """Copy the database as docs/restore.md says."""
    copy.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))


def put_back(copy: Path, file: Path) -> None:
    """Restore the copy as docs/restore.md says; raises OperationalError while somebody writes."""
    with (
        contextlib.closing(sqlite3.connect(copy)) as source,
        contextlib.closing(sqlite3.connect(file, timeout=0)) as target,
    ):
        # Left alone, it would wait in real time, for a process that is simulated.
        source.backup(target, progress=_unless_busy)


def _unless_busy(status: int, _remaining: int, _total: int) -> None:
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise sqlite3.OperationalError("database is locked")
