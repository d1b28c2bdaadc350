"""Replicas restart under their callers: no call fails, and no subscriber misses an event.

`make drain` restarts three replicas in turn, twelve times, with the settings as they are shipped.
Inside `make test` it is two of them, once and quickly.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from antom_payments.app import grpc_options
from antom_payments.client import PLAINTEXT, Payments, connect
from antom_payments.settings import Settings
from antom_payments.storage import payment_store, wall_clock
from drain.callers import Load, Subscriber, endings
from drain.replicas import Replica, running
from processes import as_environment
from scripted_antom import INQUIRY, NOT_SUBMITTED, SESSION, scripted_antom, session
from stored import whole_log
from whole import settings

SUBSCRIBERS, CHANNELS = 200, 10
CALLS_PER_SECOND = 30.0
REPLICAS, FEW_RESTARTS, MANY_STREAMS = 3, 2, 20
QUICK = {"drain_delay_seconds": 0.5, "drain_grace_seconds": 2.0}
AS_SHIPPED = {name: Settings.model_fields[name].default for name in QUICK}
PATIENCE = 60.0


@dataclass
class Restarts:
    """What the restarts took."""

    seconds: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    """Seconds between the first and the last stream that a replica ended, when they were many."""


@contextlib.asynccontextmanager
async def connected(replicas: list[Replica]) -> AsyncIterator[Payments]:
    """A caller with the shipped service config, balanced over all replicas."""
    addresses = ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
    async with connect(f"ipv4:{addresses}", credentials=PLAINTEXT) as payments:
        yield payments


@contextlib.asynccontextmanager
async def following(replicas: list[Replica]) -> AsyncIterator[list[Subscriber]]:
    """Subscribers on some connections each."""
    subscribers = [Subscriber() for _ in range(SUBSCRIBERS)]
    async with contextlib.AsyncExitStack() as parts:
        channels = [await parts.enter_async_context(connected(replicas)) for _ in range(CHANNELS)]
        tasks = [
            asyncio.create_task(one.follow(channels[n % CHANNELS]))
            for n, one in enumerate(subscribers)
        ]
        yield subscribers
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_have(subscribers: list[Subscriber], count: int) -> None:
    """Wait until every subscriber has so many events."""
    async with asyncio.timeout(PATIENCE):
        while any(len(one.followed) < count for one in subscribers):  # noqa: ASYNC110 - they have no event of their own
            await asyncio.sleep(0.02)


async def events_in(chosen: Settings) -> list[str]:
    async with payment_store(chosen, wall_clock) as store:
        return [event.event_id for event in await whole_log(store)]


async def restart(replicas: list[Replica], times: int, subscribers: list[Subscriber]) -> Restarts:
    """One replica after the other."""
    restarts = Restarts()
    now = asyncio.get_running_loop().time
    for number in range(times):
        replica = replicas[number % len(replicas)]
        began = now()
        code, seconds = await replica.stop()
        restarts.codes.append(code)
        restarts.seconds.append(seconds)
        ended = [
            stream.ended
            for one in subscribers
            for stream in one.streams
            if stream.ended is not None and stream.ended >= began
        ]
        if len(ended) >= MANY_STREAMS:
            restarts.spreads.append(max(ended) - min(ended))
        await replica.start()
    return restarts


@pytest.mark.slow
async def test_restarts_fail_no_call_and_lose_no_event(
    postgres_url: str, tmp_path: Path, restarts_of_a_run: int
) -> None:
    is_quick = restarts_of_a_run <= FEW_RESTARTS
    async with contextlib.AsyncExitStack() as parts:
        antom = await parts.enter_async_context(scripted_antom())
        antom.will(SESSION, session(expiry="2126-03-02T10:30:00Z"))
        antom.will(INQUIRY, NOT_SUBMITTED)
        chosen = settings(
            tmp_path,
            database_url=postgres_url,
            antom_url=antom.origin,
            grpc_streams_per_peer=SUBSCRIBERS,
            **(QUICK if is_quick else AS_SHIPPED),
        )
        told_settings = as_environment(chosen)
        replicas = await parts.enter_async_context(running(REPLICAS, told_settings, tmp_path))
        load = Load(await parts.enter_async_context(connected(replicas)))
        subscribers = await parts.enter_async_context(following(replicas))
        async with load.running(CALLS_PER_SECOND):
            await all_have(subscribers, 1)
            restarts = await restart(replicas, restarts_of_a_run, subscribers)
        log = await events_in(chosen)
        await all_have(subscribers, len(log))
        told = figures(load, subscribers, restarts, log)
        sys.stdout.write(told)

    assert load.failures == []
    assert load.calls > 0
    assert len(log) == len(load.created)
    for one in subscribers:
        assert one.followed == log
        assert one.came == log, "over the wire too: a resume repeats nothing"
    assert set(endings(subscribers)) == {"ABORTED SERVER_DRAINING"}
    assert restarts.codes == [0] * restarts_of_a_run
    drain = grpc_options(chosen).drain
    assert max(restarts.seconds) < drain.endpoint_delay_seconds + drain.grace_seconds + 5, told
    assert min(restarts.spreads) > drain.spread_seconds / 2, told


def figures(load: Load, subscribers: list[Subscriber], restarts: Restarts, log: list[str]) -> str:
    """A table of what was measured."""
    gaps = sorted(gap for one in subscribers for gap in one.gaps_seconds)
    rows = {
        "restarts": len(restarts.codes),
        "unary calls": load.calls,
        "failed unary calls": len(load.failures),
        "slowest unary call, s": round(load.slowest_seconds, 2),
        "subscribers": len(subscribers),
        "events": len(log),
        "subscribers with a gap, a repetition or another order": sum(
            one.came != log for one in subscribers
        ),
        "stream endings": dict(endings(subscribers)),
        "reconnects": len(gaps),
        "reconnect p50, s": round(gaps[len(gaps) // 2], 2),
        "reconnect p99, s": round(gaps[int(len(gaps) * 0.99)], 2),
        "streams ended over, s": [round(one, 2) for one in restarts.spreads],
        "SIGTERM to exit, s": [round(one, 2) for one in restarts.seconds],
        "exit codes": restarts.codes,
    }
    width = max(map(len, rows))
    return "\n" + "".join(f"{name:<{width}}  {value}\n" for name, value in rows.items())
