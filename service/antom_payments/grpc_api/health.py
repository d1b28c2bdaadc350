"""Health: liveness and readiness, apart.

"" says that the process is alive: nothing but a dead process fails it, because a restart mends
nothing else. "readiness" and the service's name say whether it can serve: the database, with
hysteresis. Antom fails neither: all replicas would drop out together, and reads and streams work
without it (ops G-61).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from antom_payments import telemetry
from antom_payments.grpc_api.servicer import SERVICE

READINESS = "readiness"
READY_NAMES = (READINESS, SERVICE)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """How readiness follows its check. Times in seconds."""

    interval_seconds: float = 2.0
    timeout_seconds: float = 2.0
    failures: int = 3
    """So many failed checks in a row before the service is not ready."""
    successes: int = 2
    """So many good ones in a row before it is ready again; the first time one is enough."""


class Health:
    """The health service of one server."""

    def __init__(self, check: Callable[[], Awaitable[None]], options: HealthOptions) -> None:
        """``check`` raises when the service cannot serve."""
        self._check = check
        self._options = options
        self._servicer = health.aio.HealthServicer()
        self._is_ready = False
        self._draining = asyncio.Event()
        self._needed = 1
        self._in_a_row = 0

    async def register(self, server: grpc.aio.Server) -> None:
        """Add the service to ``server``, not ready; before its port opens."""
        await self._tell(_NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    @property
    def is_ready(self) -> bool:
        """What readiness says."""
        return self._is_ready and not self._draining.is_set()

    async def follow(self) -> None:
        """Check again and again, until drained; a check that is under way is not cut short."""
        while not self._draining.is_set():
            await self.check_once()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.interval_seconds):
                    await self._draining.wait()

    async def check_once(self) -> None:
        """Check, and change readiness when enough checks in a row ask for it."""
        good = await self._is_good()
        if good is self._is_ready:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row >= self._needed:
            self._is_ready, self._in_a_row = good, 0
            self._needed = self._options.failures if good else self._options.successes
            (_log.info if good else _log.warning)("readiness_changed", ready=good)
            if not self._draining.is_set():
                await self._tell(_SERVING if good else _NOT_SERVING)

    async def drain(self) -> None:
        """Say "not ready" from now on; alive until the end.

        Under the service's name too, which callers watch: they must have left before the GOAWAY, or
        a call that comes as it goes out may end with CANCELLED (measured: 1 of 3,750).
        """
        self._draining.set()
        await self._tell(_NOT_SERVING)

    async def _is_good(self) -> bool:
        try:
            async with asyncio.timeout(self._options.timeout_seconds):
                await self._check()
        except Exception as error:  # noqa: BLE001 - whatever it is, we cannot serve
            _log.info("readiness_check_failed", exc_info=error)
            return False
        return True

    async def _tell(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in READY_NAMES:
            await self._servicer.set(name, status)
