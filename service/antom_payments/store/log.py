"""The event log: dense, in commit order, read by pages.

Why not a database sequence: numbers are given out before commit, so a reader that tails by number
passes one whose transaction commits later and never sees it (measured: 4-10 % lost, 61 % with slow
transactions). A transaction advisory lock, taken last, makes number order commit order; the next
number is read under it by a later statement, so the sequence has no holes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from opentelemetry.trace import Span, SpanKind
from sqlalchemy import BigInteger, Result, Select, and_, bindparam, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments import telemetry
from antom_payments.errors import LogCorrupt
from antom_payments.payment import FINAL_STATES, EventType
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store.database import Database
from antom_payments.store.rows import event_from_row, event_to_row
from antom_payments.store.snapshot import PaymentsPage, payments_page, payments_statement
from antom_payments.store.tables import events, log_identity

LOG_LOCK = 0x616E746F6D  # "antom": the advisory lock of the log's end, always taken last
_FINAL = sorted(state.value for state in FINAL_STATES)
_NEWEST = [
    select(column).order_by(events.c.sequence.desc()).limit(1).scalar_subquery()
    for column in (events.c.sequence, events.c.append_time)
]
_END_AND_CLOCK: Any = select(*_NEWEST, func.clock_timestamp())


@dataclass(frozen=True, slots=True)
class LogPage:
    """A stretch of the log.

    Everything up to `through` that the filter admits, and that the caller had not read, is in
    `events`. `oldest` and `head` are the first and last sequences kept, 0 when the log is empty.
    `after_event_id` is the id of the event that the page follows; empty when it is not kept. All
    were read in the same statement as the events.
    """

    events: tuple[PaymentEvent, ...]
    through: int
    oldest: int
    head: int
    after_event_id: str = ""


class EventLog:
    """Reads the log, and tells when there may be more of it."""

    def __init__(self, database: Database, log_id: str, cursor_key: bytes) -> None:
        self.log_id = log_id
        """Made with the schema: cursors of another log do not open here."""
        self.cursor_key = cursor_key
        """64 random bytes, stored with the log: every process seals cursors alike."""
        self._database = database
        self._appended = asyncio.Event()

    async def page(
        self,
        after: int,
        *,
        window: int = 5000,
        limit: int = 256,
        event_filter: EventFilter | None = None,
    ) -> LogPage:
        """Read what follows ``after``: at most ``limit`` events, of at most ``window`` sequences.

        Raises:
            LogCorrupt: a sequence is missing (unfiltered reads only).
            StoreUnavailable: the database cannot be used.
        """
        place = {"after": after, "until": after + window, "most": limit}
        result = await self._read(_page_statement(event_filter), place)
        rows = result.mappings().all()
        head = rows[0]["log_head"] or 0
        oldest = rows[0]["log_oldest"] or 0
        found = tuple(event_from_row(row) for row in rows if row["sequence"] is not None)
        if len(found) == limit:
            through = found[-1].sequence
        else:
            through = max(after, min(after + window, head))
        if event_filter is None and after >= oldest - 1:
            _refuse_holes(after, through, found)
        return LogPage(found, through, oldest, head, rows[0]["after_event_id"] or "")

    async def payments(
        self,
        after: int,
        *,
        witness: int,
        limit: int,
        event_filter: EventFilter,
        up_to: int | None = None,
    ) -> PaymentsPage:
        """Payments whose newest event follows ``after``: at most ``limit``, of a bounded stretch.

        None whose newest event follows ``up_to``; without it, up to the log's head.

        Those that the filter's merchants, payments and final states admit. ``witness`` is the
        event whose id the page tells, too. Raises StoreUnavailable.
        """
        statement = payments_statement(after, witness, limit, event_filter, up_to)
        result = await self._read(statement)
        return payments_page(result.mappings().all(), after, limit, event_filter, up_to)

    async def first_since(self, time: datetime) -> int:
        """The sequence of the first event kept that was not appended before ``time``; 0 is none.

        Times never go back along the log: halved by the primary key, it needs no index of times,
        and no plan of the database's. What is pruned meanwhile counts as earlier.
        """
        first, last = await self.bounds()
        if not last or not await self._is_since(time, last):
            return 0
        while first < last:
            middle = (first + last) // 2
            if await self._is_since(time, middle):
                last = middle
            else:
                first = middle + 1
        return first

    async def _is_since(self, time: datetime, sequence: int) -> bool:
        statement = select(events.c.append_time).where(events.c.sequence == sequence)
        found: datetime | None = (await self._read(statement)).scalar()
        return found is not None and found >= time

    async def event(self, sequence: int) -> PaymentEvent | None:
        """The event with this number, or None when it is not (or no longer) in the log."""
        statement = select(events).where(events.c.sequence == sequence)
        result = await self._read(statement)
        row = result.mappings().one_or_none()
        return None if row is None else event_from_row(row)

    async def oldest(self) -> PaymentEvent | None:
        """The first event kept; None when the log is empty."""
        statement = select(events).order_by(events.c.sequence).limit(1)
        result = await self._read(statement)
        row = result.mappings().one_or_none()
        return None if row is None else event_from_row(row)

    async def newest(self) -> PaymentEvent | None:
        """The last event; None when the log is empty."""
        result = await self._read(select(events).order_by(events.c.sequence.desc()).limit(1))
        row = result.mappings().one_or_none()
        return None if row is None else event_from_row(row)

    async def bounds(self) -> tuple[int, int]:
        """The first and last sequence kept; (0, 0) when the log is empty."""
        statement = select(
            select(func.min(events.c.sequence)).scalar_subquery(),
            select(func.max(events.c.sequence)).scalar_subquery(),
        )
        result = await self._read(statement)
        oldest, head = result.one()
        return (oldest or 0, head or 0)

    async def _read(
        self, statement: Select[*tuple[Any, ...]], values: Mapping[str, Any] | None = None
    ) -> Result[*tuple[Any, ...]]:
        """Never turned away: streams must go on while callers are too many."""
        return await self._database.read(
            lambda connection: connection.execute(statement, values), sheds=False
        )

    async def wait(self, timeout_seconds: float) -> None:
        """Return at once after an append of this process or a hint of another, else in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._appended.wait()
        except TimeoutError:
            return
        self._appended.clear()

    def hint(self) -> None:
        """Wake whoever waits in this process. Only a hint: the table is the truth."""
        self._appended.set()


