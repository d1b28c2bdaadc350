"""How many events a subscriber that asked for a rate may get now. Pure."""

from __future__ import annotations

_PORTION_SECONDS = 0.1


class Allowance:
    """A token bucket: a second's worth may come at once after a pause.

    Times are in seconds, of a clock that does not go back.
    """

    def __init__(self, events_per_second: int, now: float) -> None:
        """Full at first; ``events_per_second`` is at least 1."""
        self._rate = events_per_second
        self._tokens = float(events_per_second)
        self._time = now

    def left(self, now: float) -> int:
        """How many may be sent now."""
        self._fill(now)
        return int(self._tokens)

    def spend(self, events: int, now: float) -> None:
        """So many are sent; at most as many as were left."""
        self._fill(now)
        self._tokens -= events

    def wait_seconds(self, now: float) -> float:
        """How long to wait before the next are sent; 0 when some may be sent now.

        Until a tenth of a second's worth is there: at high rates not each event a message.
        """
        self._fill(now)
        missing = max(1.0, self._rate * _PORTION_SECONDS) - self._tokens
        return max(0.0, missing / self._rate)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._rate, self._tokens + (now - self._time) * self._rate)
        self._time = now
