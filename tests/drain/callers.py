"""What callers do while replicas restart, and what they see of it: unary calls and streams."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from antom_payments.client import ClientError, Earliest, Payments
from antom_payments.client.errors import failure_of
from antom_payments.client.terminal import SessionWish


@dataclass
class Load:
    """A steady load of unary calls, and what came of them."""

    payments: Payments
    calls: int = 0
    created: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @contextlib.asynccontextmanager
    async def running(self, per_second: float) -> AsyncIterator[None]:
        """So many calls each second while the block runs, each third one a new payment."""
        await self._create()
        stop = asyncio.Event()
        pacing = asyncio.create_task(self._keep_calling(per_second, stop))
        try:
            yield
        finally:
            stop.set()
            await pacing

    async def _keep_calling(self, per_second: float, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as calls:
            while not stop.is_set():
                calls.create_task(self._call(self._create() if self.calls % 3 else self._read()))
                due += 1 / per_second
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), due - loop.time())

    async def _call(self, call: Any) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.calls += 1
        try:
            await call
        except ClientError as error:
            self.failures.append(str(error))
        self.slowest_seconds = max(self.slowest_seconds, loop.time() - began)

    async def _create(self) -> None:
        name = f"pay-{self.calls}"
        wish = SessionWish(
            payment_request_id=name,
            minor_units=4200,
            currency_code="SGD",
            reference_order_id=f"order-{self.calls}",
        )
        await self.payments.create_session(wish.request())
        self.created.append(name)

    async def _read(self) -> None:
        await self.payments.get_payment(payment_request_id=self.created[-1])


@dataclass
class Stream:
    """One stream as it came over the wire."""

    call: Any
    opened: float
    events: list[str] = field(default_factory=list)
    first_message: float | None = None
    last_marker: str | None = None
    ended: float | None = None
    ending: str = ""

    async def read(self) -> Any:
        """The next message, noted; or how the stream ended."""
        now = asyncio.get_running_loop().time
        try:
            message = await self.call.read()
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
            self.ended = now()
            self.ending = f"{failure.code.name} {failure.reason}".strip()
            raise
        if message is grpc.aio.EOF:
            self.ended, self.ending = now(), "OK"
        else:
            self.first_message = self.first_message or now()
            self.last_marker = message.WhichOneof("marker")
            self.events += [event.event_id for event in message.events]
        return message

    def cancel(self) -> None:
        self.call.cancel()


@dataclass
class Subscriber:
    """Follows everything with the shipped client, and keeps what each stream brought."""

    streams: list[Stream] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    """Event ids as the client gave them out."""

    async def follow(self, payments: Payments) -> None:
        following = payments.follow(Earliest())
        open_stream = following.open_stream

        def opened(request: Any) -> Stream:
            stream = Stream(open_stream(request), asyncio.get_running_loop().time())
            self.streams.append(stream)
            return stream

        async for batch in replace(following, open_stream=opened).batches():
            self.followed += [event.event_id for event in batch.events]

    @property
    def came(self) -> list[str]:
        """Event ids of all streams as they came over the wire."""
        return [event for stream in self.streams for event in stream.events]

    @property
    def gaps_seconds(self) -> list[float]:
        """From the end of each stream to the first message of a later one."""
        heard = [stream for stream in self.streams if stream.first_message is not None]
        return [
            after.first_message - before.ended
            for before, after in itertools.pairwise(heard)
            if before.ended is not None and after.first_message is not None
        ]


def endings(subscribers: list[Subscriber]) -> Counter[str]:
    """How streams ended, and how often."""
    return Counter(
        stream.ending for one in subscribers for stream in one.streams if stream.ended is not None
    )
