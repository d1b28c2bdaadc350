"""A real log behind a door that tests open and close."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from antom_payments.errors import StoreUnavailable
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import EventLog, LogPage, PaymentsPage


class FaultyLog:
    """Passes everything to the log, unless a test says otherwise."""

    def __init__(self, log: EventLog) -> None:
        self.log_id = log.log_id
        self.cursor_key = log.cursor_key
        self.is_down = False
        self.bounds_fail = False
        self.broken: Exception | None = None
        """Raised by whatever is asked, while it is set."""
        self.pages: Counter[EventFilter | None] = Counter()
        """Pages asked for, by filter; the tail's have none."""
        self.reading = 0
        self.most_at_once = 0
        self._log = log
        self._doors: dict[EventFilter | None, asyncio.Event] = {}
        self._failed = asyncio.Event()

    def hold(self, event_filter: EventFilter) -> asyncio.Event:
        """Pages with that filter wait until the returned event is set."""
        return self._doors.setdefault(event_filter, asyncio.Event())

    async def has_failed(self) -> None:
        """Wait for the next failure."""
        self._failed.clear()
        await self._failed.wait()

    async def page(self, after: int, **options: Any) -> LogPage:
        event_filter = options.get("event_filter")
        async with self._open(event_filter):
            self.pages[event_filter] += 1
            return await self._log.page(after, **options)

    async def payments(self, after: int, **options: Any) -> PaymentsPage:
        async with self._open(options["event_filter"]):
            return await self._log.payments(after, **options)

    async def event(self, sequence: int) -> PaymentEvent | None:
        async with self._open(None):
            return await self._log.event(sequence)

    async def oldest(self) -> PaymentEvent | None:
        async with self._open(None, fails=self.bounds_fail):
            return await self._log.oldest()

    async def bounds(self) -> tuple[int, int]:
        async with self._open(None, fails=self.bounds_fail):
            return await self._log.bounds()

    async def wait(self, timeout_seconds: float) -> None:
        await self._log.wait(timeout_seconds)

    @asynccontextmanager
    async def _open(
        self, event_filter: EventFilter | None, *, fails: bool = False
    ) -> AsyncIterator[None]:
        if self.is_down or fails or self.broken:
            self._failed.set()
            raise self.broken or StoreUnavailable
        self.reading += event_filter is not None
        self.most_at_once = max(self.most_at_once, self.reading)
        try:
            if event_filter in self._doors:
                await self._doors[event_filter].wait()
            yield
        finally:
            self.reading -= event_filter is not None
