"""Notifications committed and acknowledged, against one transaction for each."""

from __future__ import annotations

import itertools

from bench.rig import Rig, Served, begin_payments, measured
from bench.rounds import Line, Sample, interleave
from databases import POSTGRES, SQLITE

IN_FLIGHT = 64
PAYMENTS = {POSTGRES: (400, 150), SQLITE: (400, 60)}
"""Whose two notifications each are a round: of ours, and of the peer."""


async def measure(rig: Rig) -> list[Line]:
    """Signed notifications, over HTTP; each must be acknowledged in Antom's very words."""
    return [
        await _on(rig, POSTGRES, "PostgreSQL"),
        await _on(rig, SQLITE, "SQLite"),
    ]


async def _on(rig: Rig, kind: str, name: str) -> Line:
    line = Line(
        key=f"notifications_{kind}",
        title=f"Notifications, {IN_FLIGHT} in flight, {name}",
        unit="notifications/s",
        ours="the sidecar: committed in groups, then acknowledged",
        peer="the same sidecar with one transaction for each notification",
        floor=3,
    )
    runs = itertools.count()
    async with (
        rig.fresh(kind) as url,
        rig.sidecar(url) as ours,
        rig.sidecar(url, one_each=True) as one_each,
        rig.script("load") as load,
        rig.store(url) as store,
    ):

        async def notify(served: Served, payments: int) -> Sample:
            run = next(runs)
            names = [f"bench-{run}-{number}" for number in range(payments)]
            await begin_payments(store, names)
            count = await load.ask("sign", names=names)
            work = load.ask("notify", port=served.port, in_flight=min(IN_FLIGHT, count))
            before = (await store.log.bounds())[1]
            sample = await measured(served, count, work)
            events = (await store.log.bounds())[1] - before
            if events != count:
                raise AssertionError(f"{count} notifications made {events} events")
            return sample

        for served in (ours, one_each):
            await notify(served, rig.count(20))
        mine, theirs = PAYMENTS[kind]
        return await interleave(
            line,
            rig.rounds,
            lambda: notify(ours, rig.count(mine)),
            lambda: notify(one_each, rig.count(theirs)),
        )
