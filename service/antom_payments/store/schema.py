"""The schema's version: migrate to it, and refuse to run on an older one."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import SchemaOutdated
from antom_payments.store.database import Database, PoolOptions, in_our_words

_MIGRATIONS = Path(__file__).parent.parent / "migrations"


async def migrate(database_url: str) -> str:
    """Bring the database's schema up to date; the revision it is at now.

    Safe to run from several processes at once: they queue on a lock of the database. One
    transaction: it is done whole or not at all.

    Raises StoreUnavailable when the database cannot be reached.
    """
    database = Database(database_url, PoolOptions(size=1, command_timeout_seconds=None))
    try:
        with in_our_words():
            async with database.writer.begin() as connection:
                await connection.run_sync(_upgrade)
        return _needed_revision()
    finally:
        await database.dispose()


async def refuse_old_schema(connection: AsyncConnection) -> None:
    """Raise SchemaOutdated when the schema is older than this version needs.

    A newer schema is served: migrations only add until the next version needs what they added.
    """
    found = await connection.run_sync(
        lambda sync: MigrationContext.configure(sync).get_current_revision()
    )
    script = ScriptDirectory.from_config(_config())
    known = {revision.revision for revision in script.walk_revisions()}
    if found is None or (found in known and found != _needed_revision()):
        raise SchemaOutdated(found, _needed_revision())


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _needed_revision() -> str:
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
