"""An event loop of one seed: virtual time, no threads, and processes that can be killed.

Whatever runs belongs to a *process* of the simulated machine room. Within one, callbacks run in the
order in which they were scheduled: asyncio promises it and code may rely on it. Which process goes
next is drawn, as the operating system does it. Order within a process varies because every
statement and message takes a time that is drawn, too.

A killed process is not cancelled: its callbacks are never run again, as after kill -9. None of its
`finally` blocks runs until the whole simulation is over, when nothing has an effect any more.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any

_MOST_TURNS = 200_000
"""Twenty times what a run takes."""
_AT_ONCE = 64
"""Callbacks between two looks at whether to stop."""


class Process:
    """A process of the simulated machine room."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.ready: deque[events.Handle] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.at_death: list[Callable[[], None]] = []
        """What others notice of its end: broken connections, released files."""
        self.turns_left = -1
        """Callbacks until it is killed; negative is never."""


class OwnedTask(asyncio.Task[Any]):
    """A task of a process. Hashed by number: a set of tasks has the same order in every run."""

    process: Process

    def __init__(self, work: Any, number: int, process: Process, **more: Any) -> None:
        self._number = number
        self.process = process
        super().__init__(work, **more)
        process.tasks.add(self)
        self.add_done_callback(process.tasks.discard)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Stuck(Exception):
    """Nothing will ever happen, or far too much does."""


class SeededLoop(asyncio.BaseEventLoop):
    """Runs what is ready, of a process that is drawn; when nothing is, moves the time on."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.outside = Process("outside")
        self.current = self.outside
        self.turns = 0
        """Callbacks run so far."""
        self._random = random
        self._now = 0.0
        self._timers: list[tuple[float, int, events.TimerHandle, Process]] = []
        self._numbers = 0
        self._busy: list[Process] = []
        self._is_over = False
        self.processes: list[Process] = [self.outside]
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note)
        self.unhandled: list[dict[str, Any]] = []
        """What asyncio complained of: exceptions that nobody looked at."""

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def process(self, name: str) -> Process:
        """A new process."""
        made = Process(name)
        self.processes.append(made)
        return made

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` in ``process``."""
        caller, self.current = self.current, process
        try:
            # In a context of its own: processes share none.
            return self.create_task(work, context=Context())
        finally:
            self.current = caller

    def kill(self, process: Process) -> None:
        """End ``process`` where it stands. Harmless when it is dead."""
        if not process.is_alive:
            return
        process.is_alive = False
        process.ready.clear()
        if process in self._busy:
            self._busy.remove(process)
        for notice in process.at_death:
            notice()
        process.at_death.clear()

    def let_go(self) -> None:
        """Forget everything that was under way, and close: nothing has an effect from here on."""
        self._is_over = True
        for process in self.processes:
            self.kill(process)
            for task in process.tasks:
                task._log_destroy_pending = False
            process.tasks.clear()
        self._timers.clear()
        self._busy.clear()
        self.close()

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.Handle:
        """Schedule ``callback`` in the process of the task that it wakes, else in this one."""
        owner = getattr(callback, "__self__", None)
        process = owner.process if type(owner) is OwnedTask else self.current
        handle = events.Handle(callback, args, self, context)
        if process.is_alive and not self._is_over:
            if not process.ready:
                self._busy.append(process)
            process.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.Handle:
        """The same: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        """Schedule ``callback`` at a virtual time, in this process."""
        timer = events.TimerHandle(when, callback, args, self, context)
        if not self._is_over:
            self._numbers += 1
            heapq.heappush(self._timers, (when, self._numbers, timer, self.current))
        return timer

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Threads cannot be repeated."""
        raise AssertionError(f"a thread in the simulation: {func!r} {executor!r} {args!r}")

    def _make_task(self, _loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        self._numbers += 1
        return OwnedTask(work, self._numbers, self.current, loop=self, **more)

    def _run_once(self) -> None:
        for _ in range(_AT_ONCE):
            if self._stopping:
                return
            while not self._busy:
                self._move_on()
            self._run_one()
        if self.turns > _MOST_TURNS:
            raise Stuck

    def _run_one(self) -> None:
        busy = self._busy
        place = int(self._random.random() * len(busy)) if len(busy) > 1 else 0
        process = busy[place]
        handle = process.ready.popleft()
        if not process.ready:
            busy[place] = busy[-1]
            busy.pop()
        if handle._cancelled:
            return
        self.turns += 1
        self.current = process
        handle._run()
        self.current = self.outside
        if process.turns_left >= 0:
            process.turns_left -= 1
            if process.turns_left < 0:
                self.kill(process)

    def _move_on(self) -> None:
        """Let time pass until the next timer, and make what is due then ready."""
        timers = self._timers
        while timers and (timers[0][2]._cancelled or not timers[0][3].is_alive):
            heapq.heappop(timers)
        if not timers:
            raise Stuck
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            _, _, timer, process = heapq.heappop(timers)
            if not timer._cancelled and process.is_alive:
                if not process.ready:
                    self._busy.append(process)
                process.ready.append(timer)

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """Cancelled timers fall out when their time comes."""

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._is_over:
            self.unhandled.append(context)
