"""Clocks that are wrong, and that jump. PostgreSQL keeps the machine's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import asyncpg

from antom_payments.fact import OUTSIDE_WINDOW
from chaos.kills import Some
from chaos.process import NotInjected, Process
from chaos.scene import Fault, Scene

_SKEW_SECONDS = 240.0
"""A minute less than what sidecars allow."""
_WINDOW_SECONDS = 25 * 3600.0
"""News that is older than this by a sidecar's clock is held back."""
_FELT_SECONDS = 20.0
_SOME_LOOKS = 5
_HELD_BACK = f"SELECT count(*) FROM notifications WHERE reason = '{OUTSIDE_WINDOW}'"


def faults() -> list[Fault]:
    """Of a server, of a sidecar, and of all."""
    some: dict[str, Some] = {
        "a server": lambda town: town.servers,
        "a sidecar": lambda town: town.sidecars,
    }
    skews = {
        f"{name}'s clock {ahead:+.0f} s": partial(skewed, which, ahead)
        for name, which in some.items()
        for ahead in (_SKEW_SECONDS, -_SKEW_SECONDS)
    }
    skews["a server's clock +1 hour"] = partial(skewed, some["a server"], 3600.0)
    skews["a sidecar's clock +26 hours"] = partial(skewed, some["a sidecar"], 26 * 3600.0)
    skews["all clocks leap by an hour"] = leap
    return [Fault("clock", name, inject) for name, inject in skews.items()]


@contextlib.asynccontextmanager
async def skewed(which: Some, ahead: float, scene: Scene) -> AsyncIterator[None]:
    one = scene.random.choice(which(scene.town))
    is_beyond = abs(ahead) > _WINDOW_SECONDS
    try:
        async with _news_held_back(scene) if is_beyond else contextlib.nullcontext():
            scene.town.board.put_ahead(one.slot, ahead)
            await _looked(scene, [one])
            await scene.hold(0.5, 1.5)
        yield
    finally:
        scene.town.board.put_ahead(one.slot, 0)


@contextlib.asynccontextmanager
async def leap(scene: Scene) -> AsyncIterator[None]:
    scene.town.pass_time(3600)
    await _looked(scene, [*scene.town.servers, *scene.town.sidecars, scene.town.emulator])
    yield


async def _looked(scene: Scene, processes: list[Process]) -> None:
    """Wait until each has taken the time some more times. Raises NotInjected."""
    board = scene.town.board
    before = {one.slot: board.looks(one.slot) for one in processes}
    try:
        async with asyncio.timeout(_FELT_SECONDS):
            while any(board.looks(slot) < n + _SOME_LOOKS for slot, n in before.items()):  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise NotInjected("somebody took no time") from None


@contextlib.asynccontextmanager
async def _news_held_back(scene: Scene) -> AsyncIterator[None]:
    """Wait until news is too old for the clock that is wrong. Raises NotInjected."""
    connection = await asyncpg.connect(scene.town.cluster.url)
    try:
        before = await connection.fetchval(_HELD_BACK)
        yield
        async with asyncio.timeout(_FELT_SECONDS):
            while await connection.fetchval(_HELD_BACK) == before:  # noqa: ASYNC110 - PostgreSQL tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise NotInjected("no news was held back") from None
    finally:
        connection.terminate()
