"""Following payment events for ever: the one loop that resumes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc

from antom_payments.client.backoff import Backoff
from antom_payments.client.cursor_store import CursorStore
from antom_payments.client.errors import (
    CallFailed,
    ConnectionClosed,
    CursorExpired,
    failure_of,
)
from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_pb2 import Payment
from antom_payments.v1.payment_service_pb2 import (
    StreamPaymentEventsRequest,
    StreamPaymentEventsResponse,
)

OnExpired = Callable[[CursorExpired], Awaitable[None]]

REMEMBERED_EVENTS = 10_000
"""Event ids kept to recognise repetitions; more than a server resends after a resume."""

_Code = grpc.StatusCode
_log = logging.getLogger("antom_payments.client")

# What a cut, a proxy, a full or a stopping server look like. The other codes are answers: asking
# again would not change them.
_PASSING = frozenset(
    {
        _Code.OK,
        _Code.ABORTED,
        _Code.CANCELLED,
        _Code.DEADLINE_EXCEEDED,
        _Code.INTERNAL,
        _Code.RESOURCE_EXHAUSTED,
        _Code.UNAVAILABLE,
        _Code.UNKNOWN,
    }
)
_PLANNED = frozenset({"STREAM_LIFETIME_REACHED", "SERVER_DRAINING"})
_HAS_PAYMENTS = "a snapshot has payments beside events: follow it by batches()"


@dataclass(frozen=True, slots=True)
class Earliest:
    """Start with the oldest event that is kept."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Start with the first event after the call.

    Until the first cursor arrives there is nothing to resume from: a stream that is cut before
    starts again with the newest event of that moment.
    """


@dataclass(frozen=True, slots=True)
class AfterCursor:
    """Start after a cursor, from CreateSession, GetPayment, a list or an earlier batch."""

    cursor: str


@dataclass(frozen=True, slots=True)
class AtTime:
    """Start with the first event that was not committed before this aware time.

    When that lies ahead: with the first event after the call. CursorExpired when events of that
    time may have been pruned.
    """

    time: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Start with the current state of every payment that has had an event, then follow.

    The payments are in `Batch.payments`, so follow it by `Following.batches`.
    """


Start = Earliest | Latest | AfterCursor | AtTime | Snapshot


def start_at(request: StreamPaymentEventsRequest, start: Start) -> None:
    """Put ``start`` into ``request``. Raises ValueError for a time without a zone."""
    match start:
        case AfterCursor(cursor):
            request.after_cursor = cursor
        case Earliest():
            request.earliest.SetInParent()
        case Latest():
            request.latest.SetInParent()
        case AtTime(time):
            if time.tzinfo is None:
                raise ValueError("the time has no zone")
            request.at_time.FromDatetime(time)
        case Snapshot():
            request.snapshot.SetInParent()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message of the stream brought."""

    events: tuple[PaymentEvent, ...]
    """In log order; empty when there is only progress to tell."""
    cursor: str
    """Where to resume once these events, or payments, were processed."""
    caught_up: bool
    """History ends here; what follows is live. Each stream says it once, also after a resume."""
    payments: tuple[Payment, ...] = ()
    """Of a snapshot. One that changed meanwhile comes again: keep the higher `version`."""
    snapshot_end: bool = False
    """Every payment's state was told; what follows are the events after it."""


