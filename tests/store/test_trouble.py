"""What an error of the database means, from a table and from real ones."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import StoreUnavailable
from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.store.outages import TRIED_AGAIN, Trouble, in_our_words, trouble_of
from clock import FrozenClock
from stored import confirmed, rows

UNIQUE, PRIMARY_KEY = "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"


class Told(Exception):
    """An error as a driver raises it, with the database's code."""

    def __init__(self, code: str) -> None:
        name = "sqlite_errorname" if code.startswith("SQLITE") else "sqlstate"
        setattr(self, name, code)


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("40001", Trouble.CONFLICT),
        ("40P01", Trouble.CONFLICT),
        ("55P03", Trouble.CONFLICT),
        ("23505", Trouble.TAKEN),
        ("25006", Trouble.READ_ONLY),
        ("25P03", Trouble.CUT),
        ("25P04", Trouble.CUT),
        ("57P01", Trouble.CUT),
        ("57P02", Trouble.CUT),
        ("57P05", Trouble.CUT),
        ("08006", Trouble.CUT),
        ("08003", Trouble.CUT),
        ("57P03", Trouble.UNREACHABLE),
        ("53300", Trouble.UNREACHABLE),
        ("55000", Trouble.UNREACHABLE),
        ("28P01", Trouble.UNREACHABLE),
        ("3D000", Trouble.UNREACHABLE),
        ("53100", Trouble.FULL),
        ("53200", Trouble.OTHER),
        ("58030", Trouble.OTHER),
        ("XX001", Trouble.OTHER),
        ("57014", Trouble.SLOW),
        ("23514", None),
        ("23502", None),
        ("22003", None),
        ("42703", None),
        ("42P01", None),
        ("42501", None),
        ("SQLITE_BUSY", Trouble.CONFLICT),
        ("SQLITE_BUSY_RECOVERY", Trouble.CONFLICT),
        ("SQLITE_LOCKED", Trouble.CONFLICT),
        ("SQLITE_READONLY", Trouble.READ_ONLY),
        ("SQLITE_READONLY_DBMOVED", Trouble.READ_ONLY),
        ("SQLITE_FULL", Trouble.FULL),
        ("SQLITE_IOERR_FSYNC", Trouble.OTHER),
        ("SQLITE_CORRUPT", Trouble.OTHER),
        ("SQLITE_CANTOPEN", Trouble.OTHER),
        (UNIQUE, Trouble.TAKEN),
        (PRIMARY_KEY, Trouble.TAKEN),
        ("SQLITE_CONSTRAINT_CHECK", None),
        ("SQLITE_ERROR", None),
    ],
)
def test_each_code_means_one_trouble(code: str, trouble: Trouble | None) -> None:
    assert trouble_of(exc.DBAPIError("SELECT 1", None, Told(code))) is trouble
    assert trouble_of(exc.OperationalError("SELECT 1", None, Told(code))) is trouble


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (exc.TimeoutError("the pool"), Trouble.EXHAUSTED),
        (TimeoutError(), Trouble.SLOW),
        (ConnectionRefusedError(), Trouble.UNREACHABLE),
        (asyncpg.CannotConnectNowError(), Trouble.UNREACHABLE),
        (asyncpg.TooManyConnectionsError(), Trouble.UNREACHABLE),
        (asyncpg.ConnectionDoesNotExistError(), Trouble.CUT),
        (asyncpg.InterfaceError("another operation is in progress"), Trouble.OTHER),
        (asyncpg.InternalClientError(), Trouble.OTHER),
        (asyncpg.exceptions.DataError("value out of int64 range"), None),
        (exc.OperationalError("COMMIT", None, Exception("whatever")), Trouble.OTHER),
        (exc.InvalidRequestError("our mistake"), None),
        (exc.ProgrammingError("SELECT", None, sqlite3.ProgrammingError("bindings")), None),
        (ValueError("our mistake"), None),
        (StoreUnavailable(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_that_carry_no_code_are_told_by_their_type(
    error: Exception, trouble: Trouble | None
) -> None:
    assert trouble_of(error) is trouble


def test_whatever_a_closed_connection_raises_is_a_cut() -> None:
    error = sqlite3.ProgrammingError("Cannot operate on a closed database.")
    closed = exc.ProgrammingError("SELECT 1", None, error, connection_invalidated=True)
    assert trouble_of(closed) is Trouble.CUT


def test_what_takes_long_to_fail_is_not_tried_again_at_once() -> None:
    assert Trouble.SLOW not in TRIED_AGAIN
    assert Trouble.EXHAUSTED not in TRIED_AGAIN
    assert Trouble.FULL not in TRIED_AGAIN


def test_a_mistake_of_ours_is_no_outage() -> None:
    with pytest.raises(exc.ProgrammingError), in_our_words():
        raise exc.ProgrammingError("SELECT", None, Told("42703"))
    with pytest.raises(StoreUnavailable), in_our_words():
        raise exc.DBAPIError("SELECT", None, Told("57P01"))


# Real ones


@pytest.fixture
async def postgres(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        await confirmed(store, payment_request_id="order-1")
        await confirmed(store, payment_request_id="order-2", reference_order_id="order-2")
        yield store


async def touch(connection: AsyncConnection, name: str) -> None:
    await connection.execute(
        text("UPDATE payments SET result_code = 'T' WHERE payment_request_id = :name"),
        {"name": name},
    )


async def test_of_a_real_deadlock_both_transactions_are_done(postgres: PaymentStore) -> None:
    meeting = asyncio.Barrier(2)
    attempts: list[str] = []

    def crossing(first: str, second: str):
        async def work(connection: AsyncConnection) -> str:
            attempts.append(first)
            await touch(connection, first)
            if len(attempts) <= 2:
                await meeting.wait()
            await touch(connection, second)
            return first

        return work

    done = await asyncio.gather(
        postgres._database.write(crossing("order-1", "order-2")),
        postgres._database.write(crossing("order-2", "order-1")),
    )
    assert done == ["order-1", "order-2"]
    assert len(attempts) == 3, "one was the victim, once"


async def test_a_real_serialization_failure_is_done_on_the_second_attempt(
    postgres: PaymentStore,
) -> None:
    attempts = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        await connection.execute(text("SELECT count(*) FROM payments"))
        if attempts == 1:
            await postgres._database.write(lambda other: touch(other, "order-1"))
        await touch(connection, "order-1")

    await postgres._database.write(work)
    assert attempts == 2


async def test_a_real_lock_timeout_is_tried_again_as_a_whole(postgres: PaymentStore) -> None:
    async with postgres._database.engine.connect() as holder:
        await touch(holder, "order-1")
        attempts = 0

        async def work(connection: AsyncConnection) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 2:
                await holder.rollback()
            await connection.execute(text("SET LOCAL lock_timeout = '20ms'"))
            await touch(connection, "order-1")

        await postgres._database.write(work)
        assert attempts == 2


async def test_a_conflict_that_never_ends_is_given_up(postgres: PaymentStore) -> None:
    attempts = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute(text("SET LOCAL lock_timeout = '5ms'"))
        await touch(connection, "order-1")

    async with postgres._database.engine.connect() as holder:
        await touch(holder, "order-1")
        with pytest.raises(StoreUnavailable):
            await postgres._database.write(work)
    assert attempts == 5


@pytest.mark.parametrize(
    "end",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET LOCAL idle_in_transaction_session_timeout = '1ms'",
        # The timer runs already: a new length counts only once it was stopped.
        "SET LOCAL transaction_timeout = 0; SET LOCAL transaction_timeout = '1ms'",
    ],
    ids=["57P01", "25P03", "25P04"],
)
async def test_a_session_that_the_server_ends_is_replaced_within_the_same_write(
    postgres: PaymentStore, end: str
) -> None:
    attempts = 0

    async def work(connection: AsyncConnection) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            closed = asyncio.Event()
            await touch(connection, "order-1")
            raw: Any = await connection.get_raw_connection()
            raw.driver_connection.add_termination_listener(lambda _: closed.set())
            with contextlib.suppress(asyncpg.PostgresError):
                await raw.driver_connection.execute(end)
            await closed.wait()
        await touch(connection, "order-1")
        return attempts

    if "transaction_timeout" in end:
        [(version,)] = await rows(postgres, "SHOW server_version_num")
        if int(version) < 170000:
            end = "SELECT pg_terminate_backend(pg_backend_pid())"
    assert await postgres._database.write(work) == 2


async def test_a_statement_that_takes_too_long_is_unavailable_at_once(
    postgres: PaymentStore,
) -> None:
    attempts = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute(text("SET LOCAL statement_timeout = '10ms'"))
        await connection.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(StoreUnavailable):
        await postgres._database.write(work)
    assert attempts == 1
    await postgres.ping()


async def test_a_new_schema_beneath_a_running_process_is_met_within_the_same_call(
    postgres: PaymentStore,
) -> None:
    await postgres.payment("default", payment_request_id="order-1")
    await postgres._database.write(
        lambda connection: connection.execute(text("ALTER TABLE payments ADD COLUMN later text"))
    )

    async def look(connection: AsyncConnection) -> object:
        return (await connection.execute(text("SELECT * FROM payments"))).first()

    await postgres._database.read(look)
    await postgres._database.write(
        lambda connection: connection.execute(text("ALTER TABLE payments DROP COLUMN later"))
    )
    assert await postgres._database.read(look)
