"""What the run and its processes share in memory: each one's clock, and where it is to die.

A mapped file, so that a process which is at work can be told without being asked: reading a byte
costs it nothing, and a frozen one needs no answer.
"""

from __future__ import annotations

import mmap
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

_SLOT_BYTES, _SLOTS = 64, 64
_CLOCK = struct.Struct("d")
_POINT = _CLOCK.size
"""Where a slot's byte with the number of its kill point lies; 0 is none."""
_LOOKS = struct.Struct("Q")
_LOOKED = 16
"""Where a slot's number lies of how often its process looked at its clock."""
_DYING = _POINT + 1
"""Where the process notes that it dies of it: its end is reported later."""


class Board:
    """A mapped file of slots, one for each process.

    Slot 0 belongs to all: its clock is added to each one's own.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SLOT_BYTES * _SLOTS))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SLOT_BYTES * _SLOTS)
        self.moved: list[float] = []
        """When clocks were moved by this process, by the machine's monotonic clock."""

    def ahead(self, slot: int) -> float:
        """Seconds that a slot's clock is ahead of the machine's."""
        (seconds,) = _CLOCK.unpack_from(self._memory, slot * _SLOT_BYTES)
        return float(seconds)

    def put_ahead(self, slot: int, seconds: float) -> None:
        """Move a slot's clock."""
        self.moved.append(time.monotonic())
        _CLOCK.pack_into(self._memory, slot * _SLOT_BYTES, seconds)

    def now(self, slot: int) -> datetime:
        """The wall clock of the process with that slot; of all, with 0."""
        own = self.ahead(slot) if slot else 0.0
        return datetime.now(UTC) + timedelta(seconds=self.ahead(0) + own)

    def look(self, slot: int) -> datetime:
        """As `now`; counted, for it is the process itself that asks."""
        _LOOKS.pack_into(self._memory, slot * _SLOT_BYTES + _LOOKED, self.looks(slot) + 1)
        return self.now(slot)

    def looks(self, slot: int) -> int:
        """How often the process with that slot looked at its clock."""
        (count,) = _LOOKS.unpack_from(self._memory, slot * _SLOT_BYTES + _LOOKED)
        return int(count)

    def armed(self, slot: int) -> int:
        """The number of the kill point at which the process is to die; 0 is none."""
        return self._memory[slot * _SLOT_BYTES + _POINT]

    def arm(self, slot: int, point: int) -> None:
        """Let the process die where ``point`` says, the next time that it gets there."""
        self._memory[slot * _SLOT_BYTES + _POINT] = point
        if point:
            self.forget_dying(slot)

    def note_dying(self, slot: int) -> None:
        """Tell that the process with that slot came to its kill point."""
        self._memory[slot * _SLOT_BYTES + _DYING] = 1

    def forget_dying(self, slot: int) -> None:
        """Another process has that slot now, or another point."""
        self._memory[slot * _SLOT_BYTES + _DYING] = 0

    def is_dying(self, slot: int) -> bool:
        """Whether it came there since it was armed."""
        return bool(self._memory[slot * _SLOT_BYTES + _DYING])
