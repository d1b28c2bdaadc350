"""A subscriber: a place in the log, and the steps from there to its head."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from antom_payments.errors import PaymentsError, StoreUnavailable
from antom_payments.event_stream.entry import EVERYTHING, Entry, Mark
from antom_payments.event_stream.pages import Page, Pages
from antom_payments.event_stream.ring import Ring
from antom_payments.payment_event import EventFilter

_SCANNED_AT_ONCE = 1_024
"""Entries of the ring that one turn of the event loop looks at (about 0.5 ms)."""
_RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be sent next: events, or the one marker that history was delivered."""

    data: bytes
    """Serialised responses of one event each, joined; empty with the marker."""
    events: int
    cursor: str
    """Resume point after the batch."""
    caught_up: bool = False
    """Everything up to the log's head as of the subscription's start was delivered."""
    live_time: datetime | None = None
    """When its newest event was appended; None of history, older than the subscription."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is joined into one batch; a larger event goes alone.

    A batch is what a subscriber that does not read holds of our memory: 50 of them 6 MiB. Larger
    ones do not make delivery cheaper.
    """

    events: int = 256
    size_bytes: int = 128 * 1024


class Subscription:
    """Follows the log from a place; what the filter admits, in log order, each event once.

    It is a cursor, not a queue: it holds its place and at most one page, so a subscriber that does
    not ask costs nothing and slows nobody. It reads the ring, or pages of the database while it is
    behind the ring, and never past what the tail has read. One task at a time may call `next`.
    """

    def __init__(
        self,
        mark: Mark,
        event_filter: EventFilter,
        *,
        ring: Ring,
        pages: Pages,
        limits: BatchLimits,
        on_close: Callable[[Subscription], None],
    ) -> None:
        self.event_filter = event_filter
        self._mark = mark
        self._ring = ring
        self._pages = pages
        self._limits = limits
        self._on_close = on_close
        self._start_head = ring.head.sequence
        self._wants_all = event_filter == EVERYTHING
        self._is_live = False
        # The first event that was wanted since the head was last reached; 0 is none. What else is
        # wanted lies behind it: later ones are not noted.
        self._next_match = 0
        self._page: Page | None = None
        self._reading: asyncio.Task[Page] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: PaymentsError | None = None

    async def next(self, timeout_seconds: float) -> Batch | None:
        """The next batch, at once when there is one; None when there is none in time.

        None is the moment for a checkpoint. Safe to cancel: nothing is lost. A database that
        cannot be used only makes this wait.

        Raises:
            CursorExpired: the subscriber was too slow, what it needs next was pruned.
            LogRewound: the log was restored to an older point.
            LogCorrupt: the log has a hole.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            batch = self._take()
            if batch is not None:
                return batch
            remaining = deadline - loop.time()
            if remaining <= 0:
                return None
            here = self._mark.sequence
            if here < self._goal() and not self._ring.covers(here):
                await self._read_page(remaining)
            elif self._is_live and here >= self._ring.head.sequence:
                await self._wait(remaining)
            else:
                # There is more to do at once; others first.
                await asyncio.sleep(0)

    def checkpoint_cursor(self) -> str:
        """A resume point: everything wanted up to it was returned by `next`, and nothing after.

        Advances also while the filter admits nothing. To be sent after what `next` returned.
        """
        self._skip_unwanted()
        return self._mark.cursor

    def lag_seconds(self) -> float:
        """How much older the checkpoint's place is than the newest event that the tail has read.

        Zero at the head.
        """
        self._skip_unwanted()
        here, head = self._mark.append_time, self._ring.head.append_time
        if self._mark.sequence >= self._ring.head.sequence or here is None or head is None:
            return 0.0
        return max(0.0, (head - here).total_seconds())

    def lag_events(self) -> int:
        """How many events, wanted or not, lie between its place and the newest that was read."""
        self._skip_unwanted()
        return max(0, self._ring.head.sequence - self._mark.sequence)

    def close(self) -> None:
        """Follow no longer; harmless when repeated."""
        self._on_close(self)
        if self._reading is not None:
            self._reading.cancel()

    def note(self, sequence: int) -> None:
        """The tail has read an event that is wanted."""
        if not self._next_match:
            self._next_match = sequence

    def rouse(self) -> None:
        """Wake `next`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: PaymentsError) -> None:
        """End with ``error``: `next` raises it from now on."""
        self._error = error
        self.rouse()

    def _take(self) -> Batch | None:
        """What can be had without waiting."""
        if self._error is not None:
            # Shared by all subscribers: each raises it from here, without the others' frames.
            raise self._error.with_traceback(None)
        if self._page is not None:
            return self._take_page(self._page)
        if not self._is_live and self._mark.sequence >= self._start_head:
            self._is_live = True
            return Batch(data=b"", events=0, cursor=self._mark.cursor, caught_up=True)
        self._skip_unwanted()
        if not self._ring.covers(self._mark.sequence):
            return None
        count = min(_SCANNED_AT_ONCE, self._goal() - self._mark.sequence)
        entries = self._ring.after(self._mark.sequence, count)
        batch, last = self._joined(entries, wants_all=self._wants_all)
        if last is not None:
            self._move_to(last)
        return batch

    def _take_page(self, page: Page) -> Batch | None:
        """The next batch of a page; the page is let go with its last one."""
        batch, last = self._joined(page.entries, wants_all=True)
        taken = batch.events if batch is not None else 0
        if last is None or taken == len(page.entries):
            self._page = None
            self._move_to(page.through)
        else:
            self._page = Page(page.entries[taken:], page.through)
            self._move_to(last)
        return batch

    def _joined(
        self, entries: Iterable[Entry], *, wants_all: bool
    ) -> tuple[Batch | None, Entry | None]:
        """As many entries as fit in a batch, and the last one that was looked at."""
        data: list[bytes] = []
        size = 0
        newest = last = None
        for entry in entries:
            if wants_all or self.event_filter.admits(entry):
                size += len(entry.data)
                if data and (size > self._limits.size_bytes or len(data) == self._limits.events):
                    break
                data.append(entry.data)
                newest = entry
            last = entry
        if newest is None:
            return None, last
        time = newest.append_time if self._is_live else None
        return Batch(b"".join(data), len(data), newest.cursor, live_time=time), last

    def _goal(self) -> int:
        """Up to where events are handed out now: history first, then what the tail has read."""
        return self._ring.head.sequence if self._is_live else self._start_head

    def _move_to(self, mark: Mark) -> None:
        self._mark = mark
        if mark.sequence >= self._ring.head.sequence:
            self._next_match = 0

    def _skip_unwanted(self) -> None:
        """Jump over what the wake-up index knows not to be wanted.

        Not once it failed: the ring may have started anew, behind what was lost.
        """
        if not self._is_live or self._error is not None:
            return
        target = self._next_match - 1 if self._next_match else self._ring.head.sequence
        if target > self._mark.sequence and self._ring.covers(target):
            self._mark = self._ring.mark(target)

    async def _wait(self, seconds: float) -> None:
        """Until roused, at most ``seconds``. A bare timer: a third of the cost of a timeout."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.rouse)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def _read_page(self, seconds: float) -> None:
        """Read the next page, or wait for it ``seconds``: the read goes on behind a checkpoint."""
        if self._reading is None:
            self._reading = asyncio.create_task(
                self._pages.read(self._mark, self._goal(), self.event_filter)
            )
            self._reading.add_done_callback(_acknowledge)
        reading = self._reading
        done, _ = await asyncio.wait({reading}, timeout=seconds)
        if not done:
            return
        self._reading = None
        try:
            self._page = reading.result()
        except StoreUnavailable:
            await self._wait(min(seconds, random.uniform(0, _RETRY_SECONDS)))


def _acknowledge(reading: asyncio.Task[Page]) -> None:
    """Look at the outcome: a closed subscriber does not, and asyncio would complain."""
    if not reading.cancelled():
        reading.exception()
