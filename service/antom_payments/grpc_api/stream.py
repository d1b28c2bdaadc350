"""Serving one subscription: what is written when, and the ways in which it ends.

A coroutine that calls `context.write`, not an async generator: it alone can tell that a write makes
no progress. A subscriber's place is the cursor of the last message that was written, at every
moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import grpc
from opentelemetry.trace import SpanContext

from antom_payments import instruments
from antom_payments.errors import (
    PaymentsError,
    ServerDraining,
    StreamEnded,
    StreamLifetimeReached,
    SubscriberTooSlow,
)
from antom_payments.event_stream import Batch, Subscription
from antom_payments.grpc_api import convert, tracing
from antom_payments.grpc_api.allowance import Allowance
from antom_payments.instruments import LONG_SECONDS, Reading

_ENDINGS: dict[type[PaymentsError], str] = {
    StreamLifetimeReached: "lifetime",
    ServerDraining: "drain",
    SubscriberTooSlow: "too_slow",
}
_TIMED_ONE_IN = 16
"""Each so many writes one is timed: a histogram costs as much as the write of a small batch."""

_lifetimes = instruments.histogram(
    "antom_payments.stream.duration",
    "s",
    "How long streams were open, by what ended them.",
    labels={"ended_by": (*_ENDINGS.values(), "caller", "error")},
    alert="SubscriberTooSlow",
    buckets=LONG_SECONDS,
)
_delivered = instruments.observed_counter(
    "antom_payments.stream.events",
    "{event}",
    "Events written to streams: an event counts once for each subscriber.",
)
_delays = instruments.histogram(
    "antom_payments.stream.delivery.delay",
    "s",
    "From an event's append to its write to a live stream, of one write in 16.",
    alert="DeliverySlow",
)
_lags = instruments.histogram(
    "antom_payments.stream.lag",
    "s",
    "How much older a stream's place is than the newest event, at each checkpoint.",
    alert="SubscriberLagging",
    buckets=LONG_SECONDS,
)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How streams are served. All in seconds.

    Attributes:
        checkpoint_seconds: a checkpoint is sent at least this often, also while events flow;
            subscribers may ask for it more often.
        write_timeout_seconds: a write that makes no progress for so long ends the stream.
        last_write_seconds: the same, for streams that are being ended.
        lifetime_seconds: a stream's planned end is drawn between these; they must be shorter than
            the server's max_connection_age_grace, which a stream may have left at its beginning.
        retry_seconds: callers are asked to wait up to so long before they come back.
    """

    checkpoint_seconds: float = 15.0
    write_timeout_seconds: float = 30.0
    last_write_seconds: float = 5.0
    lifetime_seconds: tuple[float, float] = (720.0, 900.0)
    retry_seconds: float = 1.0

    def retry_after(self) -> float:
        """Seconds after which a caller may come back: jittered, so that not all come at once."""
        return random.uniform(self.retry_seconds / 10, self.retry_seconds)


