"""Hints between processes that the log has grown: PostgreSQL's NOTIFY and LISTEN.

Only hints: a reader that misses one finds the events at its next poll. NOTIFY never runs inside the
transaction that appends, because a transaction with a pending NOTIFY takes a cluster-wide lock when
it commits (measured: a fifth of the throughput is left), and it is coalesced: many appends, one
hint.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from sqlalchemy import text

from antom_payments import telemetry
from antom_payments.errors import StoreUnavailable
from antom_payments.store.database import WRITES, Database
from antom_payments.store.outages import in_our_words

_CHANNEL = "antom_payments_log"
_LEAST_PAUSE_SECONDS = 0.05
"""Between two hints of one process: what is appended meanwhile shares the next."""
_RECONNECT_SECONDS = 1.0
_HEARTBEAT_SECONDS = 20.0
"""A connection that the network forgot is as silent as one on which nothing happens."""

_log = telemetry.logger(__name__)


class Hints:
    """Sends hints of this process's appends, and hears those of others.

    SQLite has neither: its readers poll.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = asyncio.Event()

    def send(self) -> None:
        """Ask for a hint to other processes, soon."""
        self._wanted.set()

    @contextlib.asynccontextmanager
    async def running(self, heard: Callable[[], None] | None) -> AsyncIterator[None]:
        """Send while the block runs; with ``heard``, listen, too."""
        if self._database.is_sqlite:
            yield
            return
        tasks = [asyncio.create_task(self._keep_sending())]
        if heard is not None:
            tasks.append(asyncio.create_task(self._keep_listening(heard)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_sending(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                with in_our_words():
                    async with self._database.engine.begin() as connection:
                        # A hint may be lost; no subscriber shall wait for the disk once more.
                        await connection.execute(text("SET LOCAL synchronous_commit = off"))
                        await connection.execute(text(f"NOTIFY {_CHANNEL}"))
            except StoreUnavailable:
                _log.warning("log_hint_not_sent")
            await asyncio.sleep(_LEAST_PAUSE_SECONDS)

    async def _keep_listening(self, heard: Callable[[], None]) -> None:
        while True:
            try:
                with in_our_words():
                    await self._listen(heard)
            except StoreUnavailable:
                _log.warning("log_hints_not_heard")
            heard()  # whatever was said while nobody listened
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, heard: Callable[[], None]) -> None:
        """Listen on a connection of its own until it breaks.

        Not of the pool: a listener would survive its connection's return to it.
        """
        engine = self._database.unpooled()
        lost = asyncio.Event()

        def on_hint(*_arguments: Any) -> None:
            heard()

        def on_lost(_connection: Any) -> None:
            lost.set()

        try:
            async with engine.connect() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                driver.add_termination_listener(on_lost)
                await driver.add_listener(_CHANNEL, on_hint)
                heard()
                while not lost.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_HEARTBEAT_SECONDS):
                            await lost.wait()
                    # A server that was demoted answers, too, and hears of nothing any more.
                    await driver.execute(WRITES)
        finally:
            await engine.dispose()
