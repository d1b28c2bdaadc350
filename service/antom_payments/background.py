"""Work beside the rest of a process, and the signal to stop it all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine

from antom_payments import telemetry

_log = telemetry.logger(__name__)


@contextlib.asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``work`` beside the block. When it ends by itself, which it should not, we stop."""
    task = asyncio.create_task(work)
    task.add_done_callback(_stop_if_broken)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _stop_if_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        _log.error("background_work_ended", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
