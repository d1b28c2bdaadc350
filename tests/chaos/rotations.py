"""Keys that are exchanged with traffic flowing: a file first, then one process after the other.

Processes read their keys at their start, so that a rotation is a restart (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import partial

from antom_payments.client import PLAINTEXT, connect
from antom_payments.keygen import add_data_key
from chaos.accepted import BOTH, Accepted
from chaos.failpoints import KEYS_READ
from chaos.kills import Some
from chaos.process import NotInjected, Process
from chaos.scene import Fault, Scene

_ASKED_SECONDS = 30.0


def faults() -> list[Fault]:
    """Each leaves the newer keys where they are."""
    servers: Some = lambda town: town.servers  # noqa: E731 - as the table of `kills` has them
    sidecars: Some = lambda town: town.sidecars  # noqa: E731 - the same
    return [
        Fault("keys", "the merchant's key, server after server", merchant_key),
        Fault("keys", "the data key, process after process, and all rows", data_key),
        Fault("keys", "kill -9: a server that reads its keys", partial(dies_reading, servers)),
        Fault("keys", "kill -9: a sidecar that reads its keys", partial(dies_reading, sidecars)),
    ]


@contextlib.asynccontextmanager
async def merchant_key(scene: Scene) -> AsyncIterator[None]:
    """Antom accepts both until each server went to the other key; then the old one is dropped.

    What is signed with that from then on is answered with ANTOM_UNTRUSTED, which callers take for
    an answer that was spoilt: so each server is asked until it has a session with the other key.
    """
    town = scene.town
    accepted = Accepted(town.folder)
    accepted.put(BOTH)
    for server in town.servers:
        chosen = server.order["settings"]
        chosen["merchant_private_key_file"] = town.other_merchant_key(
            chosen["merchant_private_key_file"]
        )
        await _restarted([server])
        await scene.hold()
    newer = town.servers[0].order["settings"]["merchant_private_key_file"]
    accepted.put([int(newer.endswith("merchant_next"))])
    for server in town.servers:
        await _asks_antom(scene, server)
    yield


async def _asks_antom(scene: Scene, server: Process) -> None:
    """A session through this server; the campaign's own may take the other."""
    port = scene.town.roads[f"callers-{server.name}"].port
    async with connect(f"127.0.0.1:{port}", credentials=PLAINTEXT) as payments:
        alone = replace(scene.load, payments=payments)
        try:
            async with asyncio.timeout(_ASKED_SECONDS):
                name = f"rotated-{server.name}-{server.starts}-{len(scene.load.created)}"
                assert await alone._create(name, "CARD"), f"{server.name}: no session"
        except TimeoutError:
            refusals = dict(scene.load.refusals)
            raise AssertionError(
                f"{server.name}: no session with its new key: {refusals}"
            ) from None


@contextlib.asynccontextmanager
async def data_key(scene: Scene) -> AsyncIterator[None]:
    """As docs/operations.md says: a new first line, all restarted, then every row re-encrypted."""
    town = scene.town
    add_data_key(town.folder / "data_key_file")
    await _restarted([*town.servers, *town.sidecars])
    rotation = town.process("rotation", "rotate", settings=town.settings_of("server-0"))
    await rotation.launch()
    code = await rotation.ended()
    assert code == 0, f"the rotation ended with {code}: {rotation.last_words()}"
    yield


@contextlib.asynccontextmanager
async def dies_reading(which: Some, scene: Scene) -> AsyncIterator[None]:
    """A start that is cut off where the keys are read; the next one serves."""
    victim = scene.random.choice(which(scene.town))
    victim.signal(signal.SIGTERM)
    await victim.ended()
    await victim.launch(point=KEYS_READ)
    if (code := await victim.ended()) != -signal.SIGKILL:
        raise NotInjected(f"{victim.name} ended with {code}: {victim.last_words()}")
    yield
    await victim.start()


async def _restarted(processes: Iterable[Process]) -> None:
    """One after the other, each in its own way."""
    for process in processes:
        process.signal(signal.SIGTERM)
        code = await process.ended()
        await process.start()
        assert code == 0, f"{process.name} ended with {code} when told to go"
