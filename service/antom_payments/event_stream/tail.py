"""The process's one reader of the log's end."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from antom_payments import telemetry
from antom_payments.errors import (
    CursorExpired,
    LogCorrupt,
    LogRewound,
    PaymentsError,
    StoreUnavailable,
)
from antom_payments.event_stream.entry import Encoder, Mark
from antom_payments.event_stream.ring import Ring
from antom_payments.event_stream.wake_ups import WakeUps
from antom_payments.payment_event import PaymentEvent
from antom_payments.store import EventLog, LogPage

_ENCODED_AT_ONCE = 64
_logger = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the log is read, in seconds. Other processes' appends come without a hint."""

    busy_seconds: float = 0.02
    """Right after events."""
    idle_seconds: float = 0.25
    """When nothing has happened for a while."""
    retry_seconds: float = 0.1
    """After the first failure; doubled with each further one, and jittered."""
    max_retry_seconds: float = 5.0


class Tail:
    """Reads every event once, in order, into the ring, and wakes who may want it.

    Each read begins with the newest event already known: if another one stands there, or none, the
    log was restored under the running process. Everybody is told; nobody is served a mixture.
    """

    def __init__(
        self,
        log: EventLog,
        ring: Ring,
        encoder: Encoder,
        wake_ups: WakeUps,
        *,
        page_events: int,
        start_events: int,
        pace: Pace,
    ) -> None:
        self._log = log
        self._ring = ring
        self._encoder = encoder
        self._wake_ups = wake_ups
        self._page_events = page_events
        self._start_events = start_events
        self._pace = pace
        self.oldest = 0
        """The oldest sequence that was kept when the log was last read."""
        self.unread = 0
        """Events that the log had and the ring had not, when the log was last read."""
        self._behind_since: float | None = time.monotonic()
        self._reading = asyncio.Lock()
        self._has_started = False
        self._corrupt: LogCorrupt | None = None

    async def run(self) -> None:
        """Follow the log until cancelled; survives whatever the database does."""
        pause, failures = self._pace.busy_seconds, 0
        while True:
            before = self._ring.head.sequence
            try:
                has_more = await self._read()
            except Exception as error:
                self._note_behind()
                if not failures:
                    is_known = isinstance(error, StoreUnavailable | LogCorrupt)
                    _logger.warning(
                        "the event log cannot be read",
                        error=type(error).__name__,
                        exc_info=None if is_known else error,
                    )
                    if not is_known:
                        self._end_everybody(StoreUnavailable())
                await asyncio.sleep(self._retry_pause(failures))
                failures += 1
                continue
            if failures:
                _logger.info("the event log can be read again", failures=failures)
                failures = 0
            if not has_more:
                grew = self._ring.head.sequence != before
                pause = self._pace.busy_seconds if grew else min(pause * 2, self._pace.idle_seconds)
                await self._log.wait(pause)

    async def reach(self, sequence: int) -> bool:
        """Read on until the ring's head is at ``sequence`` or later; False if the log is shorter.

        It once was that long, or nobody would ask: a restore took it back.

        Raises StoreUnavailable, and LogCorrupt while the log has a hole at its end.
        """
        while not self._has_started or self._ring.head.sequence < sequence:
            has_more = await self._read(sequence)
            # Not while another reader begins anew.
            if not has_more and self._has_started:
                break
        if self._corrupt is not None:
            raise self._corrupt.with_traceback(None)
        return self._ring.head.sequence >= sequence

    def lag_seconds(self, now: float) -> float:
        """How long, by `time.monotonic`, the ring has not been at the log's end; 0 when it is."""
        since = self._behind_since
        return 0.0 if since is None else max(0.0, now - since)

    def _note_behind(self) -> None:
        if self._behind_since is None:
            self._behind_since = time.monotonic()

    def _retry_pause(self, failures: int) -> float:
        longest = min(
            self._pace.retry_seconds * 2.0 ** min(failures, 16), self._pace.max_retry_seconds
        )
        return random.uniform(longest / 2, longest)

    async def _read(self, wanted: int | None = None) -> bool:
        """Read one page of news, unless ``wanted`` is there; whether there is more to read now."""
        async with self._reading:
            try:
                if not self._has_started:
                    await self._start()
                elif wanted is not None and self._ring.head.sequence >= wanted:
                    return False
                return await self._read_page()
            except LogCorrupt as error:
                self._corrupt = error
                self._end_everybody(error)
                raise

    async def _read_page(self) -> bool:
        known = self._ring.head
        # The newest known event again, and its successors, in one statement: of one snapshot.
        page = await self._log.page(max(known.sequence - 1, 0), limit=self._page_events)
        self._corrupt = None
        self.oldest = page.oldest
        error = await self._break_in(page, known)
        if error is not None:
            await self._start(error)
            return True
        await self._append(page.events[1:] if known.sequence else page.events)
        self.unread = page.head - page.through
        if self.unread:
            self._note_behind()
        else:
            self._behind_since = None
        return page.through < page.head

    async def _break_in(self, page: LogPage, known: Mark) -> PaymentsError | None:
        """Why the page does not continue what was read, or None when it does."""
        if page.oldest > max(known.sequence, 1):
            return CursorExpired(self._encoder.mark_before(await self._log.oldest()).cursor)
        if not known.sequence:
            return None
        if not page.events or self._encoder.mark(page.events[0]).cursor != known.cursor:
            return LogRewound()
        return None

    async def _append(self, events: tuple[PaymentEvent, ...]) -> None:
        """Put events into the ring and wake who may want them, giving way in between."""
        for start in range(0, len(events), _ENCODED_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            entries = [
                self._encoder.entry(event) for event in events[start : start + _ENCODED_AT_ONCE]
            ]
            for entry in entries:
                self._ring.append(entry)
            self._wake_ups.wake(entries)

    async def _start(self, error: PaymentsError | None = None) -> None:
        """Begin a little before the log's head, and tell those who followed another log ``error``.

        Whoever comes back after a restart finds what was missed in memory: a page for each would
        keep the process busy for long.
        """
        base = await self._find_base()
        # In one turn: nobody may follow the old ring once the others were told.
        self._has_started = False
        self._ring.start(base)
        if error is not None:
            self._end_everybody(error)
        while await self._read_page():
            pass
        self._has_started = True

    async def _find_base(self) -> Mark:
        """The place after one of the newest events, or the start of an empty log."""
        while True:
            oldest, head = await self._log.bounds()
            if not head:
                return self._encoder.mark_before(None)
            event = await self._log.event(max(head - self._start_events, oldest))
            # None: pruned or restored in between.
            if event is not None:
                return self._encoder.mark(event)

    def _end_everybody(self, error: PaymentsError) -> None:
        if len(self._wake_ups):
            _logger.error(
                "streams end: the event log changed",
                error=type(error).__name__,
                streams=len(self._wake_ups),
            )
        self._wake_ups.fail(error)
