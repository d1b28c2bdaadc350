"""Servers and subscribers in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from processes import importing

HERE = Path(__file__).parent
PATIENCE = 90.0


class Process:
    """A script of this folder that is talked to in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    async def line(self) -> str:
        """What it prints next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the process ended"
        return line.decode().strip()

    async def ask(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await self.line()


@contextlib.asynccontextmanager
async def running(script: str, *arguments: str) -> AsyncIterator[Process]:
    """The script, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / script),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=importing(HERE.parent),
    )
    try:
        yield Process(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
