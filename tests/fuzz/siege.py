"""Thousands of connections that ask for nothing, slowly: genuine notifications get through."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from random import Random

from fuzz.sidecar_process import SidecarProcess, sidecar_process
from fuzz.target import Input, Kind, Target, must, nothing_more
from notifications.sidecars import ACKNOWLEDGEMENT
from notifications.wire import Wire, ask, request

CONNECTIONS = 2_000
IN_TIME_SECONDS = 10.0
"""Antom waits so long for its acknowledgement, at least: it does not say (antom-api 4.1)."""
MOST_GROWTH_MB = 50.0
_A_GENUINE_ONE_EVERY = 50
_ROUNDS = 4
_SPARE_FILES = 8

_OPENINGS = (
    b"",
    b"POST /antom/notify HTTP/1.1\r\nhost: merchant.exa",
    b"POST /antom/notify HTTP/1.1\r\n" + b"".join(b"h%d: v\r\n" % n for n in range(40)),
    request(b"x" * 60_000)[:-1],
    request(headers=[("transfer-encoding", "chunked")], framed=False) + b"ffff\r\nhello",
    request(b"{}"),  # answered 401, and then idle
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
_DRIPS = (b"", b"a", b"h: v\r\n", b"x", b"x", b"", b"\x00")


def make(_: Random) -> Input:
    """The whole siege is one input."""
    return {"connections": CONNECTIONS, "in_time_seconds": IN_TIME_SECONDS}


class Siege:
    """A crowd in front of one sidecar."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._sidecar = sidecar
        self._acknowledged = 0
        self._patience = IN_TIME_SECONDS

    async def check(self, given: Input) -> str:
        """Lay siege, deliver all the while, and lift it."""
        self._patience = given["in_time_seconds"]
        for _ in range(20):
            await self._deliver()
        memory, files = self._sidecar.resident_mb, self._sidecar.open_files
        crowd: list[Wire] = []
        try:
            for number in range(given["connections"]):
                crowd.append(await Wire.connect(self._sidecar.port))
                crowd[-1].send(_OPENINGS[number % len(_OPENINGS)])
                if number % _A_GENUINE_ONE_EVERY == 0:
                    await self._deliver()
            for _ in range(_ROUNDS):
                for number, wire in enumerate(crowd):
                    if not wire.writer.is_closing():
                        wire.send(_DRIPS[number % len(_DRIPS)])
                await self._deliver()
            growth = self._sidecar.resident_mb - memory
        finally:
            for wire in crowd:
                wire.writer.transport.abort()
        must(growth < MOST_GROWTH_MB, f"the sidecar grew by {growth:.0f} MB")
        await self._files_are_back(files)
        await self._deliver()
        must(self._sidecar.stored() == self._acknowledged, "acknowledged and not stored")
        return "accepted: every genuine one, in time"

    async def _deliver(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                answer = await ask(self._sidecar.port, self._sidecar.notification())
        except (TimeoutError, OSError) as fault:
            must(False, f"a genuine notification got {type(fault).__name__}")
        must(
            answer and (answer.status, answer.body) == (200, ACKNOWLEDGEMENT),
            f"a genuine notification got {answer.status if answer else 'no answer'}",
        )
        self._acknowledged += 1

    async def _files_are_back(self, before: int) -> None:
        """Wait until the crowd's descriptors are released."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while self._sidecar.open_files > before + _SPARE_FILES:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
        left = self._sidecar.open_files - before
        must(left <= _SPARE_FILES, f"{left} descriptors were not released")


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The sidecar as a process, and descriptors for the crowd."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        async with sidecar_process() as sidecar:
            yield Target(make, Siege(sidecar).check, nothing_more, sidecar.pid)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


KIND = Kind("siege", opened, is_timed=True)
