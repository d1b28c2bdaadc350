"""One process of the town: its starts, its kill points and its ends, asked for or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.board import Board
from chaos.failpoints import NUMBERS

PATIENCE = 60.0
"""For a process to start or end, or to be read: on a busy machine that takes long."""


class NotInjected(Exception):
    """A fault did not really happen."""


@dataclass
class Process:
    """One process after the other under one name, with a slot of the board."""

    name: str
    order: dict[str, Any]
    slot: int
    board: Board = field(repr=False)
    send: Callable[[Mapping[str, Any]], None] = field(repr=False)
    """Gives the forker an order."""
    pid: int = 0
    codes: list[int] = field(default_factory=list)
    """How it ended, each time."""
    starts: int = 0
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    unasked: list[str] = field(default_factory=list)
    """Ends that nobody asked for, until they are told."""
    _is_to_end: bool = False

    @property
    def log(self) -> Path:
        return Path(self.order["log"])

    @property
    def is_there(self) -> bool:
        """Whether its newest start has not ended."""
        return not self.has_ended.is_set()

    async def start(self) -> None:
        """Start it, and return when it serves. Raises AssertionError when it ends instead."""
        await self.launch()
        await self.until_ready()

    async def launch(self, *, is_to_end: bool = False, point: str = "") -> None:
        """Start it; with ``is_to_end`` it is right that it ends by itself.

        It is to die at ``point``, which is told before it is ordered: it may get there at once.
        """
        self.is_ready, self.has_ended = asyncio.Event(), asyncio.Event()
        self._is_to_end = is_to_end
        self.starts += 1
        self.board.forget_dying(self.slot)
        self.board.arm(self.slot, NUMBERS[point] if point else 0)
        self.send(self.order)

    async def until_ready(self) -> None:
        ready = asyncio.create_task(self.is_ready.wait())
        ended = asyncio.create_task(self.has_ended.wait())
        try:
            await asyncio.wait(
                {ready, ended}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
            ended.cancel()
        assert self.is_ready.is_set(), f"{self.name} did not start: {self.last_words()}"

    def arm(self, point: str) -> None:
        """Let it die at ``point``, the next time that it gets there."""
        self.board.arm(self.slot, NUMBERS[point])

    def note_end(self, code: int) -> None:
        """It ended with that exit code: told to, at its kill point, or by itself."""
        self.codes.append(code)
        is_killed = code == -signal.SIGKILL and self.board.is_dying(self.slot)
        if not (self._is_to_end or is_killed):
            self.unasked.append(f"{self.name} ended by itself, {code}: {self.last_words()}")
        self.has_ended.set()

    def signal(self, number: int) -> None:
        if self.is_there:
            self._is_to_end = self._is_to_end or number in {signal.SIGKILL, signal.SIGTERM}
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the exit code, negative for a signal. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self.has_ended.wait()
        return self.codes[-1]

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if await self.ended() != -signal.SIGKILL:
            raise NotInjected(f"{self.name} ended with {self.codes[-1]}")

    def last_words(self) -> str:
        return self.log.read_text()[-600:] if self.log.exists() else "nothing"