class Delivery:
    """One subscription on its way to one caller."""

    def __init__(
        self,
        subscription: Subscription,
        context: grpc.aio.ServicerContext[Any, bytes],
        options: StreamOptions,
        *,
        events_per_second: int = 0,
        now: Callable[[], datetime],
        subscribed: SpanContext,
        deliveries: Deliveries,
    ) -> None:
        """``now`` is the wall clock, ``subscribed`` the span in which the stream was opened.

        At most ``events_per_second`` are sent, events and payments alike; 0 is no bound.
        """
        self._subscription = subscription
        self._context = context
        self._options = options
        self._now = now
        self._subscribed = subscribed
        self._loop = asyncio.get_running_loop()
        self._allowance = (
            Allowance(events_per_second, self._loop.time()) if events_per_second else None
        )
        self._patience = options.write_timeout_seconds
        self._ending: StreamEnded | None = None
        # Set while `run` waits, so that only those waits are ever interrupted.
        self._waiting: asyncio.Task[Any] | None = None
        self._writing: asyncio.Task[Any] | None = None
        self._write_began = 0.0
        self._is_stuck = False
        self._watchdog = self._loop.call_later(self._patience, self._watch)
        self._deliveries = deliveries
        self.last_sent = subscription.checkpoint_cursor()
        """Cursor of the last message that was written; at first, where the stream starts."""

    async def run(self) -> NoReturn:
        """Write what the subscription gives until it ends.

        Raises:
            StreamLifetimeReached, ServerDraining: planned, after a last checkpoint.
            SubscriberTooSlow: a write made no progress.
            PaymentsError: what `Subscription.next` raises.
        """
        began, ended_by = self._loop.time(), "caller"
        try:
            ending = await self._deliver()
            await self._checkpoint()
            ended_by = _ENDINGS.get(type(ending), "error")
        except PaymentsError as error:
            ended_by = _ENDINGS.get(type(error), "error")
            raise
        finally:
            self._watchdog.cancel()
            _lifetimes.record(self._loop.time() - began, {"ended_by": ended_by})
        raise ending

    def end(self, error: StreamEnded) -> None:
        """Make the stream end with ``error`` after what is being written; the first one counts."""
        if self._ending is not None:
            return
        self._ending = error
        self._patience = min(self._patience, self._options.last_write_seconds)
        self._watchdog.cancel()
        self._watch()
        if self._waiting is not None:
            self._waiting.cancel()

    async def _deliver(self) -> StreamEnded:
        """Write batches and checkpoints until something ends the stream; returns what."""
        lifetime_ends = self._loop.time() + random.uniform(*self._options.lifetime_seconds)
        checkpoint_due = self._loop.time() + self._options.checkpoint_seconds
        while self._ending is None:
            now = self._loop.time()
            if now >= lifetime_ends:
                self._ending = StreamLifetimeReached(self._options.retry_after())
            elif now >= checkpoint_due:
                await self._checkpoint()
                checkpoint_due = self._loop.time() + self._options.checkpoint_seconds
            else:
                batch = await self._next(min(checkpoint_due, lifetime_ends) - now)
                if batch is not None:
                    await self._send(batch)
        return self._ending

    async def _next(self, seconds: float) -> Batch | None:
        """The next batch; None after ``seconds``, when `end` was called, or to be asked again."""
        task = self._waiting = asyncio.current_task()
        try:
            return await self._next_allowed(seconds)
        except asyncio.CancelledError:
            # Both may have cancelled, `end` and the peer: then the peer's counts.
            if self._ending is None or task is None or task.uncancel() > 0:
                raise
            return None
        finally:
            self._waiting = None

    async def _next_allowed(self, seconds: float) -> Batch | None:
        """What waits for the rate stays in the log: no more is taken than may be sent."""
        if self._allowance is None:
            return await self._subscription.next(seconds)
        pause = self._allowance.wait_seconds(self._loop.time())
        if pause:
            await asyncio.sleep(min(pause, seconds))
            return None
        most = self._allowance.left(self._loop.time())
        batch = await self._subscription.next(seconds, most=most)
        if batch is not None:
            self._allowance.spend(batch.events + batch.payments, self._loop.time())
        return batch

    async def _send(self, batch: Batch) -> None:
        if batch.caught_up:
            await self._write(convert.caught_up(batch.cursor), batch.cursor)
            return
        if batch.snapshot_end:
            await self._write(convert.snapshot_end(batch.cursor), batch.cursor)
            return
        if batch.append_links:
            with tracing.deliver_span(batch, self._subscribed):
                await self._write(batch.data, batch.cursor)
        else:
            await self._write(batch.data, batch.cursor)
        self._deliveries.count(batch, self._now)

    async def _checkpoint(self) -> None:
        cursor = self._subscription.checkpoint_cursor()
        lag_seconds = self._subscription.lag_seconds()
        if lag_seconds is not None:
            _lags.record(lag_seconds)
        data = convert.checkpoint(cursor, server_time=self._now(), lag_seconds=lag_seconds)
        await self._write(data, cursor)

    async def _write(self, data: bytes, cursor: str) -> None:
        """Write one message; returns when it is in gRPC's buffers, not when it was read."""
        self._write_began = self._loop.time()
        task = self._writing = asyncio.current_task()
        try:
            await self._context.write(data)
        except asyncio.CancelledError:
            if not self._is_stuck or task is None or task.uncancel() > 0:
                raise
            raise SubscriberTooSlow(self.last_sent) from None
        finally:
            self._writing = None
        self.last_sent = cursor

    def _watch(self) -> None:
        """Cut a write that made no progress.

        One timer a stream, because a timeout round each write costs 40 % (measured).
        """
        now = self._loop.time()
        began = self._write_began if self._writing is not None else now
        if now - began >= self._patience and self._writing is not None:
            self._is_stuck = True
            self._writing.cancel()
        else:
            self._watchdog = self._loop.call_at(began + self._patience, self._watch)


class Deliveries:
    """What was written to all streams of a server."""

    def __init__(self) -> None:
        self.events = 0
        """Events written, each once for each subscriber."""
        self._writes = 0

    def count(self, batch: Batch, now: Callable[[], datetime]) -> None:
        """Count a batch that was written; now and then, how old its newest event was by then."""
        self.events += batch.events
        if batch.live_time is None:
            return
        if self._writes % _TIMED_ONE_IN == 0:
            _delays.record(max(0.0, (now() - batch.live_time).total_seconds()))
        self._writes += 1

    def measured(self) -> AbstractContextManager[None]:
        """Let the metrics tell of it, while the block runs."""
        return _delivered.read_from(self._read)

    def _read(self) -> Iterator[Reading]:
        yield self.events, {}


class OpenStreams:
    """The streams under way, for the day that all of them must end."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._deliveries: set[Delivery] = set()
        self._is_draining = False
        self.written = Deliveries()

    @contextmanager
    def following(self, delivery: Delivery) -> Iterator[None]:
        """Count ``delivery`` among the open streams; one that comes too late is ended at once."""
        self._deliveries.add(delivery)
        if self._is_draining:
            asyncio.get_running_loop().call_soon(self._end, delivery)
        try:
            yield
        finally:
            self._deliveries.discard(delivery)

    def end_all(self, spread_seconds: float) -> None:
        """End every stream, spread over so many seconds, and those that open from now on."""
        self._is_draining = True
        for delivery in self._deliveries:
            delay = random.uniform(0, spread_seconds)
            asyncio.get_running_loop().call_later(delay, self._end, delivery)

    def _end(self, delivery: Delivery) -> None:
        if delivery in self._deliveries:
            delivery.end(ServerDraining(self._options.retry_after()))
