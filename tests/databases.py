"""A database of its own for each test: a file, or a copy of a migrated template."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg

import postgres_server
from antom_payments.store import migrate
from postgres_server import Choice, PostgresServer, PostgresUnavailable

SQLITE, POSTGRES = "sqlite", "postgres"
NOT_ASKED_FOR = "not asked for"


class Databases:
    """What a run's tests get their databases from; PostgreSQL starts when the first one asks."""

    def __init__(self, choice: Choice, environ: Mapping[str, str], folder: Path) -> None:
        self._choice = choice
        self._environ = environ
        self._folder = folder
        self._server: PostgresServer | PostgresUnavailable | None = None
        # A given server may serve other runs, and the other workers of this one.
        self.prefix = f"antom_payments_test_{secrets.token_hex(6)}_"
        self._names = (f"{self.prefix}{n}" for n in range(1_000_000))
        self._template: str | None = None

    @property
    def how(self) -> str:
        """Which PostgreSQL the run used, in words."""
        match self._server:
            case None:
                return NOT_ASKED_FOR
            case PostgresServer() as server:
                return server.how
            case unavailable:
                return f"NOT AVAILABLE: {unavailable}"

    def server(self) -> PostgresServer:
        """The run's PostgreSQL. Raises the same `PostgresUnavailable` for every test that asks."""
        if self._server is None:
            try:
                self._server = postgres_server.start(self._choice, self._environ)
            except PostgresUnavailable as error:
                self._server = error
        if isinstance(self._server, PostgresUnavailable):
            raise self._server
        return self._server

    @contextlib.asynccontextmanager
    async def fresh(self, kind: str, *, migrated: bool = True) -> AsyncIterator[str]:
        """The URL of a new database; fails when a connection to it is left open at the end."""
        name = next(self._names)
        if kind == SQLITE:
            async with self._fresh_file(name, migrated=migrated) as url:
                yield url
        else:
            template = await self._migrated_template() if migrated else "template0"
            await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            try:
                yield self._url(name)
            finally:
                await self._drop(name)

    async def stop(self) -> None:
        """Leave nothing behind: a given server keeps no template of ours."""
        if isinstance(self._server, PostgresServer):
            if self._template is not None:
                await self._drop(self._template)
            self._server.stop()

    @contextlib.asynccontextmanager
    async def _fresh_file(self, name: str, *, migrated: bool) -> AsyncIterator[str]:
        file = self._folder / f"{name}.db"
        if migrated:
            template = self._folder / "template.db"
            if not template.exists():
                await migrate(f"sqlite+aiosqlite:///{template}")
            shutil.copyfile(template, file)
        yield f"sqlite+aiosqlite:///{file}"
        left_open = _open_files(file)
        for path in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            path.unlink(missing_ok=True)
        assert not left_open, f"left open: {', '.join(left_open)}"

    async def _migrated_template(self) -> str:
        if self._template is None:
            name = next(self._names)
            await self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
            try:
                await migrate(self._url(name))
            except BaseException:
                await self._drop(name)
                raise
            self._template = name
        return self._template

    async def _drop(self, name: str) -> None:
        # PostgreSQL itself waits up to 5 s for connections that are just being closed.
        try:
            await self._execute(f"DROP DATABASE {name}")
        except asyncpg.ObjectInUseError:
            left_open = await self._connections(name)
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")
            raise AssertionError(f"connections left open to {name}: {left_open}") from None

    async def _connections(self, name: str) -> list[str]:
        connection = await self._admin()
        try:
            rows = await connection.fetch(
                "SELECT application_name, state, query FROM pg_stat_activity WHERE datname = $1",
                name,
            )
            return [f"{row[0] or '-'} {row[1]}: {row[2]}" for row in rows]
        finally:
            await connection.close()

    async def _execute(self, statement: str) -> None:
        connection = await self._admin()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _admin(self) -> asyncpg.Connection:
        url = self.server().url.set(drivername="postgresql")
        return await asyncpg.connect(url.render_as_string(hide_password=False))

    def _url(self, name: str) -> str:
        return self.server().url.set(database=name).render_as_string(hide_password=False)


def _open_files(file: Path) -> list[str]:
    """Names below ``file``'s that this process still holds open; nothing where /proc is missing."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith(str(file)):
                    found.add(Path(target).name)
    return sorted(found)
