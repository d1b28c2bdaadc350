"""Housekeeping: what is over is removed, at the start and every few minutes.

Every replica of the server does it; they find less to do, not the same. A database that cannot be
used only delays it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime

from antom_payments import instruments, telemetry
from antom_payments.errors import StoreUnavailable
from antom_payments.instruments import Reading
from antom_payments.store import Kind, Oldest, Retention

_PAUSE_SECONDS = 300.0
_log = telemetry.logger(__name__)
_pruned = instruments.counter(
    "antom_payments.pruned",
    "{row}",
    "Rows removed because their time is over, by kind.",
    labels={"kind": list(Kind)},
)
_oldest_sequence = instruments.gauge(
    "antom_payments.log.oldest_sequence", "", "Sequence of the oldest event kept."
)
_oldest_age = instruments.observed_gauge(
    "antom_payments.log.oldest_age",
    "s",
    "Age of the oldest event kept: much more than the retention is wrong.",
    alert="PruningStopped",
)


async def keep_house(
    retention: Retention, *, now: Callable[[], datetime], pause_seconds: float = _PAUSE_SECONDS
) -> None:
    """Prune until cancelled; survives outages."""
    failures = 0
    beginning = _Beginning(now)
    with _oldest_age.read_from(beginning.age):
        while True:
            try:
                await prune_once(retention)
                if failures:
                    _log.info("pruning_works_again", failures=failures)
                failures = 0
            except StoreUnavailable:
                if not failures:
                    _log.warning("pruning_failed", error=StoreUnavailable.__name__)
                failures += 1
            with contextlib.suppress(StoreUnavailable):
                # Also when nothing could be pruned: then it matters.
                beginning.note(await retention.oldest())
            # Jittered: replicas that started together need not work together.
            await asyncio.sleep(random.uniform(pause_seconds / 2, pause_seconds))


class _Beginning:
    """Where the log began when last looked; its age goes on while nobody can look."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._time: datetime | None = None

    def note(self, oldest: Oldest) -> None:
        """It begins there now."""
        _oldest_sequence.set(oldest.sequence)
        self._time = oldest.append_time

    def age(self) -> Iterable[Reading]:
        """How old that event is; nothing of an empty log."""
        if self._time is not None:
            yield max(0.0, (self._now() - self._time).total_seconds()), {}


async def prune_once(retention: Retention) -> tuple[Counter[Kind], Oldest]:
    """Remove what is over; how many rows of each kind, and the oldest event kept.

    Counted batch by batch: what was removed before a failure is counted too. Raises
    StoreUnavailable.
    """
    removed: Counter[Kind] = Counter()
    try:
        async for kind, rows in retention.prune():
            removed[kind] += rows
            _pruned.add(rows, {"kind": kind.value})
        oldest = await retention.oldest()
    finally:
        if removed:
            _log.info("pruned", **{kind.value: rows for kind, rows in removed.items()})
    if oldest.append_time is not None and removed[Kind.EVENTS]:
        _log.info(
            "log_begins",
            oldest_sequence=oldest.sequence,
            oldest_time=oldest.append_time.isoformat(),
        )
    return removed, oldest
