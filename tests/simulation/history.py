"""What happened in a run, in order, and how often; one hash tells two runs apart."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from invariants import Violation

_FRAMES = 4


@dataclass
class History:
    """Lines of what happened, with its time, and counts of what is worth counting."""

    clock: Callable[[], float]
    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Something happened."""
        self.lines.append(f"{self.clock():11.3f}  {what}")

    def count(self, kind: str) -> None:
        """Something of this kind happened; also a line."""
        self.counts[kind] += 1
        self.note(kind)

    def violated(self, invariant: str, told: str) -> None:
        """Something must not have happened."""
        self.violations.append(Violation(invariant, told))
        self.note(f"VIOLATED {invariant}: {told}")

    @property
    def hash(self) -> str:
        """The same for the same lines."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]


def in_few_words(error: Exception) -> str:
    """What broke and where, innermost last, without the paths of a machine."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames]
    return f"{error!r:.300} at {', '.join(places)}"
