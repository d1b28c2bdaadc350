"""Callers, subscribers and Antom's notifications in a process of their own: `python -m bench.load`.

Every answer is looked at: one that is not what was asked for ends the run.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import uvloop

from antom_payments.antom.signing import Signer, load_private_key
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from bench.obedience import obey
from grpc_api.sessions import card_session
from grpc_api.world import LATEST, connected
from keys import golden_pair
from notifications.sidecars import ACKNOWLEDGEMENT, CLIENT_ID, Antom, message
from notifications.wire import Wire, request

AMOUNT = {"currency": "EUR", "value": "100"}
CALL_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 0.2
"""Between notifications that come alone."""
STREAMS_OF_A_CONNECTION = 50


class WrongAnswer(Exception):
    """An operation worked, and its answer is another one than was asked for."""


class Load:
    """What stays open between commands: connections, subscriptions, notifications ready to go."""

    def __init__(self, open_: AsyncExitStack) -> None:
        self._open = open_
        self._stubs: dict[int, Any] = {}
        self._requests: list[bytes] = []
        self._calls: list[Any] = []
        self._chance = random.Random(1)
        antom_key = load_private_key(golden_pair("antom").private, setting="bench")
        self._antom = Antom(Signer(antom_key, CLIENT_ID), lambda: datetime.now(UTC))

    async def create_sessions(self, port: int, prefix: str, count: int, in_flight: int) -> float:
        """Create so many new payments; the seconds that it took."""
        stub = await self._stub(port)

        async def create(number: int) -> None:
            asked = card_session(f"{prefix}-{number}")
            answer = await stub.CreateSession(asked, timeout=CALL_SECONDS)
            _expect(answer.session.payment_session_data)
            _expect(answer.payment.payment_request_id == asked.payment_request_id)

        return await _timed(create, count, in_flight)

    async def get_payments(self, port: int, name: str, count: int, in_flight: int) -> float:
        """Read a payment so many times; the seconds that it took."""
        stub = await self._stub(port)
        asked = pb.GetPaymentRequest(payment_request_id=name)

        async def get(_number: int) -> None:
            answer = await stub.GetPayment(asked, timeout=CALL_SECONDS)
            _expect(answer.payment.payment_request_id == name)

        return await _timed(get, count, in_flight)

    async def sign(self, names: list[str]) -> int:
        """Sign what Antom tells of these payments: each is paid, and then captured."""
        bodies = [
            *(
                message("03", paymentRequestId=n, paymentId=f"P-{n}", paymentAmount=AMOUNT)
                for n in names
            ),
            *(
                message("06", captureId=f"C-{n}", paymentId=f"P-{n}", captureAmount=AMOUNT)
                for n in names
            ),
        ]
        self._requests = [request(body, headers=self._antom.headers(body)) for body in bodies]
        return len(self._requests)

    async def notify(self, port: int, in_flight: int) -> float:
        """Send what was signed, until each is acknowledged; the seconds that it took."""
        left = iter(self._requests)
        async with _connections(port, in_flight) as wires:
            began = time.perf_counter()
            async with asyncio.TaskGroup() as senders:
                for wire in wires:
                    senders.create_task(_notify_all(wire, left))
            return time.perf_counter() - began

    async def notify_alone(self, port: int) -> list[float]:
        """Send what was signed one by one; milliseconds from each to its event at the subscriber.

        The subscriber is the one of `subscribe`, in this process. Spaced at random, because what
        follows closely shares hints with what was before it.
        """
        [call] = self._calls
        times = []
        async with _connections(port, 1) as [wire]:
            for data in self._requests:
                await asyncio.sleep(self._chance.uniform(0, LONGEST_PAUSE_SECONDS))
                began = time.perf_counter()
                _, ended = await asyncio.gather(_notify(wire, data), _one_event(call))
                times.append((ended - began) * 1e3)
        return times

    async def subscribe(self, port: int, count: int) -> int:
        """Open so many subscriptions of everything from now on, until each has caught up.

        One connection's after the other: a thousand calls that begin at once are more than gRPC
        keeps waiting, and it cancels some.
        """
        calls: list[Any] = []
        for start in range(0, count, STREAMS_OF_A_CONNECTION):
            channel = await self._open.enter_async_context(connected(port))
            stub = pb_grpc.PaymentServiceStub(channel)
            opened = [
                stub.StreamPaymentEvents(LATEST)
                for _ in range(start, min(start + STREAMS_OF_A_CONNECTION, count))
            ]
            await asyncio.gather(*map(_caught_up, opened))
            calls += opened
        self._calls = calls
        return len(calls)

    async def receive(self, events: int) -> int:
        """Wait until each subscriber has so many more events; CLOCK_MONOTONIC in ns by then."""
        await asyncio.gather(*(_receive(call, events) for call in self._calls))
        return time.monotonic_ns()

    async def receive_stamped(self) -> float:
        """Milliseconds from the making of the next event to its arrival."""
        response = await _next_events(self._calls[0])
        return (time.monotonic_ns() - int(response.events[0].result_code)) / 1e6

    async def _stub(self, port: int) -> Any:
        if port not in self._stubs:
            channel = await self._open.enter_async_context(connected(port))
            self._stubs[port] = pb_grpc.PaymentServiceStub(channel)
        return self._stubs[port]


async def _timed(operation: Callable[[int], Awaitable[None]], count: int, in_flight: int) -> float:
    """Do it ``count`` times, ``in_flight`` at a time; the first that fails ends it."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await operation(number)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(work())
    return time.perf_counter() - began


@asynccontextmanager
async def _connections(port: int, count: int) -> AsyncIterator[list[Wire]]:
    """New ones: the sidecar closes those that are idle for some seconds."""
    async with AsyncExitStack() as open_:
        yield [await open_.enter_async_context(await Wire.connect(port)) for _ in range(count)]


async def _notify_all(wire: Wire, left: Iterator[bytes]) -> None:
    for data in left:
        await _notify(wire, data)


async def _notify(wire: Wire, data: bytes) -> None:
    wire.send(data)
    answer = await wire.answer()
    if answer is None or answer.status != 200 or answer.body != ACKNOWLEDGEMENT:
        raise WrongAnswer(f"no acknowledgement: {answer}")


async def _next_events(call: Any) -> pb.StreamPaymentEventsResponse:
    """The next response with events; markers and checkpoints are none."""
    while True:
        response: pb.StreamPaymentEventsResponse = await call.read()
        _expect(response is not grpc.aio.EOF)
        if response.events:
            return response


async def _one_event(call: Any) -> float:
    """When the next response came, by `time.perf_counter`; it must be of one event."""
    response = await _next_events(call)
    ended = time.perf_counter()
    _expect(len(response.events) == 1)
    return ended


async def _caught_up(call: Any) -> None:
    response = await call.read()
    _expect(response is not grpc.aio.EOF and response.WhichOneof("marker") == "caught_up")


async def _receive(call: Any, events: int) -> None:
    left = events
    while left > 0:
        left -= len((await _next_events(call)).events)
    _expect(left == 0)


def _expect(is_so: object) -> None:
    if not is_so:
        raise WrongAnswer


async def main() -> None:
    async with AsyncExitStack() as open_:
        load = Load(open_)
        names = [name for name in vars(Load) if not name.startswith("_")]
        await obey({name: getattr(load, name) for name in names})


if __name__ == "__main__":
    uvloop.run(main())
