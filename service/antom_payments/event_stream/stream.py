"""The event stream: where subscribers start, and what cursors mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from antom_payments.cursor import UNKNOWN_FINGERPRINT, CursorSeal, Position
from antom_payments.errors import CursorExpired, CursorInvalid, LogCorrupt, LogRewound
from antom_payments.event_stream.entry import Encoder, Mark
from antom_payments.event_stream.pages import Pages
from antom_payments.event_stream.ring import Ring
from antom_payments.event_stream.subscription import BatchLimits, Subscription
from antom_payments.event_stream.tail import Pace, Tail
from antom_payments.event_stream.wake_ups import WakeUps
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import EventLog


@dataclass(frozen=True, slots=True)
class Earliest:
    """Start with the oldest event that is kept."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Start with the first event after the call."""


@dataclass(frozen=True, slots=True)
class AfterCursor:
    """Start after this cursor."""

    cursor: str


Start = AfterCursor | Earliest | Latest


class EventStream:
    """Follows the log for all subscribers of a process.

    The log is read once, into a ring of the newest events, each serialised once; whoever is behind
    the ring reads pages of the database. Both are the same log read by cursor, so there is no seam
    between history and live at which an event could be lost.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        encode: Callable[[PaymentEvent, str], bytes],
        ring_events: int = 10_000,
        ring_bytes: int = 64 * 1024 * 1024,
        start_events: int = 2_000,
        page_events: int = 64,
        page_reads: int = 4,
        limits: BatchLimits | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Make the stream of ``log``; `run` must run for it to be live.

        Args:
            log: the log to follow.
            encode: serialises an event with its cursor, as a message that can be joined to others.
            ring_events: at most so many events are kept in memory,
            ring_bytes: and about so many bytes.
            start_events: so many of the newest events are read into memory at the start, for
                subscribers that come back.
            page_events: events of one read of the database; at least 2. Decoding them holds the
                event loop (about 0.15 ms each).
            page_reads: reads of the database at once for subscribers behind the ring; leave
                connections of the pool for others.
            limits: of a batch.
            pace: of the tail.
        """
        self._log = log
        self._seal = CursorSeal(log.cursor_key, log.log_id)
        self._encoder = Encoder(self._seal, encode)
        self._ring = Ring(self._encoder.mark_before(1), events=ring_events, size_bytes=ring_bytes)
        self._pages = Pages(
            log, self._ring, self._encoder, page_events=page_events, at_once=page_reads
        )
        self._wake_ups = WakeUps()
        self._tail = Tail(
            log,
            self._ring,
            self._encoder,
            self._wake_ups,
            page_events=page_events,
            start_events=min(start_events, ring_events),
            pace=pace or Pace(),
        )
        self._limits = limits or BatchLimits()

    @property
    def subscribers(self) -> int:
        """How many follow the log now."""
        return len(self._wake_ups)

    @property
    def woken(self) -> int:
        """How many subscribers were woken by events since the start; for metrics."""
        return self._wake_ups.count

    async def run(self) -> None:
        """Tail the log until cancelled. Survives outages; never skips an event."""
        await self._tail.run()

    async def subscribe(self, start: Start, event_filter: EventFilter) -> Subscription:
        """Follow what ``event_filter`` admits; close the subscription at the end.

        Raises:
            CursorInvalid: the cursor is garbled or of another log.
            CursorExpired: events after the cursor were pruned.
            LogRewound: the log was restored to a point before the cursor.
            LogCorrupt: the log has a hole at its end.
            StoreUnavailable: the database cannot be used.
        """
        while True:
            await self._tail.reach(0)
            epoch = self._ring.epoch
            mark = await self._mark_of(start)
            # Otherwise the log was restored meanwhile: look again.
            if epoch == self._ring.epoch:
                break
        subscription = Subscription(
            mark,
            event_filter,
            ring=self._ring,
            pages=self._pages,
            limits=self._limits,
            on_close=self._wake_ups.remove,
        )
        self._wake_ups.add(subscription)
        return subscription

    def cursor_at(self, sequence: int, event_id: str) -> str:
        """The cursor directly after an event."""
        return self._encoder.cursor(sequence, event_id)

    async def cursor_after(self, sequence: int) -> str:
        """The cursor directly after the event with this sequence; with 0, the start of the log.

        When that event is no longer kept: the start of what is kept, which misses nothing later.

        Raises LogRewound for a sequence that the log does not have yet, and StoreUnavailable.
        """
        if sequence and self._ring.epoch and self._ring.covers(sequence):
            return self._ring.mark(sequence).cursor
        while True:
            event = await self._log.event(sequence) if sequence else None
            if event is not None:
                return self._encoder.mark(event).cursor
            oldest, head = await self._log.bounds()
            if sequence > head:
                raise LogRewound
            if sequence < max(oldest, 1):
                return self._encoder.mark_before(oldest).cursor

    async def _mark_of(self, start: Start) -> Mark:
        match start:
            case AfterCursor(cursor):
                return await self._mark_of_cursor(cursor)
            case Latest():
                _, head = await self._log.bounds()
                await self._tail.reach(head)
                return self._ring.head
            case Earliest():
                oldest, head = await self._log.bounds()
                await self._tail.reach(head)
                return await self._mark_before(oldest)

    async def _mark_of_cursor(self, cursor: str) -> Mark:
        """The place that a cursor names, after asking whether it is still what it was."""
        position = self._seal.open(cursor)
        if position.phase:
            raise CursorInvalid
        if self._ring.covers(position.sequence):
            return _same(self._ring.mark(position.sequence), position, cursor)
        oldest, head = await self._log.bounds()
        if position.sequence > head:
            raise LogRewound
        await self._tail.reach(head)
        first = max(oldest, 1)
        if position.sequence < first - 1:
            raise CursorExpired(self._encoder.mark_before(first).cursor)
        if position.sequence == first - 1:
            return await self._mark_before(first)
        event = await self._log.event(position.sequence)
        if event is None:
            return await self._missing(position, cursor)
        return _same(self._encoder.mark(event), position, cursor)

    async def _missing(self, position: Position, cursor: str) -> Mark:
        """An event was kept and then was not: pruned in between, or a hole."""
        oldest, _ = await self._log.bounds()
        if position.sequence >= oldest:
            raise LogCorrupt(position.sequence - 1)
        return await self._mark_of_cursor(cursor)

    async def _mark_before(self, oldest: int) -> Mark:
        """The place before the oldest event kept, as old as that event."""
        event = await self._log.event(oldest) if oldest else None
        return self._encoder.mark_before(oldest, event.append_time if event else None)


def _same(mark: Mark, position: Position, cursor: str) -> Mark:
    """The mark, unless another event stands there than when the cursor was made."""
    if position.fingerprint != UNKNOWN_FINGERPRINT and mark.cursor != cursor:
        raise LogRewound
    return mark
