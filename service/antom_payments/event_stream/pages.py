"""Reading the log from the database, for subscribers that are behind the ring."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from antom_payments.errors import CursorExpired, LogCorrupt, LogRewound
from antom_payments.event_stream.entry import EVERYTHING, Encoder, Entry, Mark, PaymentEntry
from antom_payments.event_stream.ring import Ring
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import EventLog, LogPage

_WINDOW = 5_000
"""Sequences that one statement looks at: a filter that admits little must not scan the log."""
_KEYED_WINDOW = 50_000
"""The same where a few merchants or payments are named, and all of theirs is wanted: an index
passes over what is not theirs. With more names, PostgreSQL's generic plan walks the window."""
_FEW = 5
_ENCODED_AT_ONCE = 64
_GATHERED_READS = 4
"""So much is looked at for one page of a list, whatever it asks for."""


def window_of(event_filter: EventFilter) -> int:
    """How many sequences one statement for the filter looks at, at most."""
    named = event_filter.payment_request_ids or event_filter.merchant_accounts or ()
    is_keyed = 0 < len(named) <= _FEW
    wants_all_of_them = event_filter.types is None and not event_filter.final_states_only
    return _KEYED_WINDOW if is_keyed and wants_all_of_them else _WINDOW


Told = Entry | PaymentEntry
"""What a page has."""
E_co = TypeVar("E_co", bound=Told, covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[E_co]):
    """Whatever a filter admits up to `through`: events, or payments of a snapshot."""

    entries: tuple[E_co, ...]
    through: Mark


class Pages:
    """Reads pages for all subscribers of the process, a few at a time, first come first served."""

    def __init__(
        self,
        log: EventLog,
        ring: Ring,
        encoder: Encoder,
        *,
        page_events: int,
        turns: asyncio.Semaphore,
    ) -> None:
        self._log = log
        self._ring = ring
        self._encoder = encoder
        self._page_events = page_events
        self._turns = turns
        self.reads = 0
        """Pages read since the start."""

    async def gather(
        self, after: Mark, up_to: int, event_filter: EventFilter, *, limit: int, size_bytes: int
    ) -> Page[Entry]:
        """A page of a list: some reads' worth, at most ``limit`` events and about ``size_bytes``.

        Raises as `read` does.
        """
        entries: list[Entry] = []
        here, size = after, 0
        for _ in range(_GATHERED_READS):
            wanted = limit - len(entries)
            if not wanted or here.sequence >= up_to:
                break
            page = await self.read(here, up_to, event_filter, most=wanted)
            for entry in page.entries:
                size += len(entry.data)
                if entries and size > size_bytes:
                    return Page(tuple(entries), entries[-1].place())
                entries.append(entry)
            here = page.through
        return Page(tuple(entries), here)

    async def read(
        self, after: Mark, up_to: int, event_filter: EventFilter, *, most: int | None = None
    ) -> Page[Entry]:
        """The next page after ``after``, at most up to ``up_to``, which the tail has seen.

        At most ``most`` events, and never more than a read of the database may have.

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
                window=min(window_of(event_filter), up_to - after.sequence),
                limit=min(most or self._page_events, self._page_events),
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
