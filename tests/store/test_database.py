"""The database beneath: its settings, its schema, and what it does wrong told in our words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import sys
from asyncio import FIRST_COMPLETED
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from antom_payments.errors import ConfigurationError, SchemaOutdated, StoreUnavailable
from antom_payments.store import (
    DataCipher,
    PaymentStore,
    PoolOptions,
    migrate,
    new_data_key,
    open_store,
)
from antom_payments.store.database import Database
from antom_payments.store.log import LOG_LOCK, _lock_end
from antom_payments.store.tables import metadata
from clock import FrozenClock
from facts import a_payment_fact
from processes import importing
from stored import begun, confirmed, execute, notified, rows, whole_log

TWO_WRITERS = Path(__file__).with_name("appending_process.py")


async def setting(connection: AsyncConnection, name: str) -> str:
    return str((await connection.execute(text(f"SHOW {name}"))).scalar_one())


# PostgreSQL


@pytest.fixture
async def postgres(postgres_url: str, cipher: DataCipher, clock: FrozenClock):
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        yield store


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("application_name", "antom-payments"),
        ("timezone", "UTC"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("search_path", "public"),
    ],
)
async def test_every_postgresql_session_has_the_settings_of_a_payments_database(
    postgres: PaymentStore, name: str, value: str
) -> None:
    async with postgres._database.engine.connect() as connection:
        assert await setting(connection, name) == value


async def test_whole_transactions_are_bounded_where_postgresql_can(postgres: PaymentStore) -> None:
    async with postgres._database.engine.connect() as connection:
        if int(await setting(connection, "server_version_num")) >= 170000:
            assert await setting(connection, "transaction_timeout") == "15s"


async def test_whoever_holds_the_logs_lock_is_bounded_to_two_seconds(
    postgres: PaymentStore,
) -> None:
    bounds: list[tuple[str, ...]] = []
    names = ["idle_in_transaction_session_timeout"]
    async with postgres._database.engine.connect() as connection:
        if int(await setting(connection, "server_version_num")) >= 170000:
            names.append("transaction_timeout")

    def look(connection: Connection) -> None:
        found = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
        bounds.append(tuple(found))

    claim = await begun(postgres)
    event.listen(postgres._database.engine.sync_engine, "commit", look)
    await postgres.release_session(claim)
    await confirmed(postgres)
    assert bounds[-1] == ("2s",) * len(names), "with an append"
    assert bounds[0] == ("10s", "15s")[: len(names)], "without one"


async def test_a_writer_that_waits_too_long_for_the_log_tries_again(
    postgres: PaymentStore, postgres_url: str
) -> None:
    await confirmed(postgres)
    gave_up = asyncio.Event()

    def note(_: object) -> None:
        gave_up.set()

    event.listen(postgres._database.engine.sync_engine, "handle_error", note)
    other = create_async_engine(postgres_url)
    async with other.connect() as holder:
        await holder.execute(text(f"SELECT pg_advisory_xact_lock({LOG_LOCK})"))
        applying = asyncio.create_task(postgres.apply([notified(a_payment_fact())]))
        giving_up = asyncio.create_task(gave_up.wait())
        await asyncio.wait({applying, giving_up}, timeout=10, return_when=FIRST_COMPLETED)
        giving_up.cancel()
        assert gave_up.is_set()
    await other.dispose()
    [applied] = await applying
    assert applied.event is not None
    assert len(await whole_log(postgres)) == 2


async def test_a_connection_that_the_server_cut_is_replaced_within_the_same_write(
    postgres: PaymentStore, postgres_url: str
) -> None:
    await confirmed(postgres)
    other = create_async_engine(postgres_url)
    async with other.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await other.dispose()
    [applied] = await postgres.apply([notified(a_payment_fact())])
    assert applied.event is not None


async def test_a_session_that_became_read_only_is_replaced_within_the_same_write(
    postgres: PaymentStore,
) -> None:
    await execute(postgres, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    assert (await begun(postgres)).lease_token


async def test_whoever_holds_the_logs_lock_and_stays_busy_is_cut_off_after_two_seconds(
    postgres: PaymentStore,
) -> None:
    """The timer of the whole transaction runs already, and must be set anew."""
    async with postgres._database.engine.connect() as connection:
        if int(await setting(connection, "server_version_num")) >= 170000:
            await _lock_end(connection, lambda: datetime.now(UTC))
            with pytest.raises(DBAPIError) as cut:
                await connection.execute(text("SELECT pg_sleep(4)"))
            # Or the driver sees the end of the connection before its reason.
            assert getattr(cut.value.orig, "sqlstate", None) in {"25P04", "08003"}


async def test_a_server_that_does_not_answer_is_unavailable(
    cipher: DataCipher, clock: FrozenClock
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"postgresql://user:secret@127.0.0.1:{probe.getsockname()[1]}/payments"
        with pytest.raises(StoreUnavailable) as caught:
            async with open_store(url, cipher=cipher, now=clock.now):
                pass
        with pytest.raises(StoreUnavailable):
            await migrate(url)
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_unavailable_and_not_repeated(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    url = make_url(postgres_url).set(username="nobody-knows", password="secret")
    with pytest.raises(StoreUnavailable) as caught:
        async with open_store(
            url.render_as_string(hide_password=False), cipher=cipher, now=clock.now
        ):
            pass
    assert "secret" not in str(caught.value)


# SQLite


@pytest.fixture
async def sqlite(sqlite_url: str, cipher: DataCipher, clock: FrozenClock):
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        yield store


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("busy_timeout", 10000), ("foreign_keys", 1)],
)
async def test_every_sqlite_connection_has_the_settings_of_a_payments_database(
    sqlite: PaymentStore, pragma: str, value: object
) -> None:
    assert await rows(sqlite, f"PRAGMA {pragma}") == [(value,)]


async def test_writers_take_sqlites_lock_at_once_and_readers_never(sqlite: PaymentStore) -> None:
    begins: list[str] = []

    def note(_: Connection, cursor: object, statement: str, *rest: object) -> None:  # noqa: ARG001
        if statement.startswith("BEGIN"):
            begins.append(statement)

    event.listen(sqlite._database.engine.sync_engine, "before_cursor_execute", note)
    await confirmed(sqlite)
    assert set(begins) == {"BEGIN IMMEDIATE"}
    begins.clear()
    await whole_log(sqlite)
    await sqlite.payment("default", payment_id="P-1")
    assert set(begins) == {"BEGIN"}


async def test_two_processes_that_write_one_sqlite_file_at_once_both_succeed(
    sqlite: PaymentStore, sqlite_url: str
) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, str(TWO_WRITERS), sqlite_url, new_data_key(), name, "40"),
            env=importing(TWO_WRITERS.parent.parent),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    said = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    events = await whole_log(sqlite)
    assert [event.sequence for event in events] == list(range(1, 81))


async def test_a_new_file_that_another_process_is_looking_at_is_switched_to_wal_all_the_same(
    tmp_path: Path,
) -> None:
    """Two that switch at once get no time to wait; here, because nobody is given any."""
    file = tmp_path / "payments.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE new (file int)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM new").fetchall()
    database = Database(f"sqlite:///{file}")

    def do_not_wait(connection: Any, _: object) -> None:
        connection.cursor().execute("PRAGMA busy_timeout = 0")

    event.listen(database.engine.sync_engine, "connect", do_not_wait, insert=True)
    asyncio.get_running_loop().call_later(0.05, other.close)
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
    await database.dispose()


async def test_a_file_that_is_no_database_is_unavailable(
    tmp_path: Path, cipher: DataCipher, clock: FrozenClock
) -> None:
    file = tmp_path / "payments.db"
    file.write_bytes(b"this is not a database, whatever its name says" * 100)
    for path in (file, tmp_path / "missing" / "payments.db"):
        with pytest.raises(StoreUnavailable):
            async with open_store(f"sqlite:///{path}", cipher=cipher, now=clock.now):
                pass


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
async def test_a_database_that_processes_cannot_share_is_refused_by_its_setting(
    url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    with pytest.raises(ConfigurationError, match="ANTOM_PAYMENTS_DATABASE_URL"):
        async with open_store(url, cipher=cipher, now=clock.now):
            pass


# Both


async def test_a_pool_without_a_free_connection_fails_in_time(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    pool = PoolOptions(size=1, timeout_seconds=0.05)
    async with open_store(database_url, cipher=cipher, now=clock.now, pool=pool) as store:
        async with store._database.engine.connect():
            with pytest.raises(StoreUnavailable):
                await store.ping()
        await store.ping()


async def test_a_schema_that_is_missing_is_refused_and_says_what_to_do(
    empty_database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    with pytest.raises(SchemaOutdated, match="antom-payments migrate"):
        async with open_store(empty_database_url, cipher=cipher, now=clock.now):
            pass


async def test_a_schema_newer_than_this_version_is_served(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        await execute(store, "UPDATE alembic_version SET version_num = 'of next year'")
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        await confirmed(store)


async def test_migrating_from_several_processes_at_once_is_done_once(
    empty_database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    code = (
        "import asyncio, sys; from antom_payments.store import migrate; "
        "print(asyncio.run(migrate(sys.argv[1])))"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, empty_database_url), stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = {(await process.communicate())[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(said) == 1
    async with open_store(empty_database_url, cipher=cipher, now=clock.now) as store:
        assert await rows(store, "SELECT count(*) FROM log_identity") == [(1,)]
        await confirmed(store)
        await migrate(empty_database_url)
        assert len(await whole_log(store)) == 1


def differences(connection: Connection) -> list[object]:
    """Between the schema and the tables of the code."""
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_the_migrations_make_exactly_the_tables_that_the_code_uses(
    database_url: str,
) -> None:
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_store_that_is_opened_and_left_by_an_error_closes_its_connections(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    with contextlib.suppress(LookupError):
        async with open_store(database_url, cipher=cipher, now=clock.now) as store:
            await confirmed(store)
            raise LookupError


# The URL


async def test_libpqs_word_for_tls_is_understood() -> None:
    database = Database("postgresql://user:secret@db.example/payments?sslmode=verify-full")
    assert dict(database.engine.url.query) == {"ssl": "verify-full"}
    await database.dispose()


def test_a_parameter_that_the_driver_does_not_know_is_named() -> None:
    with pytest.raises(ConfigurationError, match="found channel_binding") as refused:
        Database("postgresql://user:secret@db.example/payments?channel_binding=require")
    assert "secret" not in str(refused.value)
