"""What was told, and is owed since: a restore takes only what was first told after its dump."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class Owed(dict[T, float]):
    """Things, and when each was told first: it was stored by then."""

    def owe(self, one: T, now: float) -> None:
        """Somebody was told, at ``now``; once more changes nothing."""
        self.setdefault(one, now)

    def take_back(self, dump_time: float) -> None:
        """A restore to a dump of that time: the operator's loss."""
        for one in [one for one, first in self.items() if first >= dump_time]:
            del self[one]
