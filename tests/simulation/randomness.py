"""One seed for everything that is drawn: ids, nonces, jitter; nothing is left to chance."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest import mock

from antom_payments.event_stream import wake_ups


class _InOrder(dict[Any, None]):
    """A set in the order of its making: others are ordered by addresses in memory."""

    def add(self, one: Any) -> None:
        self[one] = None

    def discard(self, one: Any) -> None:
        self.pop(one, None)


@contextmanager
def seeded(seed: str, monotonic: Callable[[], float]) -> Iterator[None]:
    """Draw ids, nonces and jitter from ``seed``, and read ``monotonic`` as this process's clock.

    The product draws where it needs to and has no hook for tests: its sources of chance are the
    standard library's, and these are replaced while the block runs.
    """
    source = Random(f"chance {seed}")

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=source.getrandbits(128), version=4)

    kept = (uuid.uuid4, os.urandom, time.monotonic, time.time)
    state = random.getstate()
    random.seed(f"jitter {seed}")
    uuid.uuid4, os.urandom = uuid4, source.randbytes
    time.monotonic = time.time = monotonic
    try:
        with mock.patch.object(wake_ups, "set", _InOrder, create=True):
            yield
    finally:
        uuid.uuid4, os.urandom, time.monotonic, time.time = kept
        random.setstate(state)
