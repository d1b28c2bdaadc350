"""Where a follower's cursor survives a restart."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol


class CursorStore(Protocol):
    """Keeps one cursor of one follower with one filter.

    Better than any of these is the consumer's own database: write the cursor of a batch in the
    transaction that writes what the batch did, and nothing is ever done twice.
    """

    async def load(self) -> str:
        """The cursor saved last; empty when there is none."""

    async def save(self, cursor: str) -> None:
        """Keep ``cursor``. An older one in its place costs repeated events, never lost ones."""


class MemoryCursorStore:
    """Forgets with the process: for tests."""

    def __init__(self, cursor: str = "") -> None:
        self.cursor = cursor

    async def load(self) -> str:
        """The cursor saved last; empty when there is none."""
        return self.cursor

    async def save(self, cursor: str) -> None:
        """Keep ``cursor``."""
        self.cursor = cursor


class FileCursorStore:
    """A file that holds the cursor, replaced whole: a crash leaves the old one or the new one."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def load(self) -> str:
        """The cursor saved last; empty when there is no file. Raises OSError."""
        return await asyncio.to_thread(self._read)

    async def save(self, cursor: str) -> None:
        """Keep ``cursor`` on disk. Raises OSError."""
        await asyncio.to_thread(self._write, cursor)

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def _write(self, cursor: str) -> None:
        beside = self._path.with_name(f".{self._path.name}.new")
        with beside.open("w", encoding="ascii") as file:
            file.write(cursor + "\n")
            file.flush()
            # Without it a power cut may leave an empty file under the final name.
            os.fsync(file.fileno())
        beside.replace(self._path)
