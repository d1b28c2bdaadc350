"""The sidecar as a process of its own, as operators run it, and what its process holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fuzz.campaign import resident_mb
from fuzz.sidecar_app import antom_signer
from fuzz.target import must
from notifications.sidecars import CLIENT_ID, PATH, sample
from notifications.wire import request
from processes import as_environment, running
from whole import settings


@dataclass
class SidecarProcess:
    """A running sidecar and its database."""

    pid: int
    port: int
    database: Path
    count: int = 0

    def notification(self) -> bytes:
        """A genuine notification that was never sent before, of a payment that nobody knows."""
        self.count += 1
        message = json.loads(sample("03")) | {"paymentId": f"P-{self.count}"}
        return self.signed(json.dumps(message).encode())

    def signed(self, body: bytes) -> bytes:
        """A genuine notification of that body, as it is sent."""
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        signature = antom_signer().signature_header("POST", PATH, time, body)
        headers = [("client-id", CLIENT_ID), ("request-time", time), ("signature", signature)]
        return request(body, headers=headers)

    def stored(self) -> int:
        """How many notifications the database holds, read on a connection of our own."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return int(connection.execute("SELECT count(*) FROM notifications").fetchone()[0])

    @property
    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def resident_mb(self) -> float:
        return resident_mb(self.pid)


@contextlib.asynccontextmanager
async def sidecar_process() -> AsyncIterator[SidecarProcess]:
    """Run `antom-payments notifications` on a new SQLite file."""
    with tempfile.TemporaryDirectory(prefix="antom-payments-fuzz-") as place:
        chosen = settings(Path(place))
        async with running("notifications", settings=as_environment(chosen)) as process:
            told = json.loads(await process.line_with("notifications_serving"))
            # A pipe that nobody reads would stop the sidecar at its next line.
            reading = asyncio.create_task(_read_away(process.process))
            pid, database = process.process.pid, Path(place) / "payments.db"
            yield SidecarProcess(pid, told["port"], database)
            must(process.process.returncode is None, "the sidecar ended")
            process.process.send_signal(signal.SIGTERM)
            await reading
            await process.process.wait()


async def _read_away(process: asyncio.subprocess.Process) -> None:
    assert process.stdout
    while await process.stdout.read(1 << 16):
        pass
