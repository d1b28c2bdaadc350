"""What metrics tell of the database: connections, transactions, group commits, open payments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments import instruments
from antom_payments.instruments import NUMBERS, Process, Reading
from antom_payments.payment import EventType
from antom_payments.store.outages import TRIED_AGAIN, Trouble
from antom_payments.store.tables import IS_OPEN, payments

_connections = instruments.observed_gauge(
    "antom_payments.database.connections",
    "{connection}",
    "Connections of the process's pool, by whether they are in use.",
    labels={"state": ("used", "idle")},
    alert="DbPoolSaturated",
    process=Process.BOTH,
)
_most_connections = instruments.observed_gauge(
    "antom_payments.database.pool_size",
    "{connection}",
    "Most connections that the pool makes.",
    alert="DbPoolSaturated",
    process=Process.BOTH,
)
_waiting = instruments.observed_gauge(
    "antom_payments.database.waiting",
    "{transaction}",
    "Transactions that wait for a connection, or for their turn to write.",
    alert="DbPoolSaturated",
    process=Process.BOTH,
)
_waits = instruments.histogram(
    "antom_payments.database.wait",
    "s",
    "How long transactions waited for a connection and their turn to write; making one included.",
    alert="DbPoolSaturated",
    process=Process.BOTH,
)
_transactions = instruments.histogram(
    "antom_payments.database.transaction.duration",
    "s",
    "From the connection to the commit or the rollback, by whether they may write.",
    labels={"access": ("read", "write"), "outcome": ("done", "failed")},
    alert="DbSlow",
    process=Process.BOTH,
)
_retries = instruments.counter(
    "antom_payments.database.retries",
    "{transaction}",
    "Transactions that were repeated, by what had stopped them.",
    labels={"trouble": sorted(TRIED_AGAIN)},
    alert="DbTrouble",
    process=Process.BOTH,
)
_failures = instruments.counter(
    "antom_payments.database.failures",
    "{transaction}",
    "Reads and writes that were given up, by what was wrong.",
    labels={"trouble": list(Trouble)},
    alert="DbTrouble",
    process=Process.BOTH,
)
_appended = instruments.counter(
    "antom_payments.log.appended",
    "{event}",
    "Events that this process appended to the log, by type.",
    labels={"event_type": list(EventType)},
    process=Process.BOTH,
)
_group_sizes = instruments.histogram(
    "antom_payments.log.commit.members",
    "{member}",
    "Notifications, answers and sessions that shared one appending transaction.",
    process=Process.BOTH,
    buckets=NUMBERS,
)
group_queue = instruments.observed_gauge(
    "antom_payments.log.commit.waiting",
    "{member}",
    "What waits for the next appending transactions.",
    alert="DbSlow",
    process=Process.BOTH,
)
"""How many members wait for a group commit."""

_intent_sizes = instruments.histogram(
    "antom_payments.intents.commit.members",
    "{intent}",
    "Intents to create a session that shared one transaction.",
    buckets=NUMBERS,
)
intent_queue = instruments.observed_gauge(
    "antom_payments.intents.commit.waiting",
    "{intent}",
    "Intents that wait for the next transactions.",
    alert="DbSlow",
    process=Process.BOTH,
)
"""How many intents wait for a group commit."""


class DatabaseMeasures:
    """What one process asks of its database.

    Args:
        pool: the pool of now: after a failover it is another one.
        size: most connections of it.
    """

    def __init__(self, pool: Callable[[], Any], size: int) -> None:
        self._pool = pool
        self._size = size
        self.waiting = 0
        """Transactions without a connection yet."""

    def transaction(self, *, writes: bool) -> Transaction:
        """Measure one transaction; enter it before its connection is asked for."""
        return Transaction(self, "write" if writes else "read")

    def measured(self) -> Iterable[AbstractContextManager[None]]:
        """Contexts in which the metrics tell of the pool."""
        yield _connections.read_from(self._read_pool)
        yield _most_connections.read_from(lambda: [(self._size, {})])
        yield _waiting.read_from(lambda: [(self.waiting, {})])

    def _read_pool(self) -> Iterable[Reading]:
        pool = self._pool()
        yield pool.checkedout(), {"state": "used"}
        yield pool.checkedin(), {"state": "idle"}


class Transaction:
    """One transaction, from its wait for a connection to its end."""

    __slots__ = ("_access", "_has_connection", "_measures", "_since")

    def __init__(self, measures: DatabaseMeasures, access: str) -> None:
        self._measures = measures
        self._access = access
        self._has_connection = False
        self._since = time.perf_counter()

    def __enter__(self) -> Self:
        self._measures.waiting += 1
        return self

    def connected(self) -> None:
        """It has its connection: from now on it works."""
        now = time.perf_counter()
        _waits.record(now - self._since)
        self._since = now
        self._has_connection = True
        self._measures.waiting -= 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if not self._has_connection:
            self._measures.waiting -= 1
            return
        outcome = "done" if kind is None else "failed"
        labels = {"access": self._access, "outcome": outcome}
        _transactions.record(time.perf_counter() - self._since, labels)


def count_retry(trouble: Trouble) -> None:
    """A transaction is repeated."""
    _retries.add(1, {"trouble": trouble.value})


def count_failure(trouble: Trouble) -> None:
    """A read or a write was given up."""
    _failures.add(1, {"trouble": trouble.value})


def count_group(members: int) -> None:
    """So many members share an appending transaction."""
    _group_sizes.record(members)


def count_intents(intents: int) -> None:
    """So many intents share a transaction."""
    _intent_sizes.record(intents)


def count_appended(types: Iterable[EventType]) -> None:
    """Events were appended, and committed."""
    for event_type in types:
        _appended.add(1, {"event_type": event_type.value})


async def open_by_state(connection: AsyncConnection) -> dict[str, int]:
    """How many payments Antom is still to be asked about, by state; the index of open ones says."""
    statement = select(payments.c.state, func.count()).where(IS_OPEN).group_by(payments.c.state)
    result = await connection.execute(statement)
    return {row.state: row[1] for row in result}
