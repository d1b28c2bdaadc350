"""Who asked Antom for which session, and when: one id is asked for by one server at a time.

Antom's own books cannot tell, for it gives one payment to all who ask with one id.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

LEASED_SECONDS = 3.0
"""What a call to Antom may take in the town, which its lease outlasts."""


@dataclass(frozen=True, order=True)
class Ask:
    """One request for a session, by the machine's monotonic clock, which all processes share."""

    began: float
    ended: float
    who: str
    ahead: float
    """How far the process's wall clock was ahead at its beginning: leases are kept by that."""


class Asks:
    """A file of the town's folder for each process; one that dies in a call leaves none of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def noted(self, who: str, payment_request_id: str, ahead: float) -> Iterator[None]:
        """Note the call that is made in the block, once it is over."""
        began = time.monotonic()
        try:
            yield
        finally:
            line = f"{payment_request_id} {began} {time.monotonic()} {ahead}\n"
            with (self._folder / f"{who}.asks").open("a") as file:
                file.write(line)

    def wrong(self, moved: Sequence[float]) -> list[str]:
        """Calls for one id at the same time, while no clock was ``moved`` and no lease was over."""
        return [
            f"I5: {payment_request_id} was asked for by {one.who} and {other.who} at the same time"
            for payment_request_id, asks in self._of_ids().items()
            for one, other in combinations(sorted(asks), 2)
            if one.ahead == other.ahead
            and other.began < min(one.ended, one.began + LEASED_SECONDS)
            # The lease of the first was taken shortly before it asked.
            and not any(one.began - LEASED_SECONDS < time < other.began for time in moved)
        ]

    def counts(self) -> dict[str, int]:
        """How many calls were noted, and for how many ids Antom was asked more than once."""
        asks = self._of_ids().values()
        return {"all": sum(map(len, asks)), "ids asked for again": sum(len(a) > 1 for a in asks)}

    def _of_ids(self) -> dict[str, list[Ask]]:
        of_ids: dict[str, list[Ask]] = defaultdict(list)
        for path in self._folder.glob("*.asks"):
            for line in path.read_text().splitlines():
                payment_request_id, began, ended, ahead = line.split()
                ask = Ask(float(began), float(ended), path.stem, float(ahead))
                of_ids[payment_request_id].append(ask)
        return of_ids
