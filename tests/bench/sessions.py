"""CreateSession, against the same server around the official SDK."""

from __future__ import annotations

import itertools

from bench.child import OperationFailed
from bench.rig import Rig, Served, measured
from bench.rounds import Line, Sample, interleave
from databases import POSTGRES

OURS, THEIRS = 600, 40
"""Sessions of a round."""
IN_FLIGHT = 32
THREADS = 8
"""Of the SDK's side: it spends its time on the processor, so that more of them gain nothing."""


async def measure(rig: Rig) -> list[Line]:
    """Both store the intent, the session and an event; only the client to Antom differs."""
    line = Line(
        key="create_session",
        title=f"CreateSession, {IN_FLIGHT} in flight",
        unit="sessions/s",
        ours="`serve` on PostgreSQL: intent, session and event are committed",
        peer=f"the same, around the official SDK in {THREADS} threads instead of our client",
        floor=10,
    )
    runs = itertools.count()
    async with (
        rig.fresh(POSTGRES) as our_url,
        rig.fresh(POSTGRES) as their_url,
        rig.gateway() as antom,
        rig.server(our_url, antom.port) as ours,
        rig.official_server(their_url, antom.port, THREADS) as theirs,
        rig.script("load") as load,
    ):

        async def create(served: Served, count: int) -> Sample:
            sample = await measured(
                served,
                count,
                load.ask(
                    "create_sessions",
                    port=served.port,
                    prefix=f"bench-{next(runs)}",
                    count=count,
                    in_flight=min(IN_FLIGHT, count),
                ),
            )
            if (asked := await antom.process.ask("count")) != count:
                raise OperationFailed(f"{count} sessions, but Antom was asked {asked} times")
            return sample

        for served in (ours, theirs):
            await create(served, min(IN_FLIGHT, rig.count(IN_FLIGHT)))
        return [
            await interleave(
                line,
                rig.rounds,
                lambda: create(ours, rig.count(OURS)),
                lambda: create(theirs, rig.count(THEIRS)),
            )
        ]
