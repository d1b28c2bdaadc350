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
    _task: asyncio.Task[None] | None = None

    def start(self, payments: Payments) -> None:
        self._task = asyncio.create_task(self._follow(payments))

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

        def opened(request: Any) -> _Stream:
            self.connections += 1
            return _Stream(open_stream(request), self)

        batches = replace(following, open_stream=opened).batches()
        try:
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    for event in batch.events:
                        self._take(event)
        except Exception as error:
            self.ending = error
            raise

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


@dataclass
class _Stream:
    """One connection's messages, noted on their way to the client."""

    call: Any
    subscriber: Subscriber

    def __post_init__(self) -> None:
        self._number = self.subscriber.connections

    async def read(self) -> Any:
        message = await self.call.read()
        if message is not grpc.aio.EOF:
            self.subscriber.came += [(self._number, event.event_id) for event in message.events]
            self.subscriber.wire += map(views.of_event, message.events)
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
