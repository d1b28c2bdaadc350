"""The event stream: what subscribers need, put together."""

from __future__ import annotations

import asyncio

from antom_payments.cursor import CursorSeal
from antom_payments.errors import CursorInvalid, LogRewound
from antom_payments.event_stream.entry import (
    EVERYTHING,
    Encode,
    Encoder,
    Entry,
    Mark,
    SnapshotMark,
)
from antom_payments.event_stream.measures import StreamMeasures
from antom_payments.event_stream.pages import Page, Pages
from antom_payments.event_stream.ring import Ring
from antom_payments.event_stream.snapshot import Snapshots
from antom_payments.event_stream.starts import AfterCursor, Start, Starts
from antom_payments.event_stream.subscription import BatchLimits, Subscription
from antom_payments.event_stream.tail import Pace, Tail
from antom_payments.event_stream.wake_ups import WakeUps
from antom_payments.payment_event import EventFilter
from antom_payments.store import EventLog


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
        encode: Encode,
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
            encode: serialises an event, or a payment of a snapshot, with its cursor, as a message
                that can be joined to others.
            ring_events: at most so many events are kept in memory,
            ring_bytes: and about so many bytes.
            start_events: so many of the newest events are read into memory at the start, for
                subscribers that come back.
            page_events: events or payments of one read of the database; at least 2. Decoding them
                holds the event loop (about 0.15 ms each).
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
        turns = asyncio.Semaphore(page_reads)
        self._pages = Pages(log, self._ring, self._encoder, page_events=page_events, turns=turns)
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
        self._snapshots = Snapshots(
            log,
            self._encoder,
            reach=self._tail.reach,
            page_payments=page_events,
            turns=turns,
        )
        self._starts = Starts(log, self._seal, self._ring, self._encoder, reach=self._tail.reach)
        self._limits = limits or BatchLimits()
        self.measures = StreamMeasures(self._tail, self._ring, self._pages, self._wake_ups)

    @property
    def seal(self) -> CursorSeal:
        """Seals what callers are given to bring back, for this log alone."""
        return self._seal

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
            CursorInvalid: the cursor is garbled, of another log, or of another filter's snapshot.
            CursorExpired: events after the cursor, or of the time, were pruned.
            LogRewound: the log was restored to a point before the cursor.
            LogCorrupt: the log has a hole at its end.
            StoreUnavailable: the database cannot be used.
        """
        subscription = Subscription(
            await self._place(start, event_filter),
            event_filter,
            ring=self._ring,
            pages=self._pages,
            snapshots=self._snapshots,
            limits=self._limits,
            on_close=self._wake_ups.remove,
        )
        self._wake_ups.add(subscription)
        return subscription

    async def page(
        self, start: Start, event_filter: EventFilter, *, limit: int, size_bytes: int
    ) -> tuple[Page[Entry], bool]:
        """What ``event_filter`` admits after a start: at most ``limit`` events, some bytes' worth.

        Also whether the log ended there when this was asked. A page looks at a stretch of the log
        of limited length: one of a filter may be empty, and not the last. Raises as `subscribe`.
        """
        # The tail may be a moment late; what is committed before the call is in its answer.
        _, head = await self._log.bounds()
        await self._tail.reach(head)
        mark = await self._log_place(start, event_filter)
        head = self._ring.head.sequence
        page = await self._pages.gather(
            mark, head, event_filter, limit=limit, size_bytes=size_bytes
        )
        return page, page.through.sequence >= head

    async def head_cursor(self) -> str:
        """The cursor after the newest event that is committed now; raises StoreUnavailable."""
        newest = await self._log.newest()
        mark = self._encoder.mark(newest) if newest else self._encoder.mark_before(None)
        return mark.cursor

    async def confirm(self, cursor: str) -> None:
        """Raise, as `subscribe` would, when there is no going on from the cursor."""
        await self._log_place(AfterCursor(cursor), EVERYTHING)

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

    async def _place(self, start: Start, event_filter: EventFilter) -> Mark:
        """Where to start, in what the tail reads now."""
        while True:
            await self._tail.reach(0)
            epoch = self._ring.epoch
            mark = await self._starts.mark_of(start, event_filter)
            # Otherwise the log was restored meanwhile: look again.
            if epoch == self._ring.epoch:
                return mark

    async def _log_place(self, start: Start, event_filter: EventFilter) -> Mark:
        """The same of a list, which has no snapshots; raises CursorInvalid for a place in one."""
        mark = await self._place(start, event_filter)
        if isinstance(mark, SnapshotMark):
            raise CursorInvalid
        return mark
