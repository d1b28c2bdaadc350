"""How long to wait before a stream is opened again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: the n-th wait is anything up to ``first * 2**n``.

    Full jitter spreads the subscribers of a server that restarted. A stream that was healthy for
    ``healthy_seconds`` starts the count again.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    healthy_seconds: float = 60.0
    random: Callable[[], float] = random.random
    """Uniform in [0, 1)."""
    clock: Callable[[], float] = time.monotonic
    """Monotonic seconds."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def seconds(self, attempt: int, *, at_least: float | None) -> float:
        """The wait before ``attempt`` (0 for the first), never less than the service asked for."""
        # 2**16 times any sensible first wait is beyond the longest; more would overflow a float.
        ceiling = min(self.longest_seconds, self.first_seconds * 2.0 ** min(attempt, 16))
        return max(at_least or 0.0, self.random() * ceiling)
