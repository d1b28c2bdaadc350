"""What a fault has at hand, and what a fault is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from random import Random

from antom_payments.client import Payments
from chaos.load import Load
from chaos.subscribers import Subscriber
from chaos.town import Town
from chaos.watch import Watch


@dataclass
class Scene:
    """The town at work, and the run's own luck."""

    town: Town
    load: Load
    payments: Payments
    followers: list[Subscriber]
    random: Random
    watch: Watch = field(default_factory=Watch)

    async def hold(self, least: float = 0.2, most: float = 1.0) -> None:
        """Leave it as it is for a while."""
        await asyncio.sleep(self.random.uniform(least, most))


Inject = Callable[[Scene], AbstractAsyncContextManager[None]]
"""Entering does the harm and holds it, leaving heals; raises NotInjected."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and is mended."""

    group: str
    name: str
    inject: Inject
