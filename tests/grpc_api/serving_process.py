"""A server in a process of its own: `python serving_process.py DATABASE_URL`.

Prints its port, then answers lines on stdin: `append COUNT` (then prints `appended`), `rate COUNT
PER_SECOND` (the same, spread over time), `rss` (prints kilobytes). Ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from antom_payments.event_stream import EventStream
from antom_payments.fact import Fact
from antom_payments.grpc_api import (
    CallLimits,
    DrainOptions,
    GrpcOptions,
    GrpcServer,
    StreamOptions,
    encode,
)
from antom_payments.service import PaymentService
from antom_payments.store import DataCipher, Member, PaymentStore, new_data_key, open_store
from event_stream.news import News
from grpc_api.world import news

PAYMENT_REQUEST_ID = "order-1"
AT_ONCE = 500
OPTIONS = GrpcOptions(
    address="127.0.0.1:0",
    limits=CallLimits(streams_per_peer=2_000),
    # Nobody is let go: subscribers that do not read stay for the whole test.
    streams=StreamOptions(write_timeout_seconds=600, lifetime_seconds=(900, 900)),
    drain=DrainOptions(endpoint_delay_seconds=0, spread_seconds=0, grace_seconds=1),
)


def utc_now() -> datetime:
    return datetime.now(UTC)


def told_now() -> Fact:
    """News that says when it was made."""
    return news(PAYMENT_REQUEST_ID, result_code=str(time.monotonic_ns()))


async def append(store: PaymentStore, count: int) -> None:
    for start in range(0, count, AT_ONCE):
        await store.apply([Member(told_now()) for _ in range(min(AT_ONCE, count - start))])


async def append_at(store: PaymentStore, count: int, per_second: float) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number in range(count):
        await asyncio.sleep(max(0, begun + number / per_second - loop.time()))
        await store.apply([Member(told_now())])


def resident_kilobytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


async def obey(store: PaymentStore) -> None:
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    while line := (await stdin.readline()).decode().split():
        match line:
            case ["append", count]:
                await append(store, int(count))
                say("appended")
            case ["rate", count, per_second]:
                await append_at(store, int(count), float(per_second))
                say("appended")
            case ["rss"]:
                say(str(resident_kilobytes()))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(database_url: str) -> None:
    cipher = DataCipher(new_data_key())
    async with open_store(database_url, cipher=cipher, now=utc_now) as store:
        await News(store).about(PAYMENT_REQUEST_ID)
        stream = EventStream(store.log, encode=encode, ring_events=2_000)
        tail = asyncio.create_task(stream.run())
        service = PaymentService(store, {}, now=utc_now)
        async with GrpcServer(service, stream, check=store.ping, options=OPTIONS) as server:
            say(str(server.port))
            await obey(store)
        tail.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tail


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
