"""The least that grpc.aio can do: answers that are ready, on the paths of our service.

Prints its port. `prepare` gives it the bytes of a GetPayment answer and of an event; then
GetPayment answers with the one, and each subscriber's handler waits for events and writes each of
them as a message of its own: `burst` makes some, `stamp` one that says when it was made.
"""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import grpc
import uvloop

from antom_payments.v1 import payment_event_pb2, payment_service_pb2
from bench.obedience import obey, say

SERVICE = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"].full_name
READY = payment_service_pb2.StreamPaymentEventsResponse(
    caught_up=payment_service_pb2.StreamPaymentEventsResponse.CaughtUp()
).SerializeToString()


class Bare:
    """A log in memory, and who waits for more of it."""

    def __init__(self) -> None:
        self._answer = b""
        self._event = b""
        self._log: list[bytes] = []
        self._grew = asyncio.Event()

    async def prepare(self, answer: str = "", event: str = "") -> bool:
        self._answer, self._event = base64.b64decode(answer), base64.b64decode(event)
        return True

    async def burst(self, events: int) -> bool:
        self._append([self._event] * events)
        return True

    async def stamp(self) -> bool:
        told = payment_event_pb2.PaymentEvent(result_code=str(time.monotonic_ns()))
        response = payment_service_pb2.StreamPaymentEventsResponse(events=[told])
        self._append([response.SerializeToString()])
        return True

    async def answer(self, _request: bytes, _context: Any) -> bytes:
        return self._answer

    async def follow(self, _request: bytes, context: Any) -> None:
        place = len(self._log)
        await context.write(READY)
        while True:
            while place < len(self._log):
                await context.write(self._log[place])
                place += 1
            await self._grew.wait()

    def _append(self, messages: list[bytes]) -> None:
        self._log += messages
        # Whoever waits wakes up; whoever is writing looks at the log itself.
        self._grew.set()
        self._grew = asyncio.Event()


async def main() -> None:
    bare = Bare()
    methods = {
        "GetPayment": grpc.unary_unary_rpc_method_handler(bare.answer),
        "StreamPaymentEvents": grpc.unary_stream_rpc_method_handler(bare.follow),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port)
    await obey({"prepare": bare.prepare, "burst": bare.burst, "stamp": bare.stamp})
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main())
