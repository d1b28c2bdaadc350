"""Clocks that are wrong, and that jump. PostgreSQL keeps the machine's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from chaos.kills import Some
from chaos.scene import Fault, Scene

_SKEW_SECONDS = 240.0
"""A minute less than what sidecars allow."""


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
    scene.town.board.put_ahead(one.slot, ahead)
    try:
        await scene.hold(0.5, 1.5)
        yield
    finally:
        scene.town.board.put_ahead(one.slot, 0)


@contextlib.asynccontextmanager
async def leap(scene: Scene) -> AsyncIterator[None]:
    scene.town.pass_time(3600)
    yield
