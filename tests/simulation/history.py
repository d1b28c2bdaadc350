"""What happened in a run, in order, and how often; one hash tells two runs apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from invariants import Violation


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