@dataclass(frozen=True, slots=True)
class Following:
    """Payment events as an asynchronous iterable, resumed by itself. Made by `Payments.follow`.

    Each iteration starts anew: at the stored cursor, or at the start that was asked for.
    """

    open_stream: Callable[[StreamPaymentEventsRequest], Any]
    request: StreamPaymentEventsRequest
    cursor_store: CursorStore | None
    on_expired: OnExpired | None
    backoff: Backoff
    silence_seconds: float

    async def __aiter__(self) -> AsyncIterator[PaymentEvent]:
        """The events alone. Raises ValueError for a snapshot, whose payments would be lost."""
        if self.request.WhichOneof("start") == "snapshot":
            raise ValueError(_HAS_PAYMENTS)
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                if batch.payments:
                    raise ValueError(_HAS_PAYMENTS)
                for event in batch.events:
                    yield event

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The same events in batches with their cursors, and progress when nothing matches.

        Write a batch's effects and its cursor in one transaction of your own database, start with
        `AfterCursor` of what is stored there, and every event takes effect exactly once.
        """
        request = StreamPaymentEventsRequest()
        request.CopyFrom(self.request)
        if self.cursor_store and (cursor := await self.cursor_store.load()):
            request.after_cursor = cursor
        place = _Place(self, request)
        try:
            while True:
                batch = await place.next_batch()
                yield batch
                # Only now was the batch processed: a consumer that failed did not come back.
                if batch.cursor:
                    request.after_cursor = batch.cursor
                    if self.cursor_store:
                        await self.cursor_store.save(batch.cursor)
        finally:
            place.leave()


class _Place:
    """One iteration's place in the log, over however many streams it takes."""

    def __init__(self, following: Following, request: StreamPaymentEventsRequest) -> None:
        self._following = following
        self._backoff = following.backoff
        self._request = request
        self._stream: Any = None
        self._attempt = 0
        self._healthy_since: float | None = None
        self._seen_in_order: deque[str] = deque()
        self._seen: set[str] = set()

    async def next_batch(self) -> Batch:
        """The next batch, resuming as often as it takes."""
        while True:
            try:
                response = await self._read()
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error)
            except TimeoutError:
                failure = CallFailed(_Code.DEADLINE_EXCEEDED, "nothing came for too long")
            else:
                if response is not None:
                    return self._batch(response)
                failure = CallFailed(_Code.OK, "the stream ended")
            self._stream = None
            await self._wait_after(failure)

    def leave(self) -> None:
        """Let the server know that nobody reads any more."""
        if self._stream is not None:
            self._stream.cancel()

    def _batch(self, response: StreamPaymentEventsResponse) -> Batch:
        return Batch(
            events=tuple(event for event in response.events if self._is_new(event.event_id)),
            cursor=response.cursor,
            caught_up=response.WhichOneof("marker") == "caught_up",
            payments=tuple(response.payments),
            snapshot_end=response.WhichOneof("marker") == "snapshot_end",
        )

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._seen:
            return False
        self._seen.add(event_id)
        self._seen_in_order.append(event_id)
        if len(self._seen_in_order) > REMEMBERED_EVENTS:
            self._seen.discard(self._seen_in_order.popleft())
        return True

    async def _read(self) -> StreamPaymentEventsResponse | None:
        """One message of the present stream; None at its end."""
        try:
            if self._stream is None:
                self._stream = self._following.open_stream(self._request)
            async with asyncio.timeout(self._following.silence_seconds):
                message = await self._stream.read()
        except grpc.aio.UsageError:
            raise ConnectionClosed from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # grpc.aio tells so that the channel was closed beneath the call.
            raise ConnectionClosed from None
        if not isinstance(message, StreamPaymentEventsResponse):
            return None
        if self._healthy_since is None:
            self._healthy_since = self._backoff.clock()
        return message

    async def _wait_after(self, failure: CallFailed) -> None:
        """Wait for the next attempt, or raise what no attempt would change."""
        on_expired = self._following.on_expired
        if isinstance(failure, CursorExpired) and failure.oldest_cursor and on_expired:
            await on_expired(failure)
            if self._following.request.WhichOneof("start") == "snapshot":
                # It tells what became of every payment, which the oldest event kept does not.
                self._request.snapshot.SetInParent()
            else:
                self._request.after_cursor = failure.oldest_cursor
        elif failure.code not in _PASSING:
            raise failure
        since, self._healthy_since = self._healthy_since, None
        was_healthy = (
            since is not None and self._backoff.clock() - since >= self._backoff.healthy_seconds
        )
        if was_healthy or failure.reason in _PLANNED:
            # A server that ends streams on purpose says itself when to come back: replicas that
            # restart one after the other must not make anybody wait longer each time.
            self._attempt = 0
        seconds = self._backoff.seconds(self._attempt, at_least=failure.retry_after_seconds)
        self._attempt += 1
        level = logging.INFO if failure.reason in _PLANNED else logging.WARNING
        _log.log(level, "event stream: %s; resuming in %.1f seconds", failure, seconds)
        await self._backoff.sleep(seconds)
