"""Subscribers with the shipped client, that keep what every connection brought."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

import views
from antom_payments.client import Backoff, Earliest, MemoryCursorStore, Payments
from antom_payments.payment import FINAL_STATES
from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_service_pb2 import (
    StreamPaymentEventsRequest,
    StreamPaymentEventsResponse,
)
from invariants import LoggedEvent, Received

SILENCE_SECONDS = 6.0
"""Three checkpoints of the town's servers."""
QUICK = Backoff(first_seconds=0.05, longest_seconds=1.0)
_FINAL = {state.value for state in FINAL_STATES}


@dataclass
class Subscriber:
    """Follows with a stored cursor; may be stopped and started again, as a program is."""

    name: str
    wants: Callable[[LoggedEvent], bool]
    filters: dict[str, Any] = field(default_factory=dict)
    cursor: MemoryCursorStore = field(default_factory=MemoryCursorStore)
    connections: int = 0
    came: list[tuple[int, str]] = field(default_factory=list)
    """Over the wire: the number of the connection, and the event's id."""
    wire: list[LoggedEvent] = field(default_factory=list)
    """Over the wire: all that was told of each event."""
    told: list[str] = field(default_factory=list)
    """As the client gave them out."""
    on_event: Callable[[PaymentEvent], None] = lambda _: None
    ending: BaseException | None = None
    wrong: list[str] = field(default_factory=list)
    """What could be seen at once: a payment's versions that are not one after the other."""
    _versions: dict[str, int] = field(default_factory=dict)
    _ranks: dict[str, int] = field(default_factory=dict)
    """Events by id, in the order in which they came first: the log's."""
    _through: dict[str, int] = field(default_factory=dict)
    """Cursors, and the newest event that each is known to be after."""
    _task: asyncio.Task[None] | None = None

    def start(self, payments: Payments) -> None:
        self._task = asyncio.create_task(self._follow(payments))
        self._task.add_done_callback(_retrieve)

    async def stop(self) -> None:
        """As when its program ends: what it had read and not stored comes again."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, payments: Payments) -> None:
        following = payments.follow(
            Earliest(),
            cursor_store=self.cursor,
            backoff=QUICK,
            silence_seconds=SILENCE_SECONDS,
            **self.filters,
        )
        open_stream = following.open_stream

        def opened(request: StreamPaymentEventsRequest) -> Connection:
            return self.connected(open_stream(request), request.after_cursor)

        batches = replace(following, open_stream=opened).batches()
        try:
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    for event in batch.events:
                        self._take(event)
        except Exception as error:
            self.ending = error
            raise

    def connected(self, call: Any, after_cursor: str) -> Connection:
        """One more connection, which was asked for what comes after a cursor, or for all."""
        self.connections += 1
        return Connection(call, self, self._through.get(after_cursor, -1))

    def came_on(self, connection: Connection, message: StreamPaymentEventsResponse) -> None:
        """Keep what a connection brought; what its cursor had left behind must not come again."""
        for event in message.events:
            rank = self._ranks.setdefault(event.event_id, len(self._ranks))
            if rank <= connection.after:
                self.wrong.append(f"{event.event_id} is not after the cursor of {connection}")
            connection.last = max(connection.last, rank)
            self.came.append((connection.number, event.event_id))
            self.wire.append(views.of_event(event))
        if message.cursor:
            known = self._through.get(message.cursor, -1)
            self._through[message.cursor] = max(known, connection.last)

    def _take(self, event: PaymentEvent) -> None:
        self.told.append(event.event_id)
        if not self.filters:
            before = self._versions.get(event.payment_request_id, 0)
            if event.payment_version > before + 1:
                self.wrong.append(f"{event.payment_request_id} jumped from version {before}")
            self._versions[event.payment_request_id] = max(before, event.payment_version)
        self.on_event(event)

    def received(self) -> Received:
        return Received(self.name, self.wants, self.came, wire=self.wire)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Look at what a follower ended with: `Subscriber.ending` tells it, and asyncio need not."""
    if not task.cancelled():
        task.exception()


@dataclass
class Connection:
    """One connection's messages, noted on their way to the client."""

    call: Any
    subscriber: Subscriber = field(repr=False)
    after: int
    """The newest event that the cursor it was asked with is known to be after; -1 is none."""

    def __post_init__(self) -> None:
        self.number = self.subscriber.connections
        self.last = self.after
        """The newest event that its cursors are known to be after."""

    def __str__(self) -> str:
        return f"connection {self.number}"

    async def read(self) -> Any:
        message = await self.call.read()
        if message is not grpc.aio.EOF:
            self.subscriber.came_on(self, message)
        return message

    def cancel(self) -> None:
        self.call.cancel()


def subscribers(known: list[str]) -> list[Subscriber]:
    """Whole-log ones, and filtered ones of each kind; ``known`` are payments to be followed."""
    captures = [11, 12]  # CAPTURE_SUCCEEDED, CAPTURE_FAILED
    return [
        Subscriber("the whole log", lambda _: True),
        Subscriber("the whole log again", lambda _: True),
        Subscriber(
            "final states",
            lambda event: event.state in _FINAL,
            {"final_states_only": True},
        ),
        Subscriber(
            "captures",
            lambda event: event.type in {"CAPTURE_SUCCEEDED", "CAPTURE_FAILED"},
            {"event_types": captures},
        ),
        Subscriber(
            "some payments",
            lambda event: event.payment_request_id in known,
            {"payment_request_ids": known},
        ),
        Subscriber(
            "one merchant",
            lambda event: event.merchant_account == "default",
            {"merchant_accounts": ["default"]},
        ),
    ]
