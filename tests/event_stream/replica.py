"""A subscriber that keeps payments as it is told, first by a snapshot and then by events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from antom_payments.event_stream import AfterCursor, EventStream, Snapshot, Subscription
from antom_payments.payment import Payment
from antom_payments.payment_event import EventFilter, PaymentEvent
from event_stream.watching import EAGER, EVERYTHING, PATIENCE, running

Key = tuple[str, str]


def encode(told: PaymentEvent | Payment, cursor: str) -> bytes:
    """A line for each, so that joined batches can be read again."""
    is_event = isinstance(told, PaymentEvent)
    payment = told.payment if is_event else told
    line = {
        "is_event": is_event,
        "key": (payment.merchant_account, payment.payment_request_id),
        "version": payment.version,
        "state": payment.state.value,
        "sequence": payment.last_sequence,
        "cursor": cursor,
    }
    return json.dumps(line).encode() + b"\n"


def state_of(payment: Payment) -> tuple[int, str]:
    return payment.version, payment.state.value


@asynccontextmanager
async def streaming(log: Any, **options: Any) -> AsyncIterator[EventStream]:
    """A stream that a replica understands; its tail runs."""
    async with running(log, **{"pace": EAGER, "encode": encode, **options}) as stream:
        yield stream


class Replica:
    """Its payments and its cursor, and the laws of what it is told."""

    def __init__(self, event_filter: EventFilter = EVERYTHING) -> None:
        self.event_filter = event_filter
        self.payments: dict[Key, tuple[int, str]] = {}
        self.cursor = ""
        self.snapshot_ends = 0
        self.caught_up = False
        self.told: list[dict[str, Any]] = []
        self.subscription: Subscription | None = None

    async def join(self, stream: EventStream) -> Replica:
        """Subscribe: where the cursor is, at first with a snapshot."""
        self.leave()
        start = AfterCursor(self.cursor) if self.cursor else Snapshot()
        self.caught_up = False
        self.subscription = await stream.subscribe(start, self.event_filter)
        return self

    def leave(self) -> None:
        if self.subscription is not None:
            self.subscription.close()
            self.subscription = None

    async def take(self, seconds: float = PATIENCE, *, most: int | None = None) -> None:
        """The next message, or the checkpoint in its place; the cursor is kept with its effect."""
        assert self.subscription is not None
        batch = await self.subscription.next(seconds, most=most)
        if batch is None:
            self.cursor = self.subscription.checkpoint_cursor()
            return
        lines = [json.loads(line) for line in batch.data.splitlines()]
        assert len(lines) == batch.events + batch.payments
        assert most is None or len(lines) <= most
        for line in lines:
            self._hear(line)
        if lines:
            assert lines[-1]["cursor"] == batch.cursor
        self.snapshot_ends += batch.snapshot_end
        self.caught_up |= batch.caught_up
        self.cursor = batch.cursor

    async def until_snapshot_end(self) -> Replica:
        async with asyncio.timeout(PATIENCE):
            while not self.snapshot_ends:
                await self.take()
        return self

    async def until_caught_up(self) -> Replica:
        async with asyncio.timeout(PATIENCE):
            while not self.caught_up:
                await self.take()
        return self

    async def until_version(self, key: Key, version: int) -> Replica:
        async with asyncio.timeout(PATIENCE):
            while self.payments.get(key, (0, ""))[0] < version:
                await self.take()
        return self

    def _hear(self, line: dict[str, Any]) -> None:
        key, version = tuple(line["key"]), line["version"]
        known = self.payments.get(key, (0, ""))[0]
        assert line["is_event"] == bool(self.snapshot_ends)
        if not line["is_event"]:
            # Also one that was told before, where the filter admits only some events: always later.
            assert version > known
            assert not known or not self.event_filter.admits_whole_payments
        elif self.event_filter.admits_whole_payments and known:
            # No event is missing, and none is told that the payment already contains.
            assert version == known + 1
        else:
            assert version > known
        self.told.append(line)
        self.payments[key] = (version, line["state"])
