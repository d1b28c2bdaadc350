"""A burst of events to many subscribers, against a bare stream of one ready message an event."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from antom_payments.cursor import CursorSeal, Position, fingerprint_of
from antom_payments.fact import FactKind, Outcome
from antom_payments.grpc_api.convert import encode
from antom_payments.payment_event import PaymentEvent
from antom_payments.store import PaymentStore
from bench.child import Child
from bench.rig import Rig, Served
from bench.rounds import Line, Sample, interleave
from databases import POSTGRES
from event_stream.news import News, fact

SUBSCRIBERS = 500
CALLERS = 2
"""Processes that the subscribers are in."""
EVENTS = 100
"""Of a burst."""


async def measure(rig: Rig) -> list[Line]:
    """Ours begins before the burst is committed; both end when the last subscriber has it all."""
    subscribers, events = rig.count(SUBSCRIBERS), rig.count(EVENTS)
    line = Line(
        key="fan_out",
        title=f"{events} events at once to {subscribers} subscribers",
        unit="deliveries/s",
        ours="`serve`: committed to PostgreSQL, read back, encoded once, sent in batches",
        peer="a bare grpc.aio stream that writes one ready message for each event",
        floor=1.0,
    )
    names = [f"bench-{number}" for number in range(events)]
    async with (
        rig.fresh(POSTGRES) as url,
        rig.store(url) as store,
        rig.server(url) as ours,
        rig.bare() as bare,
    ):
        told = await News(store).about(*names)
        ready = base64.b64encode(_as_sent(store, told[0])).decode()
        await bare.process.ask("prepare", event=ready)
        async with (
            _subscribers(rig, ours, subscribers) as our_callers,
            _subscribers(rig, bare, subscribers) as bare_callers,
        ):

            async def burst() -> None:
                facts = [
                    fact("default", name, FactKind.CAPTURE, Outcome.PROCESSING) for name in names
                ]
                await News(store).tell(*facts)

            async def bare_burst() -> None:
                await bare.process.ask("burst", events=events)

            deliveries = subscribers * events
            for served, callers, begin in (
                (ours, our_callers, burst),
                (bare, bare_callers, bare_burst),
            ):
                await _deliver(served, callers, events, deliveries, begin)
            await interleave(
                line,
                rig.rounds,
                lambda: _deliver(ours, our_callers, events, deliveries, burst),
                lambda: _deliver(bare, bare_callers, events, deliveries, bare_burst),
            )
    return [line]


async def _deliver(
    served: Served,
    callers: list[Child],
    events: int,
    deliveries: int,
    burst: Callable[[], Awaitable[None]],
) -> Sample:
    for caller in callers:
        caller.tell("receive", events=events)
    spent = served.process.cpu_seconds()
    began = time.monotonic_ns()
    await burst()
    ended = max(await asyncio.gather(*(caller.answer() for caller in callers)))
    spent = served.process.cpu_seconds() - spent
    return Sample.rate(deliveries, (ended - began) / 1e9, spent)


@asynccontextmanager
async def _subscribers(rig: Rig, served: Served, count: int) -> AsyncIterator[list[Child]]:
    """Processes with so many subscribers in all."""
    async with AsyncExitStack() as parts:
        callers = [await parts.enter_async_context(rig.script("load")) for _ in range(CALLERS)]
        shares = [len(range(number, count, CALLERS)) for number in range(CALLERS)]
        for caller, share in zip(callers, shares, strict=True):
            await caller.ask("subscribe", port=served.port, count=share)
        yield callers


def _as_sent(store: PaymentStore, event: PaymentEvent) -> bytes:
    """The bytes of an event as the service sends it."""
    seal = CursorSeal(store.log.cursor_key, store.log.log_id)
    return encode(event, seal.seal(Position(event.sequence, fingerprint_of(event.event_id))))
