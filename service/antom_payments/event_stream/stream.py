"""The event stream: where subscribers start, and what cursors mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from antom_payments.cursor import CursorSeal, Phase, Position
from antom_payments.errors import CursorExpired, CursorInvalid, LogCorrupt, LogRewound
from antom_payments.event_stream.entry import Encoder, Mark
from antom_payments.event_stream.measures import StreamMeasures
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
        start = self._encoder.mark_before(None)
        self._ring = Ring(start, events=ring_events, size_bytes=ring_bytes)
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
        self.measures = StreamMeasures(self._tail, self._ring, self._pages, self._wake_ups)

    @property
    def subscribers(self) -> int:
        """How many follow the log now."""
        return len(self._wake_ups)

    @property
    def woken(self) -> int:
        """How many subscribers were woken by events since the start."""
        return self._wake_ups.count

    async def run(self) -> None:
        """Tail the log until cancelled. Survives outages; never skips an event."""
        with self.measures.measured():
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
        # Not from memory once it was pruned: another replica would not know it.
        is_kept = self._ring.epoch and sequence >= max(self._tail.oldest, 1)
        if is_kept and self._ring.covers(sequence):
            return self._ring.mark(sequence).cursor
        while True:
            event = await self._log.event(sequence) if sequence else None
            if event is not None:
                return self._encoder.mark(event).cursor
            if sequence > (await self._log.bounds())[1]:
                raise LogRewound
            oldest = await self._log.oldest()
            if oldest is None or sequence < oldest.sequence:
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
                _, head = await self._log.bounds()
                await self._tail.reach(head)
                return self._encoder.mark_before(await self._log.oldest())

    async def _mark_of_cursor(self, cursor: str) -> Mark:
        """The place that a cursor names, if the log still has what it had there.

        The cursor's witness must be kept, and be the same event: without it, nobody could tell a
        pruned past from a future that a restore took back.
        """
        position = self._seal.open(cursor)
        if position.phase not in set(Phase):
            raise CursorInvalid
        if position.phase == Phase.AFTER and self._ring.covers(position.sequence):
            return _same(self._ring.mark(position.sequence), cursor)
        _, head = await self._log.bounds()
        if position.witness > head:
            raise LogRewound
        await self._tail.reach(head)
        event = await self._log.event(position.witness) if position.witness else None
        if event is None:
            return await self._mark_without_witness(position, cursor)
        if position.phase == Phase.BEFORE:
            before = _same(self._encoder.mark_before(event), cursor)
            # A restore may have brought back what was pruned.
            earlier = await self._log.event(position.sequence)
            return before if earlier is None else self._encoder.mark(earlier)
        return _same(self._encoder.mark(event), cursor)

    async def _mark_without_witness(self, position: Position, cursor: str) -> Mark:
        """The start of a log that still has its first event; else the cursor's event is pruned."""
        oldest = await self._log.oldest()
        if not position.witness and (oldest is None or oldest.sequence == 1):
            return _same(self._encoder.mark_before(oldest), cursor)
        if oldest is None or oldest.sequence <= position.witness:
            raise LogCorrupt(position.witness - 1)
        raise CursorExpired(self._encoder.mark_before(oldest).cursor)


def _same(mark: Mark, cursor: str) -> Mark:
    """The mark, unless another event stands there than when the cursor was made."""
    if mark.cursor != cursor:
        raise LogRewound
    return mark
