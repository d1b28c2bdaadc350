"""kill -9 between verification and answer, then Antom's resend: exactly one event."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antom_payments.payment import PaymentState
from clock import FrozenClock
from keys import KeyPair
from notifications.killed_sidecar import POINTS
from notifications.sidecars import CLIENT_ID, PATH, events_of, sample
from notifications.wire import ask, request

LAUNCHER = Path(__file__).parent / "killed_sidecar.py"


class Launcher:
    """The process that forks sidecars."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def order(self, **order: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def report(self) -> dict[str, int]:
        assert self._process.stdout
        return json.loads(await self._process.stdout.readline())


@pytest.fixture(scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        LAUNCHER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Launcher(process)
    assert process.stdin
    process.stdin.close()
    assert await process.wait() == 0


@pytest.fixture
def order(
    database_url: str, data_key: str, antom_keys: KeyPair, clock: FrozenClock
) -> dict[str, str]:
    """What a sidecar on the test's database is started with."""
    return {
        "database_url": database_url,
        "data_key": data_key,
        "public_key": antom_keys.public,
        "client_id": CLIENT_ID,
        "path": PATH,
        "now": clock.now().isoformat(),
    }


@pytest.mark.usefixtures("payment")
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_sidecar_loses_nothing_and_doubles_nothing(
    launcher, order, sidecar, store, point
):
    launcher.order(**order, point=point)
    port = (await launcher.report())["port"]
    notification = request(sample("03"), headers=sidecar.antom.headers(sample("03")))
    assert await ask(port, notification) is None, "it was acknowledged"
    assert await launcher.report() == {"signal": signal.SIGKILL}
    was_committed = point == "committed"
    assert len(await events_of(store)) == (2 if was_committed else 1)

    resent = await ask(sidecar.port, notification)
    assert resent.status == 200
    [_, event] = await events_of(store)
    assert event.payment.state is PaymentState.AUTHORIZED
    expected = "duplicate" if was_committed else "accepted"
    assert sidecar.metrics.outcomes() == {expected: 1}
