"""Subscribers that never read, in a process of their own: `python never_reads.py PORT COUNT`.

Prints a line when all streams are open, and waits to be killed. Raw gRPC with its usual buffers:
megabytes of messages may lie in this process, which is why it is not the test's.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from antom_payments.v1 import payment_service_pb2 as pb


async def main(port: int, count: int) -> None:
    request = pb.StreamPaymentEventsRequest(latest=pb.StreamPaymentEventsRequest.Latest())
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    subscribe = channel.unary_stream(
        "/antom_payments.v1.PaymentService/StreamPaymentEvents",
        request_serializer=pb.StreamPaymentEventsRequest.SerializeToString,
    )
    calls = [subscribe(request) for _ in range(count)]
    for call in calls:
        await call.read()  # the stream is open
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
