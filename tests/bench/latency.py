"""From a notification to the subscriber, against one commit and one message of a stream."""

from __future__ import annotations

import itertools
import statistics
import time

import asyncpg
from sqlalchemy import make_url

from bench.rig import Rig, begin_payments
from bench.rounds import Line, Sample, interleave
from databases import POSTGRES

PAYMENTS = 20
"""Whose two notifications each are a round."""


async def measure(rig: Rig) -> list[Line]:
    """One at a time; both sides tell their median, ours over two processes and the database."""
    line = Line(
        key="latency",
        title="Notification to subscriber, alone, median",
        unit="ms",
        less_is_better=True,
        ours="POST at the sidecar until the subscriber of `serve` has the event, PostgreSQL",
        peer="one row committed, plus one message of a bare grpc.aio stream",
    )
    runs = itertools.count()
    all_times: list[float] = []
    async with (
        rig.fresh(POSTGRES) as url,
        rig.server(url) as server,
        rig.sidecar(url) as sidecar,
        rig.bare() as bare,
        rig.script("load") as load,
        rig.script("load") as bare_load,
        rig.store(url) as store,
    ):
        await load.ask("subscribe", port=server.port, count=1)
        await bare_load.ask("subscribe", port=bare.port, count=1)

        async def ours() -> Sample:
            run = next(runs)
            names = [f"bench-{run}-{number}" for number in range(rig.count(PAYMENTS))]
            await begin_payments(store, names)
            await load.ask("sign", names=names)
            spent = sidecar.process.cpu_seconds() + server.process.cpu_seconds()
            times = await load.ask("notify_alone", port=sidecar.port)
            spent = sidecar.process.cpu_seconds() + server.process.cpu_seconds() - spent
            all_times.extend(times)
            return Sample(statistics.median(times), spent / len(times) * 1e6)

        async def peer() -> Sample:
            count = 2 * rig.count(PAYMENTS)
            messages = []
            for _ in range(count):
                bare_load.tell("receive_stamped")
                await bare.process.ask("stamp")
                messages.append(await bare_load.answer())
            commits = await _commits(url, count)
            return Sample(statistics.median(commits) + statistics.median(messages))

        await ours()
        await peer()
        all_times.clear()
        await interleave(line, rig.rounds, ours, peer)
    line.more["p99_ms"] = statistics.quantiles(all_times, n=100, method="inclusive")[98]
    return [line]


async def _commits(url: str, count: int) -> list[float]:
    """Milliseconds that each of so many rows took, one after the other."""
    plain = make_url(url)
    if not plain.drivername.startswith("postgresql"):
        return [0.0] * count
    connection = await asyncpg.connect(
        plain.set(drivername="postgresql").render_as_string(hide_password=False)
    )
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench (body bytea)")
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await connection.execute("INSERT INTO bench VALUES ($1)", bytes(600))
            times.append((time.perf_counter() - began) * 1e3)
        return times
    finally:
        await connection.close()
