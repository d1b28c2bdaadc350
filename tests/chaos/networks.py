"""Roads that are cut, closed, frozen, half open, open one way, or long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial

from chaos.process import NotInjected
from chaos.scene import Fault, Scene
from database_proxy import DatabaseProxy

Harm = Callable[[DatabaseProxy, Scene], AbstractAsyncContextManager[None]]

_FELT_SECONDS = 20.0
_ROADS = {
    "server and PostgreSQL": ("database-server-0", "database-server-1"),
    "sidecar and PostgreSQL": ("database-sidecar-0", "database-sidecar-1"),
    "servers and Antom": ("antom",),
    "Antom and sidecars": ("notifications",),
    "callers and server": ("callers-server-0", "callers-server-1"),
}


def faults() -> list[Fault]:
    """Each way of each road."""
    return [
        Fault("network", f"{between}: {way}", partial(_on_one_of, names, harm))
        for between, names in _ROADS.items()
        for way, harm in _WAYS.items()
    ] + [Fault("network", "everybody and PostgreSQL: 50 ms a piece", everything_slow)]


@contextlib.asynccontextmanager
async def _cut(road: DatabaseProxy, _: Scene) -> AsyncIterator[None]:
    await _connected(road)
    road.cut()
    yield


@contextlib.asynccontextmanager
async def _refused(road: DatabaseProxy, scene: Scene) -> AsyncIterator[None]:
    await _connected(road)
    road.refuse()
    await scene.hold(0.3, 1.5)
    yield
    await road.accept()


@contextlib.asynccontextmanager
async def _frozen(road: DatabaseProxy, scene: Scene, *directions: str) -> AsyncIterator[None]:
    felt = road.held
    road.freeze(*directions)
    try:
        await _held(road, felt)
        await scene.hold(0.5, 2.5)
        yield
    finally:
        road.thaw()


@contextlib.asynccontextmanager
async def _half_open(road: DatabaseProxy, scene: Scene) -> AsyncIterator[None]:
    """Whoever was connected never hears of it again, and is not told."""
    await _connected(road)
    felt = road.held

    def is_felt() -> bool:
        # Those who were connected may have nothing more to say: whoever came since is taken, too.
        road.freeze_open()
        return road.held > felt

    await _until(is_felt, "nobody felt it")
    await scene.hold(0.5, 2.5)
    yield
    # A router that comes back knows nothing of the connections from before.
    road.cut()


@contextlib.asynccontextmanager
async def _slow(road: DatabaseProxy, scene: Scene) -> AsyncIterator[None]:
    felt = road.held
    road.delay_seconds = scene.random.uniform(0.05, 0.25)
    try:
        await _held(road, felt)
        await scene.hold(0.5, 1.5)
        yield
    finally:
        road.delay_seconds = 0


_WAYS: Mapping[str, Harm] = {
    "cut": _cut,
    "refused": _refused,
    "frozen": _frozen,
    "requests lost": lambda road, scene: _frozen(road, scene, "request"),
    "answers lost": lambda road, scene: _frozen(road, scene, "answer"),
    "half open": _half_open,
    "slow": _slow,
}


@contextlib.asynccontextmanager
async def _on_one_of(names: tuple[str, ...], harm: Harm, scene: Scene) -> AsyncIterator[None]:
    road = scene.town.roads[scene.random.choice(names)]
    async with harm(road, scene):
        yield


@contextlib.asynccontextmanager
async def everything_slow(scene: Scene) -> AsyncIterator[None]:
    roads = [road for name, road in scene.town.roads.items() if name.startswith("database")]
    felt = [road.held for road in roads]
    for road in roads:
        road.delay_seconds = 0.05
    try:
        await asyncio.gather(*(_held(road, n) for road, n in zip(roads, felt, strict=True)))
        await scene.hold(1, 2)
        yield
    finally:
        for road in roads:
            road.delay_seconds = 0


async def _connected(road: DatabaseProxy) -> None:
    """Wait until there is something to cut. Raises NotInjected."""
    await _until(lambda: road.open_ends > 0, "nobody was connected")


async def _held(road: DatabaseProxy, before: int) -> None:
    """Wait until somebody feels it. Raises NotInjected."""
    await _until(lambda: road.held > before, "nobody felt it")


async def _until(happens: Callable[[], bool], otherwise: str) -> None:
    try:
        async with asyncio.timeout(_FELT_SECONDS):
            while not happens():  # noqa: ASYNC110 - counts of a proxy have no event of their own
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise NotInjected(otherwise) from None
