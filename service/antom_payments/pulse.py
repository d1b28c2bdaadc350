"""The process's pulse: how late the event loop is, and readings that only the loop may take."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import metadata

from antom_payments import instruments
from antom_payments.fence import fenced
from antom_payments.instruments import Process, Reading

_SECONDS = 1.0

_lag = instruments.histogram(
    "antom_payments.event_loop.lag",
    "s",
    "How late the event loop runs what is due, looked at each second.",
    alert="EventLoopLag",
    process=Process.BOTH,
)
_ready = instruments.observed_gauge(
    "antom_payments.ready",
    "",
    "Whether the process can serve: 1, or 0 while its database is away and while it drains.",
    alert="NotReady",
    process=Process.BOTH,
)
_build = instruments.observed_gauge(
    "antom_payments.build.info",
    "",
    "Always 1; the labels say what runs.",
    labels={"version": "the release", "python_version": "Python's release"},
    process=Process.BOTH,
)


async def keep_pulse(
    process: Process,
    is_ready: Callable[[], bool],
    look: Callable[[], None] = lambda: None,
    *,
    seconds: float = _SECONDS,
) -> None:
    """Measure the loop until cancelled, and ``look`` each time; that one fails only for itself."""
    instruments.begin_at_zero(process)
    clock = asyncio.get_running_loop().time
    with ExitStack() as reading:
        reading.enter_context(_ready.read_from(lambda: [(float(is_ready()), {})]))
        reading.enter_context(_build.read_from(_what_runs))
        while True:
            due = clock() + seconds
            await asyncio.sleep(seconds)
            _lag.record(max(0.0, clock() - due))
            fenced(look)()


def _what_runs() -> Iterable[Reading]:
    yield (
        1.0,
        {
            "version": metadata.version("antom-payments"),
            "python_version": platform.python_version(),
        },
    )
