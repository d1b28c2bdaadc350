"""Retention: what is kept for how long, and its removal in small transactions.

    events           pruned from the old end only, by append time; the newest one always stays
    notifications    the raw bodies of news that was concluded; what waits for somebody stays
    private data     session requests and sessions, erased once their time is over

Payments are never pruned, and neither are facts: they are what makes a late resend a duplicate.

Every batch is one statement that removes a whole stretch, so that a reader's statement sees all of
the stretch or none of it: a page is complete, or the log's oldest event lies behind it. Processes
that prune at the same time find less to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.store.database import Database
from antom_payments.store.members import AppliedOutcome, OrphanState
from antom_payments.store.notifications import DISCARDED
from antom_payments.store.tables import events, facts, notifications, private_data

_BATCH_ROWS = 500
"""Rows of one transaction: some tens of milliseconds, in which SQLite lets nobody else write."""


class Kind(StrEnum):
    """What is removed."""

    EVENTS = "events"
    NOTIFICATIONS = "notifications"
    PRIVATE_DATA = "private_data"


@dataclass(frozen=True, slots=True)
class Windows:
    """How long things are kept. Private data carries its own time, set with the session."""

    events: timedelta = timedelta(days=30)
    """Since the event was appended, by the clock that gave it its time: the database's."""
    notifications: timedelta = timedelta(days=90)
    """Since the notification came in, by this process's clock."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """Where the log begins; sequence 0 and no time while it is empty."""

    sequence: int = 0
    append_time: datetime | None = None


class Retention:
    """Removes what is over. Every method raises StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        windows: Windows,
        *,
        now: Callable[[], datetime],
        batch_rows: int = _BATCH_ROWS,
    ) -> None:
        self._database = database
        self._windows = windows
        self._now = now
        self._batch_rows = batch_rows

    async def prune(self) -> AsyncIterator[tuple[Kind, int]]:
        """Remove what is over, batch by batch: its kind and how many rows it was.

        Safe to leave at any point, and to run anywhere at the same time.
        """
        steps = {
            # First, so that no trouble with the others keeps what is personal.
            Kind.PRIVATE_DATA: self._erase_private_data,
            Kind.EVENTS: self._prune_events,
            Kind.NOTIFICATIONS: self._prune_notifications,
        }
        for kind, step in steps.items():
            while removed := await self._database.write_in_turn(step):
                yield kind, removed

    async def due(self) -> dict[Kind, int]:
        """How many rows `prune` would remove now."""

        async def count(connection: AsyncConnection) -> dict[Kind, int]:
            cut = await self._cut(connection)
            wanted = {
                Kind.EVENTS: select(func.count()).where(events.c.sequence <= cut),
                Kind.NOTIFICATIONS: select(func.count()).where(self._notifications_over()),
                Kind.PRIVATE_DATA: select(func.count()).where(self._private_data_over()),
            }
            return {
                kind: (await connection.execute(query)).scalar_one()
                for kind, query in wanted.items()
            }

        return await self._database.read(count)

    async def oldest(self) -> Oldest:
        """The oldest event that is kept."""
        query = select(events.c.sequence, events.c.append_time).order_by(events.c.sequence).limit(1)
        result = await self._database.read(lambda connection: connection.execute(query))
        row = result.one_or_none()
        return Oldest() if row is None else Oldest(row.sequence, row.append_time)

    async def _prune_events(self, connection: AsyncConnection) -> int:
        """One batch off the old end."""
        cut = await self._cut(connection)
        oldest = (await connection.execute(select(func.min(events.c.sequence)))).scalar() or 0
        through = min(cut, oldest + self._batch_rows - 1)
        if through < oldest:
            return 0
        # Said again in the statement that deletes: whatever else is wrong, the newest row stays.
        newest = select(func.max(events.c.sequence)).scalar_subquery()
        return await _removed(
            connection,
            delete(events).where(events.c.sequence <= through, events.c.sequence < newest),
        )

    async def _cut(self, connection: AsyncConnection) -> int:
        """The last sequence whose time is over, but for the newest event; 0 is none.

        Append times never go back along the sequence: everything up to it is over too.
        """
        newest = select(func.max(events.c.sequence)).scalar_subquery()
        query = (
            select(events.c.sequence)
            .where(
                events.c.append_time < await self._log_time(connection) - self._windows.events,
                events.c.sequence < newest,
            )
            .order_by(events.c.append_time.desc(), events.c.sequence.desc())
            .limit(1)
        )
        cut: int | None = (await connection.execute(query)).scalar()
        return cut or 0

    async def _log_time(self, connection: AsyncConnection) -> datetime:
        """The time by the clock that append times come from."""
        if connection.dialect.name == "sqlite":
            return self._now()
        time: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        return time

    async def _prune_notifications(self, connection: AsyncConnection) -> int:
        over = (
            select(notifications.c.notification_id)
            .where(self._notifications_over())
            .order_by(notifications.c.received_time)
            .limit(self._batch_rows)
        )
        return await _removed(
            connection, delete(notifications).where(notifications.c.notification_id.in_(over))
        )

    def _notifications_over(self) -> ColumnElement[bool]:
        """Concluded ones of long ago.

        What was set aside for somebody stays: quarantined, in conflict, or of a payment that is
        not known yet.
        """
        waits = exists().where(
            facts.c.orphan_state == OrphanState.WAITING,
            facts.c.notification_id == notifications.c.notification_id,
        )
        concluded = (AppliedOutcome.APPLIED.value, AppliedOutcome.DUPLICATE.value, DISCARDED)
        return and_(
            notifications.c.received_time < self._now() - self._windows.notifications,
            or_(
                notifications.c.outcome.in_(concluded),
                and_(notifications.c.outcome == AppliedOutcome.ORPHANED.value, ~waits),
            ),
        )

    async def _erase_private_data(self, connection: AsyncConnection) -> int:
        key = (private_data.c.merchant_account, private_data.c.payment_request_id)
        over = (
            select(*key)
            .where(self._private_data_over())
            .order_by(private_data.c.erase_time)
            .limit(self._batch_rows)
        )
        # Looked at again: a session that was renewed meanwhile has a new time.
        return await _removed(
            connection,
            delete(private_data).where(tuple_(*key).in_(over), self._private_data_over()),
        )

    def _private_data_over(self) -> ColumnElement[bool]:
        return private_data.c.erase_time < self._now()


async def _removed(connection: AsyncConnection, statement: Any) -> int:
    return (await connection.execute(statement)).rowcount
