"""Housekeeping: what is over is removed, at the start and every few minutes.

Every replica of the server does it; they find less to do, not the same. A database that cannot be
used only delays it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from antom_payments import instruments, telemetry
from antom_payments.errors import StoreUnavailable
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
_oldest_age = instruments.gauge(
    "antom_payments.log.oldest_age",
    "s",
    "Age of the oldest event kept, after the last pruning: much more than the retention is wrong.",
    alert="PruningStopped",
)


async def keep_house(
    retention: Retention, *, now: Callable[[], datetime], pause_seconds: float = _PAUSE_SECONDS
) -> None:
    """Prune until cancelled; survives outages."""
    failures = 0
    while True:
        try:
            await prune_once(retention, now=now)
            if failures:
                _log.info("pruning_works_again", failures=failures)
            failures = 0
        except StoreUnavailable:
            if not failures:
                _log.warning("pruning_failed", error=StoreUnavailable.__name__)
            failures += 1
        # Jittered: replicas that started together need not work together.
        await asyncio.sleep(random.uniform(pause_seconds / 2, pause_seconds))


async def prune_once(
    retention: Retention, *, now: Callable[[], datetime]
) -> tuple[Counter[Kind], Oldest]:
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
    _oldest_sequence.set(oldest.sequence)
    if oldest.append_time is not None:
        _oldest_age.set(max(0.0, (now() - oldest.append_time).total_seconds()))
        if removed[Kind.EVENTS]:
            _log.info(
                "log_begins",
                oldest_sequence=oldest.sequence,
                oldest_time=oldest.append_time.isoformat(),
            )
    return removed, oldest
