"""kill -9 between verification and answer, then Antom's resend: exactly one event."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antom_payments.payment import PaymentState
from clock import FrozenClock
from keys import KeyPair
from launcher import Launcher, launching
from notifications.killed_sidecar import POINTS
from notifications.sidecars import CLIENT_ID, PATH, events_of, sample
from notifications.wire import ask, request


@pytest.fixture(scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    async with launching(Path(__file__).parent / "killed_sidecar.py") as launcher:
        yield launcher


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
