"""What an error of the database means: whose trouble it is, and whether it helps to try again.

The codes are PostgreSQL's SQLSTATEs (PostgreSQL docs, appendix A) and SQLite's names of its result
codes. What is not listed counts as the database's trouble: an answer of Antom is then kept and
tried again, rather than lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import exc
from sqlalchemy.engine import ExceptionContext

from antom_payments.errors import StoreUnavailable


class Trouble(StrEnum):
    """What is wrong with the database; for logs."""

    CONFLICT = "conflict"
    """Two transactions were in each other's way, and this one did nothing."""
    TAKEN = "taken"
    """Two transactions wrote the same new key: a second look finds the first one's row."""
    CUT = "cut"
    """The connection ended; what was under way, a commit too, is done or not."""
    READ_ONLY = "read_only"
    """The server was demoted, or the file may not be written; nothing was done."""
    OUTDATED_PLAN = "outdated_plan"
    """The schema changed beneath a prepared statement; nothing was done."""
    FULL = "full"
    """The disk is full."""
    SLOW = "slow"
    """No answer within our time, or the server's."""
    EXHAUSTED = "pool_exhausted"
    """No connection of the pool became free in time."""
    OVERLOADED = "overloaded"
    """Too many wait already."""
    STANDBY = "standby"
    """Only a server that takes no writes can be reached."""
    UNREACHABLE = "unreachable"
    """No connection could be made."""
    OTHER = "other"


TRIED_AGAIN = frozenset(
    {Trouble.CONFLICT, Trouble.TAKEN, Trouble.CUT, Trouble.READ_ONLY, Trouble.OUTDATED_PLAN}
)
"""A whole transaction that is safe to repeat is repeated at once after these. Not after what takes
its time to fail, nor after what the next attempt would meet again."""

_BY_CODE = {
    "40001": Trouble.CONFLICT,  # serialization failure
    "40P01": Trouble.CONFLICT,  # deadlock
    "55P03": Trouble.CONFLICT,  # lock timeout
    "23505": Trouble.TAKEN,
    "25006": Trouble.READ_ONLY,
    "25P03": Trouble.CUT,  # idle in transaction for too long
    "25P04": Trouble.CUT,  # transaction timeout
    "57P01": Trouble.CUT,  # shut down by an administrator
    "57P02": Trouble.CUT,  # another session crashed the server
    "57P05": Trouble.CUT,  # idle for too long
    "57P03": Trouble.UNREACHABLE,  # starting up or shutting down
    "53300": Trouble.UNREACHABLE,  # too many connections
    "53100": Trouble.FULL,
    "57014": Trouble.SLOW,  # statement timeout
    "55000": Trouble.UNREACHABLE,  # the database takes no connections
    "SQLITE_CONSTRAINT_UNIQUE": Trouble.TAKEN,
    "SQLITE_CONSTRAINT_PRIMARYKEY": Trouble.TAKEN,
}
_BY_CLASS = {"08": Trouble.CUT, "28": Trouble.UNREACHABLE, "3D": Trouble.UNREACHABLE}
# Cardinality, data, constraints, syntax and access rules: our mistakes, which no waiting mends.
_MISTAKES = frozenset({"21", "22", "23", "42"})
_UNWRAPPED: Mapping[type[BaseException], Trouble] = {
    exc.TimeoutError: Trouble.EXHAUSTED,
    TimeoutError: Trouble.SLOW,  # before OSError, which it is, too
    OSError: Trouble.UNREACHABLE,
}
_ASYNCPG = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_BY_TYPE: Mapping[type[BaseException | None], Trouble] = {
    asyncpg.InvalidCachedStatementError: Trouble.OUTDATED_PLAN,
    asyncpg.TargetServerAttributeNotMatched: Trouble.STANDBY,
}

_BY_SQLITE_RESULT = {
    "BUSY": Trouble.CONFLICT,
    "LOCKED": Trouble.CONFLICT,
    "READONLY": Trouble.READ_ONLY,
    "FULL": Trouble.FULL,
}
_SQLITE_MISTAKES = frozenset({"ERROR", "CONSTRAINT", "MISMATCH", "MISUSE", "RANGE", "TOOBIG"})


def trouble_of(error: BaseException) -> Trouble | None:
    """What is wrong with the database; None when ``error`` is not its fault but ours."""
    if isinstance(error, exc.DBAPIError):
        cause = error.orig or error
        found = _BY_TYPE.get(type(cause.__cause__)) or trouble_of_driver(cause)
        # Of a connection that is closed already the driver says many things.
        is_cut = error.connection_invalidated and found in {None, Trouble.OTHER}
        return Trouble.CUT if is_cut else found
    for kind, trouble in _UNWRAPPED.items():
        if isinstance(error, kind):
            return trouble
    # SQLAlchemy does not wrap all that asyncpg raises while it connects.
    return trouble_of_driver(error) if isinstance(error, _ASYNCPG) else None


def trouble_of_driver(error: BaseException) -> Trouble | None:
    """The same for an exception of the driver's own, by the code that it carries."""
    code = code_of(error)
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code.startswith("SQLITE_"):
        result = code.split("_")[1]
        is_mistake, found = result in _SQLITE_MISTAKES, _BY_SQLITE_RESULT.get(result)
    elif code:
        is_mistake, found = code[:2] in _MISTAKES, _BY_CLASS.get(code[:2])
    else:
        # A value that asyncpg cannot send, a statement that Python's sqlite3 cannot run.
        is_mistake = isinstance(error, ValueError) or type(error).__name__ == "ProgrammingError"
        found = None
    return None if is_mistake else found or Trouble.OTHER


def code_of(error: BaseException) -> str:
    """The database's own code of ``error``, which quotes nothing; empty when it has none."""
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or ""


def costs_its_connection(error: BaseException) -> bool:
    """Whether no statement may follow ``error`` on its connection, whatever the driver thinks."""
    return trouble_of_driver(error) in {Trouble.CUT, Trouble.READ_ONLY, Trouble.UNREACHABLE}


def drop_with_its_pool(context: ExceptionContext) -> None:
    """Give up the connection, and all that were made before this error, where one is useless.

    An event of SQLAlchemy. So a restart or a failover costs one failed statement, not one for each
    connection of the pool; and nobody waits for the end of a transaction on a server that is
    frozen, or writes to one that was demoted.
    """
    error = context.original_exception
    if isinstance(error, TimeoutError):
        # SQLAlchemy takes it for a cancellation, which tells nothing of other connections, and says
        # good-bye for two seconds, to which nobody answers.
        context.is_disconnect = context.invalidate_pool_on_disconnect = True
        if context.connection is not None:
            hang_up(context.connection.connection)
    elif costs_its_connection(error):
        context.is_disconnect = True


def hang_up(connection: Any) -> None:
    """End a connection of PostgreSQL without a good-bye, to which a frozen server never answers."""
    driver = connection.driver_connection
    if isinstance(driver, asyncpg.Connection):
        driver.terminate()


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn whatever the database does wrong into StoreUnavailable; our mistakes stay."""
    try:
        yield
    except Exception as error:
        if trouble_of(error) in {None, Trouble.TAKEN}:
            raise
        raise StoreUnavailable from error
