"""A running stream, and what a subscriber makes of its batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from antom_payments.event_stream import (
    AfterCursor,
    Batch,
    Earliest,
    EventStream,
    Latest,
    Pace,
    Subscription,
)
from antom_payments.payment_event import EventFilter, PaymentEvent

EVERYTHING = EventFilter()
PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""
FOR_EVER = 3600.0
EAGER = Pace(busy_seconds=0.001, idle_seconds=0.01, retry_seconds=0.001, max_retry_seconds=0.01)
__all__ = [
    "EVERYTHING",
    "AfterCursor",
    "Earliest",
    "Latest",
    "Seen",
    "Watcher",
    "running",
    "tail_is_at_head",
]


class Seen(NamedTuple):
    """An event as it arrived."""

    sequence: int
    event_id: str
    payment_request_id: str
    cursor: str


def encode(event: PaymentEvent, cursor: str) -> bytes:
    """A line, so that joined batches can be read again."""
    fields = (str(event.sequence), event.event_id, event.payment.payment_request_id, cursor)
    return "|".join(fields).encode() + b"\n"


def decode(batch: Batch) -> list[Seen]:
    lines = batch.data.decode().splitlines()
    seen = [Seen(int(fields[0]), *fields[1:]) for fields in (line.split("|") for line in lines)]
    assert len(seen) == batch.events
    if seen:
        assert seen[-1].cursor == batch.cursor
    return seen


@contextlib.asynccontextmanager
async def running(log: Any, **options: Any) -> AsyncIterator[EventStream]:
    """An event stream whose tail runs."""
    stream = EventStream(log, **{"encode": encode, "pace": EAGER, **options})
    tail = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        tail.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tail


class Watcher:
    """A subscriber that notes what it gets."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.seen: list[Seen] = []
        self.caught_up = 0
        self.cursor = subscription.checkpoint_cursor()

    @classmethod
    async def start(
        cls, stream: EventStream, start: Any, event_filter: EventFilter = EVERYTHING
    ) -> Watcher:
        return cls(await stream.subscribe(start, event_filter))

    @property
    def sequences(self) -> list[int]:
        return [seen.sequence for seen in self.seen]

    async def take(self, timeout_seconds: float = FOR_EVER) -> Batch | None:
        """The next batch, noted."""
        batch = await self.subscription.next(timeout_seconds)
        if batch is not None:
            self.caught_up += batch.caught_up
            self.seen += decode(batch)
            self.cursor = batch.cursor
        return batch

    async def until_sequence(self, sequence: int) -> Watcher:
        """Go on until the event with that sequence arrived."""
        async with asyncio.timeout(PATIENCE):
            while not self.seen or self.seen[-1].sequence < sequence:
                await self.take(FOR_EVER)
        return self

    async def until_caught_up(self) -> Watcher:
        async with asyncio.timeout(PATIENCE):
            while not self.caught_up:
                await self.take(FOR_EVER)
        return self

    def close(self) -> None:
        self.subscription.close()


async def tail_is_at_head(stream: EventStream) -> None:
    """Wait until the tail has read what is committed: starting with the latest event does."""
    (await stream.subscribe(Latest(), EVERYTHING)).close()
