"""Leaves an Antom alone that does not answer, and finds out when it does again.

    CLOSED ── too much silence ──► OPEN ── its time is over ──► HALF_OPEN
       ▲                            ▲                             │    │
       │                            └─────── silence again ───────┘    │
       └───────────────────── one request was answered ────────────────┘

Only silence counts against Antom: no connection, a timeout, a cut, anything but HTTP 200. Every
answer that Antom signed counts for it, whatever it says: S, a decline, a refusal, and U. What
nobody or somebody else signed counts neither way: it is an operator's matter, which must not hide
behind "Antom cannot be reached".
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

_NEWEST = 100
"""So many outcomes are looked at, unless more failures than half of them are asked for."""
_PROBE_SECONDS = 1.0
"""Callers are asked to wait so long while a probe is out: nobody knows when it is answered."""


class BreakerState(StrEnum):
    """Whether Antom is asked."""

    CLOSED = "closed"
    """Yes."""
    OPEN = "open"
    """No."""
    HALF_OPEN = "half_open"
    """By one request at a time, until it is known."""


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a breaker opens, and for how long. Times in seconds.

    Attributes:
        failures: so many requests without an answer open it,
        window_seconds: when they ended within this time,
        failure_ratio: and were this part of all that ended in it, from 0 to 1.
        open_seconds: how long it stays open at first; doubled with each probe that fails,
        longest_open_seconds: up to this. Both are shortened at random by up to a half, so that
            replicas do not come back together.
        patience_seconds: a request that was given less than this, and had to end because of it,
            proves nothing: callers in a hurry must not shut Antom off for the others.
    """

    failures: int = 10
    window_seconds: float = 30.0
    failure_ratio: float = 0.5
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    patience_seconds: float = 3.0


class Attempt:
    """What became of one request; nothing yet, and nothing when it was abandoned."""

    was_heard: bool | None = None

    def answered(self) -> None:
        """Antom signed an answer."""
        self.was_heard = True

    def silent(self) -> None:
        """Nobody answered usefully."""
        self.was_heard = False


class Breaker:
    """One breaker. Ask `seconds_shut` first, then put the request into an `attempt`.

    Args:
        options: see `BreakerOptions`.
        changed: called with the old and the new state.
        clock: monotonic seconds.
        jitter: a random number between its two arguments.
    """

    def __init__(
        self,
        options: BreakerOptions,
        changed: Callable[[BreakerState, BreakerState], None] = lambda _old, _new: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.state = BreakerState.CLOSED
        """Open until somebody asks again, also when its time is over."""
        self._options = options
        self._changed = changed
        self._clock = clock
        self._jitter = jitter
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=max(_NEWEST, 2 * options.failures))
        self._open_until = 0.0
        self._openings = 0  # in a row
        self._changes = 0
        self._probe: Attempt | None = None

    def seconds_shut(self) -> float:
        """Seconds after which it helps to ask again; 0 when Antom may be asked now."""
        match self.state:
            case BreakerState.CLOSED:
                return 0.0
            case BreakerState.OPEN:
                return max(0.0, self._open_until - self._clock())
            case BreakerState.HALF_OPEN:
                return 0.0 if self._probe is None else _PROBE_SECONDS

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Judge Antom by the request that is made inside, which `seconds_shut` has allowed.

        A request that began before the state last changed says nothing about it any more. One that
        is cancelled or proves nothing gives the probe's place to the next.
        """
        attempt = Attempt()
        if self.state is BreakerState.OPEN:
            self._become(BreakerState.HALF_OPEN)
        if self.state is BreakerState.HALF_OPEN:
            self._probe = attempt
        began_in = self._changes
        try:
            yield attempt
        finally:
            if self._probe is attempt:
                self._probe = None
            if attempt.was_heard is not None and began_in == self._changes:
                self._judge(was_heard=attempt.was_heard)

    def end_wait(self) -> None:
        """Let the next request through as a probe: there is reason to believe that it works."""
        if self.state is BreakerState.OPEN:
            self._open_until = self._clock()

    def _judge(self, *, was_heard: bool) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self._close() if was_heard else self._open()
            return
        now = self._clock()
        self._outcomes.append((now, was_heard))
        if was_heard:
            return
        since = now - self._options.window_seconds
        outcomes = [heard for ended, heard in self._outcomes if ended >= since]
        failures = outcomes.count(False)
        enough = max(self._options.failures, self._options.failure_ratio * len(outcomes))
        if failures >= enough:
            self._open()

    def _open(self) -> None:
        options = self._options
        # Beyond 2**16 times it is the longest in any case; more would overflow a float.
        doubled = options.open_seconds * 2.0 ** min(self._openings, 16)
        longest = max(options.open_seconds, options.longest_open_seconds)
        seconds = min(doubled, longest)
        self._open_until = self._clock() + self._jitter(seconds / 2, seconds)
        self._openings += 1
        self._become(BreakerState.OPEN)

    def _close(self) -> None:
        self._openings = 0
        self._outcomes.clear()
        self._become(BreakerState.CLOSED)

    def _become(self, state: BreakerState) -> None:
        old, self.state = self.state, state
        self._changes += 1
        self._changed(old, state)
