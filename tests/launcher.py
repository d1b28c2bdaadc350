"""Talks to a script that forks processes of ours, one for each order, to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any


class Launcher:
    """The process that forks the others. It takes orders and reports, one JSON object a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def order(self, **order: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def report(self) -> dict[str, int]:
        assert self._process.stdout
        return json.loads(await self._process.stdout.readline())


@contextlib.asynccontextmanager
async def launching(script: Path) -> AsyncIterator[Launcher]:
    """The script, while the block runs; it ends with its input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Launcher(process)
    assert process.stdin
    process.stdin.close()
    assert await process.wait() == 0
