"""A database of the version before, with money under way in it, becomes one of this version."""

from __future__ import annotations

import asyncio

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.payment import PaymentState
from antom_payments.store import DataCipher, migrate, open_store
from antom_payments.store.database import Database
from antom_payments.store.rows import payment_to_row
from antom_payments.store.schema import _MIGRATIONS
from antom_payments.store.tables import payments
from clock import FrozenClock
from facts import a_payment


def to_0001(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


async def of_0001(url: str) -> Database:
    """A database as the version before left it: a payment is open in it."""
    database = Database(url)
    async with database.writer.begin() as connection:
        await connection.run_sync(to_0001)
        waiting = payment_to_row(a_payment(PaymentState.AWAITING_BUYER))
        await connection.execute(payments.insert().values(waiting))
    return database


async def a_lock_is_waited_for(connection: AsyncConnection) -> None:
    asked = text("SELECT count(*), pg_sleep(0.01) FROM pg_locks WHERE NOT granted")
    while not (await connection.execute(asked)).one()[0]:
        pass


async def test_what_is_open_in_a_database_of_the_version_before_is_asked_about(
    empty_database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    await (await of_0001(empty_database_url)).dispose()
    await migrate(empty_database_url)
    async with open_store(empty_database_url, cipher=cipher, now=clock.now) as store:
        assert await store.adopt_missing_inquiries() == 1
        clock.advance(60)
        assert await store.has_due_inquiry()


async def test_a_migration_and_a_notification_that_is_being_applied_wait_for_each_other_in_order(
    empty_postgres_url: str,
) -> None:
    """The order of locks of whoever applies: payments read, notifications and payments written."""
    database = await of_0001(empty_postgres_url)
    async with database.engine.connect() as watching, database.writer.begin() as applying:
        await applying.execute(text("SELECT * FROM payments FOR UPDATE"))
        await applying.execute(text("UPDATE notifications SET copies = copies + 1"))
        migrating = asyncio.create_task(migrate(empty_postgres_url))
        async with asyncio.timeout(10):
            await a_lock_is_waited_for(watching)
        await applying.execute(text("UPDATE payments SET version = version + 1"))
    async with asyncio.timeout(10):
        assert await migrating >= "0002"
    await database.dispose()
