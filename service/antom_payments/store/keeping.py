"""What Antom answered is not thrown away because the database is away for a moment."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from antom_payments.errors import StoreUnavailable

T = TypeVar("T")

_KEEP_SECONDS = 60.0
"""How long an answer is held in memory while the database cannot take it."""


async def kept(write: Callable[[], Awaitable[T]]) -> T:
    """Write what Antom answered, again and again while the database is away.

    Raises StoreUnavailable after a minute: any lease is long over then, and whoever repeats the
    call or the inquiry finds the answer at Antom.
    """
    give_up = time.monotonic() + _KEEP_SECONDS
    pause = 0.1
    while True:
        try:
            return await write()
        except StoreUnavailable:
            if time.monotonic() >= give_up:
                raise
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(pause * 2, 5.0)
