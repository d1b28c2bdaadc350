"""The emulator's time, and what is to happen in it.

Time is an injected clock, stretched by a factor and moved on by hand. Everything later (a resend, a
closing order) is an entry on the agenda, so that moving the clock makes exactly what would have
happened happen, in order, at the times at which it was due.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta

from antom_payments import telemetry

_log = telemetry.logger(__name__)

# A suspended machine stops the event loop's clock, not the wall's: look up now and then.
_LONGEST_WAIT_SECONDS = 30.0


class Timeline:
    """A clock with an agenda. Not thread-safe: it belongs to one event loop.

    Args:
        clock: The time outside, aware.
        scale: Seconds that pass inside for one outside; 0 stops the clock, so that only `advance`
            moves it.
    """

    def __init__(self, clock: Callable[[], datetime], scale: float) -> None:
        self._clock = clock
        self._scale = scale
        self._origin = clock()
        self._moved = timedelta()
        self._agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self._entries = 0
        self._waits: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._advancing = asyncio.Lock()

    def now(self) -> datetime:
        """The time inside."""
        return self._origin + (self._clock() - self._origin) * self._scale + self._moved

    def at(self, time: datetime, work: Callable[[], None]) -> None:
        """Put ``work`` on the agenda; what is due at the same time runs in the order of calls."""
        heapq.heappush(self._agenda, (time, self._entries, work))
        self._entries += 1
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until so many seconds have passed inside, or the agenda is cleared."""
        over = asyncio.Event()
        self._waits.add(over)
        self.at(self.now() + timedelta(seconds=seconds), over.set)
        try:
            await over.wait()
        finally:
            self._waits.discard(over)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` beside the agenda; `settle` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def run(self) -> None:
        """Do what is on the agenda when it is due, for ever."""
        while True:
            self._changed.clear()
            self._start_due()
            try:
                async with asyncio.timeout(self._wait_seconds()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def advance(self, seconds: float) -> None:
        """Move the time on, doing on the way all that falls due, and wait until it is done.

        Each entry sees the time at which it was due. 0 only settles what is due now.
        """
        async with self._advancing:
            target = self.now() + timedelta(seconds=seconds)
            while self._agenda and self._agenda[0][0] <= target:
                self._move_to(self._agenda[0][0])
                await self.settle()
            self._move_to(target)
            await self.settle()
            self._changed.set()

    async def settle(self) -> None:
        """Do all that is due, and wait until everything that was started has ended."""
        self._start_due()
        while self._tasks:
            await asyncio.wait(self._tasks)
            self._start_due()

    async def clear(self) -> None:
        """Forget the agenda, stop what runs, and go back to the clock outside."""
        self._agenda.clear()
        for over in self._waits:
            over.set()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._origin = self._clock()
        self._moved = timedelta()
        self._changed.set()

    def _start_due(self) -> None:
        now = self.now()
        while self._agenda and self._agenda[0][0] <= now:
            _, _, work = heapq.heappop(self._agenda)
            try:
                work()
            except Exception:  # noqa: BLE001 - one entry that fails must not stop all time
                _log.exception("emulator.work_failed")

    def _move_to(self, time: datetime) -> None:
        self._moved += max(timedelta(), time - self.now())

    def _wait_seconds(self) -> float:
        if not self._agenda or not self._scale:
            return _LONGEST_WAIT_SECONDS
        ahead = (self._agenda[0][0] - self.now()).total_seconds() / self._scale
        return min(max(ahead, 0.0), _LONGEST_WAIT_SECONDS)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("emulator.work_failed", exc_info=error)