def _page_statement(event_filter: EventFilter | None) -> Select[tuple[object, ...]]:
    """The page `most` events long, `after` one sequence `until` another."""
    return _UNFILTERED if event_filter is None else _made_page(event_filter)


def _made_page(event_filter: EventFilter | None) -> Select[tuple[object, ...]]:
    """Events and the log's bounds in one statement, hence of one snapshot."""
    after, until = bindparam("after", type_=BigInteger), bindparam("until", type_=BigInteger)
    # Two subqueries: SQLite walks the whole index for min and max in one.
    bounds = select(
        select(func.min(events.c.sequence)).scalar_subquery().label("log_oldest"),
        select(func.max(events.c.sequence)).scalar_subquery().label("log_head"),
        select(events.c.event_id)
        .where(events.c.sequence == after)
        .scalar_subquery()
        .label("after_event_id"),
    ).subquery("bounds")
    wanted = select(events).where(and_(events.c.sequence > after, events.c.sequence <= until))
    if event_filter is not None:
        if event_filter.merchant_accounts is not None:
            wanted = wanted.where(
                events.c.merchant_account.in_(sorted(event_filter.merchant_accounts))
            )
        if event_filter.payment_request_ids is not None:
            wanted = wanted.where(
                events.c.payment_request_id.in_(sorted(event_filter.payment_request_ids))
            )
        if event_filter.types is not None:
            wanted = wanted.where(events.c.type.in_(sorted(event_filter.types)))
        if event_filter.final_states_only:
            wanted = wanted.where(
                events.c.state.in_(_FINAL), events.c.type != EventType.SDK_EVENT_REPORTED.value
            )
    most = bindparam("most", type_=BigInteger)
    page = wanted.order_by(events.c.sequence).limit(most).subquery("page")
    return (
        select(bounds, page)
        .select_from(bounds.outerjoin(page, text("true")))
        .order_by(page.c.sequence)
    )


# Made once: the tail reads it after each append, and making it costs as much as running it.
_UNFILTERED = _made_page(None)


def _refuse_holes(after: int, through: int, found: Sequence[PaymentEvent]) -> None:
    """An unfiltered page has every sequence of its stretch."""
    expected = after
    for event in found:
        if event.sequence != expected + 1:
            raise LogCorrupt(expected)
        expected = event.sequence
    if expected != through:
        raise LogCorrupt(expected)


def append_span(session: str) -> AbstractContextManager[Span]:
    """The span of an append, which deliveries link to; itself linked to what made the session.

    ``session`` is a traceparent; "" when it is not known yet, or there is none.
    """
    return telemetry.quiet_span(
        "append payment_events",
        SpanKind.PRODUCER,
        attributes={
            "messaging.system": "antom_payments",
            "messaging.destination.name": "payment_events",
            "messaging.operation.name": "append",
            "messaging.operation.type": "send",
        },
        links=telemetry.links_elsewhere(session),
    )


async def append(
    connection: AsyncConnection, drafts: Sequence[PaymentEvent], now: Callable[[], datetime]
) -> list[PaymentEvent]:
    """Append ``drafts`` in order and return them with their sequences and append time.

    Call it last in the transaction: it takes the log's lock, and nothing may be locked after it.
    The append time is the database's clock (SQLite: ``now``), never before the previous event's.
    """
    last, time = await _lock_end(connection, now)
    appended = [
        replace(
            draft,
            sequence=last + offset,
            append_time=time,
            payment=replace(draft.payment, last_sequence=last + offset),
        )
        for offset, draft in enumerate(drafts, start=1)
    ]
    await connection.execute(insert(events), [event_to_row(event) for event in appended])
    return appended


async def _lock_end(
    connection: AsyncConnection, now: Callable[[], datetime]
) -> tuple[int, datetime]:
    """Lock the log's end; its last sequence, and the append time for what follows."""
    if connection.dialect.name == "sqlite":
        last, last_time = (await connection.execute(select(*_NEWEST))).one()
        return last or 0, max(last_time, now()) if last_time else now()
    # Whoever holds the lock and goes silent is cut off after two seconds.
    settings = [("idle_in_transaction_session_timeout", "2s")]
    if (connection.dialect.server_version_info or (0,)) >= (17,):
        # Its timer runs since the transaction began: stopped, it starts anew with the new length.
        settings += [("transaction_timeout", "0"), ("transaction_timeout", "2s")]
    cut = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings)
    await connection.execute(text(f"SELECT pg_advisory_xact_lock(:key), {cut}"), {"key": LOG_LOCK})
    # A later statement: under READ COMMITTED it sees what the lock's previous holder committed.
    last, last_time, clock = (await connection.execute(_END_AND_CLOCK)).one()
    return last or 0, max(last_time, clock) if last_time else clock


async def read_identity(connection: AsyncConnection) -> tuple[str, bytes]:
    """The log's id and cursor key."""
    row = (await connection.execute(select(log_identity.c.log_id, log_identity.c.cursor_key))).one()
    return row.log_id, row.cursor_key
