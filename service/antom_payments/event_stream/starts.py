"""Where subscribers start, and what cursors mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from antom_payments.cursor import CursorSeal, Phase, Position, SnapshotPosition
from antom_payments.errors import CursorExpired, CursorInvalid, LogCorrupt, LogRewound
from antom_payments.event_stream.entry import Encoder, Mark, SnapshotMark
from antom_payments.event_stream.ring import Ring
from antom_payments.payment_event import EventFilter
from antom_payments.store import EventLog


@dataclass(frozen=True, slots=True)
class Earliest:
    """Start with the oldest event that is kept."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Start with the first event after the call."""


@dataclass(frozen=True, slots=True)
class AfterCursor:
    """Start after this cursor; within a snapshot, if it is of one."""

    cursor: str


@dataclass(frozen=True, slots=True)
class AtTime:
    """Start with the first event that was not appended before this time.

    With the first event after the call when there is none.
    """

    time: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Start with the current state of payments."""


Start = AfterCursor | AtTime | Earliest | Latest | Snapshot


class Starts:
    """Finds the place that a start means."""

    def __init__(
        self,
        log: EventLog,
        seal: CursorSeal,
        ring: Ring,
        encoder: Encoder,
        *,
        reach: Callable[[int], Awaitable[bool]],
    ) -> None:
        """``reach`` has the tail read the log up to a sequence, if the log still has it."""
        self._log = log
        self._seal = seal
        self._ring = ring
        self._encoder = encoder
        self._reach = reach

    async def mark_of(self, start: Start, event_filter: EventFilter) -> Mark:
        """The place; the tail has read the log up to its head as of the call.

        A place in a snapshot must be of ``event_filter``.

        Raises what `EventStream.subscribe` raises.
        """
        match start:
            case AfterCursor(cursor):
                return await self._mark_of_cursor(cursor, event_filter)
            case Latest():
                return await self._head()
            case Earliest():
                await self._head()
                return self._encoder.mark_before(await self._log.oldest())
            case AtTime(time):
                # First: what is appended while the time is looked up comes after it.
                head = await self._head()
                return await self._mark_before(await self._log.first_since(time)) or head
            case Snapshot():
                return self._snapshot_start(await self._head(), event_filter)

    async def _head(self) -> Mark:
        """The log's head: also what another process has just appended."""
        _, head = await self._log.bounds()
        await self._reach(head)
        return self._ring.head

    async def _mark_before(self, sequence: int) -> Mark | None:
        """The place before an event of a time; None when there is no such event.

        Expired when it begins the log: what was pruned before it may be of that time, too.
        """
        if not sequence:
            return None
        earlier = await self._log.event(sequence - 1)
        if earlier is not None:
            return self._encoder.mark(earlier)
        before = self._encoder.mark_before(await self._log.oldest())
        if before.sequence:
            raise CursorExpired(before.cursor)
        return before

    def _snapshot_start(self, head: Mark, event_filter: EventFilter) -> SnapshotMark:
        position = self._seal.open(head.cursor)
        assert isinstance(position, Position)  # noqa: S101 - the head is a place in the log
        return self._encoder.snapshot_mark(0, position, event_filter.identity())

    async def _mark_of_cursor(self, cursor: str, event_filter: EventFilter) -> Mark:
        """The place that a cursor names, if the log still has what it had there.

        The cursor's witness must be kept, and be the same event: without it, nobody could tell a
        pruned past from a future that a restore took back.
        """
        position = self._seal.open(cursor)
        if isinstance(position, SnapshotPosition):
            if position.filter_id != event_filter.identity():
                # What lies behind it was never told of other payments.
                raise CursorInvalid
            # It needs no event but the witness: payments stay when their events are pruned.
            await self._mark_of_cursor(self._seal.seal(position.head), event_filter)
            return self._encoder.snapshot_mark(position.sequence, position.head, position.filter_id)
        if position.phase not in set(Phase):
            raise CursorInvalid
        if position.phase == Phase.AFTER and self._ring.covers(position.sequence):
            return _same(self._ring.mark(position.sequence), cursor)
        _, head = await self._log.bounds()
        if position.witness > head:
            raise LogRewound
        await self._reach(head)
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
        if position.witness > (await self._log.bounds())[1]:
            # Restored since the head was looked up.
            raise LogRewound
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
