"""What a reader was given, held against what was committed and acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class History:
    """Events as (sequence, event id): `delivered` in the order in which the reader got them."""

    delivered: list[tuple[int, str]] = field(default_factory=list)
    committed: Sequence[tuple[int, str]] = ()
    acknowledged: frozenset[str] = frozenset()

    @property
    def lost(self) -> int:
        """Committed, and never given to the reader."""
        return len(set(self.committed) - set(self.delivered))

    @property
    def out_of_order(self) -> int:
        """Given to the reader with a number that is not above the one before."""
        return sum(after[0] <= before[0] for before, after in pairwise(self.delivered))

    @property
    def twice(self) -> int:
        """Given to the reader again."""
        return sum(count - 1 for count in Counter(e for _, e in self.delivered).values())

    @property
    def invented(self) -> int:
        """Given to the reader, and never committed."""
        return len(set(self.delivered) - set(self.committed))

    @property
    def forgotten(self) -> int:
        """Acknowledged to a writer, and not in the log."""
        return len(self.acknowledged - {event_id for _, event_id in self.committed})

    @property
    def faults(self) -> dict[str, int]:
        """Everything that must not be, with how often it was."""
        names = ("lost", "out_of_order", "twice", "invented", "forgotten")
        return {name: count for name in names if (count := getattr(self, name))}
