"""A subscriber: a place in the log, and the steps from there to its head."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentelemetry.trace import Link

from antom_payments.errors import PaymentsError, StoreUnavailable
from antom_payments.event_stream.entry import (
    EVERYTHING,
    Entry,
    Mark,
    PaymentEntry,
    SnapshotMark,
)
from antom_payments.event_stream.pages import Page, Pages, Told
from antom_payments.event_stream.ring import Ring
from antom_payments.event_stream.snapshot import Snapshots
from antom_payments.payment_event import EventFilter

_SCANNED_AT_ONCE = 1_024
"""Entries of the ring that one turn of the event loop looks at (about 0.5 ms)."""
_RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be sent next: events, payments of a snapshot, or one of the two markers."""

    data: bytes
    """Serialised responses of one event or payment each, joined; empty with a marker."""
    events: int
    cursor: str
    """Resume point after the batch."""
    payments: int = 0
    append_links: tuple[Link, ...] = ()
    """To what appended the events, as far as it is sampled."""
    caught_up: bool = False
    """Everything up to the log's head as of the subscription's start was delivered."""
    snapshot_end: bool = False
    """Every payment was delivered as of the batch's cursor, or is by an event that follows."""
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

    From a place in a snapshot: the payments first, each as it is when it is read.

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
        snapshots: Snapshots,
        limits: BatchLimits,
        on_close: Callable[[Subscription], None],
    ) -> None:
        self.event_filter = event_filter
        self._mark = mark
        self._ring = ring
        self._pages = pages
        self._snapshots = snapshots
        self._limits = limits
        self._on_close = on_close
        self._start_head = ring.head.sequence
        self._admits = None if event_filter == EVERYTHING else event_filter.admits
        self._is_live = False
        # The first event that was wanted since the head was last reached; 0 is none. What else is
        # wanted lies behind it: later ones are not noted.
        self._next_match = 0
        self._page: Page[Told] | None = None
        self._reading: asyncio.Task[Page[Told]] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: PaymentsError | None = None

    async def next(self, timeout_seconds: float, *, most: int | None = None) -> Batch | None:
        """The next batch, at once when there is one; None when there is none in time.

        With ``most``, of at most so many events or payments; at least 1.

        None is the moment for a checkpoint. Safe to cancel: nothing is lost. A database that
        cannot be used only makes this wait.

        Raises:
            CursorExpired: the subscriber was too slow, what it needs next was pruned.
            LogRewound: the log was restored to an older point.
            LogCorrupt: the log has a hole.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        most = self._limits.events if most is None else min(most, self._limits.events)
        while True:
            batch = self._take(most)
            if batch is not None:
                return batch
            remaining = deadline - loop.time()
            if remaining <= 0:
                return None
            here = self._mark.sequence
            if isinstance(self._mark, SnapshotMark) or (
                here < self._goal() and not self._ring.covers(here)
            ):
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

    def lag_seconds(self) -> float | None:
        """How much older the checkpoint's place is than the newest event that the tail has read.

        Zero at the head; None within a snapshot, whose places have no time.
        """
        if isinstance(self._mark, SnapshotMark):
            return None
        self._skip_unwanted()
        here, head = self._mark.append_time, self._ring.head.append_time
        if self._mark.sequence >= self._ring.head.sequence or here is None or head is None:
            return 0.0
        return max(0.0, (head - here).total_seconds())

    def lag_events(self) -> int:
        """How many events, wanted or not, lie between its place and the newest that was read.

        Zero within a snapshot: it stands for the events before it, and none of them is owed.
        """
        if isinstance(self._mark, SnapshotMark):
            return 0
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

    def _take(self, most: int) -> Batch | None:
        """What can be had without waiting."""
        if self._error is not None:
            # Shared by all subscribers: each raises it from here, without the others' frames.
            raise self._error.with_traceback(None)
        if self._page is not None:
            return self._take_page(self._page, most)
        if isinstance(self._mark, SnapshotMark):
            return None
        if not self._is_live and self._mark.sequence >= self._start_head:
            self._is_live = True
            return Batch(b"", 0, self._mark.cursor, caught_up=True)
        self._skip_unwanted()
        if not self._ring.covers(self._mark.sequence):
            return None
        count = min(_SCANNED_AT_ONCE, self._goal() - self._mark.sequence)
        entries = self._ring.after(self._mark.sequence, count)
        batch, last = self._joined(entries, most, self._admits)
        if last is not None:
            self._move_to(last)
        return batch

    def _take_page(self, page: Page[Told], most: int) -> Batch | None:
        """The next batch of a page; the page is let go with its last one."""
        ends_snapshot = isinstance(self._mark, SnapshotMark) and not isinstance(
            page.through, SnapshotMark
        )
        batch, last = self._joined(page.entries, most)
        taken = 0 if batch is None else batch.events + batch.payments
        if last is not None and (taken < len(page.entries) or ends_snapshot):
            self._page = Page(page.entries[taken:], page.through)
            self._move_to(last)
            return batch
        self._page = None
        self._move_to(page.through)
        if ends_snapshot:
            return Batch(b"", 0, page.through.cursor, snapshot_end=True)
        return batch

    def _joined(
        self,
        entries: Iterable[Told],
        most: int,
        admits: Callable[[Any], bool] | None = None,
    ) -> tuple[Batch | None, Mark | None]:
        """As many entries as fit in a batch, and the last one that was looked at."""
        data: list[bytes] = []
        links: list[Link] = []
        size = 0
        newest: Entry | PaymentEntry | None = None
        last: Mark | None = None
        for entry in entries:
            if admits is None or admits(entry):
                size += len(entry.data)
                if data and (size > self._limits.size_bytes or len(data) == most):
                    break
                data.append(entry.data)
                if isinstance(entry, Entry) and entry.append_link is not None:
                    links.append(entry.append_link)
                newest = entry
            last = entry
        if newest is None:
            return None, last
        if isinstance(newest, PaymentEntry):
            return Batch(b"".join(data), 0, newest.cursor, payments=len(data)), last
        time = newest.append_time if self._is_live else None
        told = Batch(
            b"".join(data), len(data), newest.cursor, append_links=tuple(links), live_time=time
        )
        return told, last

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

    def _page_read(self) -> Coroutine[Any, Any, Page[Told]]:
        if isinstance(self._mark, SnapshotMark):
            return self._snapshots.read(self._mark, self.event_filter)
        return self._pages.read(self._mark, self._goal(), self.event_filter)

    async def _read_page(self, seconds: float) -> None:
        """Read the next page, or wait for it ``seconds``: the read goes on behind a checkpoint."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._page_read())
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


def _acknowledge(reading: asyncio.Task[Page[Told]]) -> None:
    """Look at the outcome: a closed subscriber does not, and asyncio would complain."""
    if not reading.cancelled():
        reading.exception()
