"""What an idle subscriber takes of the server's memory, against a bare stream."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from bench.rig import Rig, Served
from bench.rounds import Line, Sample, interleave
from databases import POSTGRES

SUBSCRIBERS = 2_000
FIRST = 50
"""Open before the first look: what all of them share is none of theirs."""
ROUNDS = 2
"""Each with a new server on both sides, as a process seldom gives memory back."""


async def measure(rig: Rig) -> list[Line]:
    """Subscribers of everything that have caught up."""
    count = rig.count(SUBSCRIBERS)
    line = Line(
        key="memory",
        title=f"Memory of an idle subscriber, of {count}",
        unit="KiB",
        less_is_better=True,
        ours="`serve`",
        peer="a bare grpc.aio stream",
        floor=0.5,
    )
    async with rig.fresh(POSTGRES) as url:
        return [
            await interleave(
                line,
                min(ROUNDS, rig.rounds),
                lambda: _grown(rig, rig.server(url), count),
                lambda: _grown(rig, rig.bare(), count),
            )
        ]


async def _grown(rig: Rig, server: AbstractAsyncContextManager[Served], count: int) -> Sample:
    async with server as served, rig.script("load") as first, rig.script("load") as load:
        await first.ask("subscribe", port=served.port, count=FIRST)
        before = served.process.resident_bytes()
        await load.ask("subscribe", port=served.port, count=count)
        return Sample((served.process.resident_bytes() - before) / count / 1024)
