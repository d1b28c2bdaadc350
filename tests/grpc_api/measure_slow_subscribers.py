"""How little do others notice of 50 subscribers that never read?

    .venv/bin/python tests/grpc_api/measure_slow_subscribers.py [DATABASE_URL]

Prints the time from an event's making to its arrival at 5 subscribers that read, with and without
50 that do not, and the server's memory. Bar: p99 at most 1.5 times, memory up by less than 10 MB
over 50,000 events. A figure of this machine, so not a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from antom_payments.store import migrate
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from grpc_api.processes import Process, running
from grpc_api.world import LATEST, connected

READERS = 5
NEVER_READING = 50
WARM_UP = 30_000
"""Fills the buffers of those who do not read: 4 MB each, 8 when messages are long."""
RATE, SECONDS = 100, 20
FLOOD = 50_000


async def latencies(port: int, count: int, ready: asyncio.Event) -> list[float]:
    """Milliseconds from the making of each of ``count`` events to its arrival."""
    async with connected(port) as channel:
        call = pb_grpc.PaymentServiceStub(channel).StreamPaymentEvents(LATEST)
        arrived: list[float] = []
        while len(arrived) < count:
            response: pb.StreamPaymentEventsResponse = await call.read()
            now = time.monotonic_ns()
            arrived += [(now - int(event.result_code)) / 1e6 for event in response.events]
            if response.WhichOneof("marker") == "caught_up":
                ready.set()
        return arrived


async def read_while(server: Process, port: int, command: str, count: int) -> list[float]:
    ready = [asyncio.Event() for _ in range(READERS)]
    reading = [asyncio.create_task(latencies(port, count, event)) for event in ready]
    for event in ready:
        await event.wait()
    asked = asyncio.create_task(server.ask(command))
    arrived = sorted(itertools.chain(*await asyncio.gather(*reading)))
    await asked
    return arrived


async def measure(database_url: str, silent: int) -> tuple[float, float, float]:
    """p50 and p99 in milliseconds, and megabytes gained over the flood."""
    async with contextlib.AsyncExitStack() as processes:
        server = await processes.enter_async_context(running("serving_process.py", database_url))
        port = int(await server.line())
        if silent:
            others = await processes.enter_async_context(
                running("never_reads.py", str(port), str(silent))
            )
            await others.line()
        await server.ask(f"append {WARM_UP}")
        arrived = await read_while(server, port, f"rate {RATE * SECONDS} {RATE}", RATE * SECONDS)
        before = int(await server.ask("rss"))
        await read_while(server, port, f"append {FLOOD}", FLOOD)
        grown = (int(await server.ask("rss")) - before) / 1024
        return arrived[len(arrived) // 2], arrived[len(arrived) * 99 // 100], grown


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(database_url: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        p99s: dict[int, list[float]] = {0: [], NEVER_READING: []}
        for turn in range(3):
            for silent, seen in p99s.items():
                url = database_url or f"sqlite+aiosqlite:///{folder}/{turn}-{silent}.db"
                await migrate(url)
                p50, p99, grown = await measure(url, silent)
                seen.append(p99)
                say(
                    f"{silent:3} never reading: p50 {p50:6.2f} ms, p99 {p99:6.2f} ms, "
                    f"memory {grown:+.1f} MB over {FLOOD} events"
                )
        without, with_them = (sorted(seen)[1] for seen in p99s.values())
        say(f"p99 with them is {with_them / without:.2f} times the p99 without (medians of 3)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database_url", nargs="?")
    asyncio.run(main(parser.parse_args().database_url))
