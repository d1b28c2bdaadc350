"""Reading the log from the database, for subscribers that are behind the ring."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from antom_payments.errors import CursorExpired, LogCorrupt, LogRewound
from antom_payments.event_stream.entry import EVERYTHING, Encoder, Entry, Mark
from antom_payments.event_stream.ring import Ring
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import EventLog, LogPage

_WINDOW = 5_000
"""Sequences that one statement looks at: a filter that admits little must not scan the log."""
_ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Page:
    """Whatever a filter admits up to `through`."""

    entries: tuple[Entry, ...]
    through: Mark


class Pages:
    """Reads pages for all subscribers of the process, a few at a time, first come first served."""

    def __init__(
        self, log: EventLog, ring: Ring, encoder: Encoder, *, page_events: int, at_once: int
    ) -> None:
        self._log = log
        self._ring = ring
        self._encoder = encoder
        self._page_events = page_events
        self._turns = asyncio.Semaphore(at_once)
        self.reads = 0
        """Pages read since the start."""

    async def read(self, after: Mark, up_to: int, event_filter: EventFilter) -> Page:
        """The next page after ``after``, at most up to ``up_to``, which the tail has seen.

        Raises:
            CursorExpired: events after ``after`` were pruned.
            LogRewound: the log ends before ``up_to``, or has another event at ``after``.
            LogCorrupt: a sequence is missing (unfiltered reads only).
            StoreUnavailable: the database cannot be used.
        """
        async with self._turns:
            self.reads += 1
            page = await self._log.page(
                after.sequence,
                window=min(_WINDOW, up_to - after.sequence),
                limit=self._page_events,
                event_filter=None if event_filter == EVERYTHING else event_filter,
            )
            if page.head < up_to or self._is_of_another_log(page, after):
                raise LogRewound
            if page.oldest > after.sequence + 1:
                raise CursorExpired(self._encoder.mark_before(await self._log.oldest()).cursor)
            through = await self._end_of(page)
        return Page(await self._encoded(page.events), through)

    def _is_of_another_log(self, page: LogPage, after: Mark) -> bool:
        """Whether the log was restored meanwhile, and the tail has not seen it yet.

        Not to be told where the event before the page was pruned: that takes days, the tail not.
        """
        event_id = page.after_event_id
        return bool(event_id) and self._encoder.cursor(after.sequence, event_id) != after.cursor

    async def _end_of(self, page: LogPage) -> Mark:
        """The place at the page's end, where another's event may be."""
        if page.events and page.events[-1].sequence == page.through:
            return self._encoder.mark(page.events[-1])
        if self._ring.covers(page.through):
            return self._ring.mark(page.through)
        event = await self._log.event(page.through)
        if event is not None:
            return self._encoder.mark(event)
        oldest = await self._log.oldest()
        if oldest is not None and oldest.sequence > page.through:
            raise CursorExpired(self._encoder.mark_before(oldest).cursor)
        raise LogCorrupt(page.through - 1)

    async def _encoded(self, events: tuple[PaymentEvent, ...]) -> tuple[Entry, ...]:
        """Serialise, giving way to others in between."""
        entries: list[Entry] = []
        for start in range(0, len(events), _ENCODED_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            entries += map(self._encoder.entry, events[start : start + _ENCODED_AT_ONCE])
        return tuple(entries)
