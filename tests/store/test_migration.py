"""A database of the version before, with money under way in it, becomes one of this version."""

from __future__ import annotations

import asyncio
import re
from functools import partial

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import IndexBeingBuilt, StoreUnavailable
from antom_payments.payment import PaymentState
from antom_payments.store import DataCipher, migrate, open_store
from antom_payments.store.database import Database
from antom_payments.store.rows import payment_to_row
from antom_payments.store.schema import _MIGRATIONS
from antom_payments.store.tables import payments
from clock import FrozenClock
from docs_tables import ROOT
from facts import a_payment
from store.test_database import differences

LISTED_BY = (
    "ix_payments_created",
    "ix_payments_created_in_state",
    "ix_payments_updated",
    "ix_payments_told",
)


def to(revision: str, connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def of(revision: str, url: str) -> Database:
    """A database as an earlier version left it: a payment is open in it."""
    database = Database(url)
    async with database.writer.begin() as connection:
        await connection.run_sync(partial(to, revision))
        waiting = payment_to_row(a_payment(PaymentState.AWAITING_BUYER))
        await connection.execute(payments.insert().values(waiting))
    return database


async def a_lock_is_waited_for(connection: AsyncConnection) -> None:
    asked = text("SELECT count(*), pg_sleep(0.01) FROM pg_locks WHERE NOT granted")
    while not (await connection.execute(asked)).one()[0]:
        pass


async def test_what_is_open_in_a_database_of_the_first_version_is_asked_about(
    empty_database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    await (await of("0001", empty_database_url)).dispose()
    await migrate(empty_database_url)
    async with open_store(empty_database_url, cipher=cipher, now=clock.now) as store:
        assert await store.adopt_missing_inquiries() == 1
        clock.advance(60)
        assert await store.has_due_inquiry()


async def test_a_migration_and_a_notification_that_is_being_applied_wait_for_each_other_in_order(
    empty_postgres_url: str,
) -> None:
    """The order of locks of whoever applies: payments read, notifications and payments written."""
    database = await of("0001", empty_postgres_url)
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


async def index_numbers(database: Database) -> dict[str, tuple[int, bool]]:
    """The indexes of lists that there are: the file's number, and whether they serve."""
    asked = text(
        "SELECT relname, relfilenode, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relname = ANY(:names)"
    )
    async with database.engine.connect() as connection:
        found = await connection.execute(asked, {"names": list(LISTED_BY)})
        return {row[0]: (row[1], row[2]) for row in found}


async def test_indexes_that_an_operator_built_beside_writers_are_kept_and_failed_ones_replaced(
    empty_postgres_url: str,
) -> None:
    """As docs/database.md says: built before the migration, which then has little to do."""
    database = await of("0002", empty_postgres_url)
    async with database.writer.begin() as connection:
        another = a_payment(PaymentState.FAILED, payment_request_id="another")
        await connection.execute(payments.insert().values(payment_to_row(another)))
    page = (ROOT / "docs" / "database.md").read_text("utf-8")
    [built] = re.findall(r"^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    plain = make_url(empty_postgres_url).set(drivername="postgresql")
    operator = await asyncpg.connect(plain.render_as_string(hide_password=False))
    for statement in built.strip().split(";\n"):
        await operator.execute(statement)
    before = await index_numbers(database)
    assert {name: valid for name, (_, valid) in before.items()} == dict.fromkeys(LISTED_BY, True)
    # A build that fails leaves its index behind.
    await operator.execute("DROP INDEX ix_payments_updated")
    with pytest.raises(asyncpg.UniqueViolationError):
        await operator.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY ix_payments_updated ON payments (currency_code)"
        )
    await operator.close()
    assert not (await index_numbers(database))["ix_payments_updated"][1]
    assert await migrate(empty_postgres_url) >= "0003"
    after = await index_numbers(database)
    assert {name: valid for name, (_, valid) in after.items()} == dict.fromkeys(LISTED_BY, True)
    kept = {name for name in LISTED_BY if after[name] == before[name]}
    assert kept == {*LISTED_BY} - {"ix_payments_updated"}
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.dispose()


async def test_a_migration_beside_an_index_that_is_being_built_is_refused_and_stops_nobody(
    empty_postgres_url: str,
) -> None:
    """Its index is not valid yet, and looks like one that was abandoned."""
    database = await of("0002", empty_postgres_url)
    plain = make_url(empty_postgres_url).set(drivername="postgresql")
    operator = await asyncpg.connect(plain.render_as_string(hide_password=False))
    async with database.engine.connect() as watching, database.writer.begin() as writing:
        # A build waits for whoever writes.
        await writing.execute(text("UPDATE payments SET version = version + 1"))
        building = asyncio.create_task(
            operator.execute(
                "CREATE INDEX CONCURRENTLY ix_payments_created"
                " ON payments (merchant_account, create_time)"
            )
        )
        async with asyncio.timeout(10):
            await a_lock_is_waited_for(watching)
        with pytest.raises(IndexBeingBuilt, match="an index of payments is being built"):
            await migrate(empty_postgres_url)
        async with asyncio.timeout(10):
            assert (await watching.execute(text("SELECT count(*) FROM payments"))).scalar() == 1
    await building
    await operator.close()
    built = await index_numbers(database)
    assert built["ix_payments_created"][1]
    assert await migrate(empty_postgres_url) >= "0003"
    after = await index_numbers(database)
    assert after["ix_payments_created"] == built["ix_payments_created"]
    await database.dispose()


async def test_a_migration_waits_shortly_for_writers_behind_whom_everybody_waits(
    empty_postgres_url: str,
) -> None:
    database = await of("0002", empty_postgres_url)
    async with database.writer.begin() as writing:
        await writing.execute(text("UPDATE payments SET version = version + 1"))
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await migrate(empty_postgres_url)
    assert await index_numbers(database) == {}
    assert await migrate(empty_postgres_url) >= "0003"
    await database.dispose()
