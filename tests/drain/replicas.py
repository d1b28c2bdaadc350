"""Replicas of `antom-payments serve` on one database, each on a port of its own that it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from antom.wires import free_port
from processes import environment

PATIENCE = 60.0


@dataclass
class Replica:
    """One process after the other on one port."""

    settings: Mapping[str, object]
    log: Path
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and return when it is ready."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "antom_payments", "serve"),
                env=environment({**self.settings, "grpc_address": f"127.0.0.1:{self.port}"}),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        quick = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 100),
        ]
        async with (
            asyncio.timeout(PATIENCE),
            grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=quick) as channel,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="readiness"), wait_for_ready=True
            )
            async for told in watch:
                if told.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    async def stop(self) -> tuple[int, float]:
        """Send SIGTERM; the exit code, and the seconds that it took."""
        assert self.process
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
        return code, loop.time() - began


@contextlib.asynccontextmanager
async def running(
    count: int, settings: Mapping[str, object], folder: Path
) -> AsyncIterator[list[Replica]]:
    """So many replicas, ready; killed when the block ends."""
    replicas = [Replica(settings, folder / f"replica-{n}.log") for n in range(count)]
    try:
        await asyncio.gather(*[replica.start() for replica in replicas])
        yield replicas
    finally:
        for replica in replicas:
            if replica.process and replica.process.returncode is None:
                replica.process.kill()
                await replica.process.wait()
