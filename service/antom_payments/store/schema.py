"""The schema's version: migrate to it, and refuse to run on an older one.

A revision is the number that its file in `migrations/versions` begins with. Alembic, which is slow
to import, is loaded only when there is something to migrate.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import SchemaOutdated
from antom_payments.store.database import Database
from antom_payments.store.engines import PoolOptions
from antom_payments.store.outages import in_our_words

_MIGRATIONS = Path(__file__).parent.parent / "migrations"


def revisions() -> list[str]:
    """All revisions of this version, oldest first; the last is the one it needs."""
    files = (_MIGRATIONS / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)


async def migrate(database_url: str) -> str:
    """Bring the database's schema up to date; the revision it is at now.

    Safe to run from several processes at once: they queue on a lock of the database. One
    transaction: it is done whole or not at all. A newer schema is left as it is.

    Raises StoreUnavailable when the database cannot be reached or its locks are not free in time,
    and IndexBeingBuilt when a migration would wait for the build of an index.
    """
    database = Database(database_url, PoolOptions(size=1, command_timeout_seconds=None))
    try:
        with in_our_words():
            async with database.writer.begin() as connection:
                found = await connection.run_sync(_revision)
                if found is None or found in revisions()[:-1]:
                    await connection.run_sync(_upgrade)
                    found = revisions()[-1]
        return found
    finally:
        await database.dispose()


async def refuse_old_schema(connection: AsyncConnection) -> None:
    """Raise SchemaOutdated when the schema is older than this version needs.

    A newer schema is served: migrations only add until the next version needs what they added.
    """
    found = await connection.run_sync(_revision)
    if found is None or found in revisions()[:-1]:
        raise SchemaOutdated(found, revisions()[-1])


def _revision(connection: Connection) -> str | None:
    """The database's revision; None while it has no schema of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
