"""Processes of a measurement: pinned to cores, asked in lines of JSON, and looked at in /proc."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds after which a process is taken for stuck."""
_TICKS = os.sysconf("SC_CLK_TCK")


class OperationFailed(Exception):
    """A measured operation went wrong: the figures would be of something else."""


@dataclass
class Child:
    """A process, and what it says."""

    process: asyncio.subprocess.Process
    complaints: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    """The last lines of its stderr."""

    async def ask(self, do: str, **fields: Any) -> Any:
        """What it answers to a command. Raises OperationFailed when it could not do it."""
        self.tell(do, **fields)
        return await self.answer()

    def tell(self, do: str, **fields: Any) -> None:
        """Give a command whose `answer` is taken later."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do} | fields).encode() + b"\n")

    async def answer(self) -> Any:
        """What it answers to the oldest command that was told."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        if not line:
            raise OperationFailed("\n".join(["a process ended", *self.complaints]))
        answer = json.loads(line)
        if isinstance(answer, dict) and "failed" in answer:
            raise OperationFailed(answer["failed"])
        return answer

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for a log line of the service."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stderr.readline()).decode():
                self.complaints.append(line)
                with contextlib.suppress(ValueError):
                    told: dict[str, Any] = json.loads(line)
                    if told.get("event") == event:
                        return told
        raise OperationFailed("\n".join([f"ended without {event}", *self.complaints]))

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / _TICKS

    def resident_bytes(self) -> int:
        """What it has in memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def listen(self) -> None:
        """Keep its stderr flowing: a full pipe would stop it."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.complaints.append(line.decode())


@contextlib.asynccontextmanager
async def running(
    command: tuple[str, ...], cores: set[int], environment: Mapping[str, str], *, says: str = ""
) -> AsyncIterator[tuple[Child, dict[str, Any]]]:
    """Run a command on these cores until the block ends; it is killed then.

    With ``says``, wait for that event in its log; yields its fields with the process.
    """
    with _pinned(cores):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=1 << 24,
        )
    child = Child(process)
    listening: asyncio.Task[None] | None = None
    try:
        told = await child.logged(says) if says else {}
        listening = asyncio.create_task(child.listen())
        yield child, told
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if listening is not None:
            await listening


def module(name: str) -> tuple[str, ...]:
    """The command that runs a module of this folder."""
    return (sys.executable, "-m", f"bench.{name}")


@contextlib.contextmanager
def _pinned(cores: set[int]) -> Iterator[None]:
    """What is started in the block runs on these cores: a process inherits its parent's."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
