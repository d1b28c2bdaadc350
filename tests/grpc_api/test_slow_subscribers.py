"""Subscribers that never read: they neither slow the others nor fill the server's memory.

`measure_slow_subscribers.py` tells how little the others notice; times are no matter of a test.
"""

from __future__ import annotations

import asyncio

import pytest

from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from grpc_api.processes import Process, running
from grpc_api.world import LATEST, Following, connected

NEVER_READING = 50
WARM_UP = 10_000
"""So many events fill the ring, and the buffers of those who do not read (about 4 MB each)."""
EVENTS = 8_000
GROWTH_KILOBYTES = 10_000


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_50_subscribers_that_never_read_cost_the_others_no_event_and_no_memory_grows(
    database_url: str,
) -> None:
    async with running("serving_process.py", database_url) as server:
        port = await server.line()
        async with (
            running("never_reads.py", port, str(NEVER_READING)) as silent,
            connected(int(port)) as channel,
        ):
            assert await silent.line() == "open"
            stub = pb_grpc.PaymentServiceStub(channel)
            readers = [Following(stub.StreamPaymentEvents(LATEST)) for _ in range(3)]
            for reader in readers:
                await reader.until_marker("caught_up")

            warm = await _read_while(server, f"append {WARM_UP}", readers, WARM_UP)
            before = int(await server.ask("rss"))
            seen = await _read_while(server, f"append {EVENTS}", readers, EVENTS)
            after = int(await server.ask("rss"))

    for ids in (*warm, *seen):
        assert len(set(ids)) == len(ids)
    assert [len(ids) for ids in seen] == [EVENTS] * len(readers)
    assert all(ids == seen[0] for ids in seen)
    assert after - before < GROWTH_KILOBYTES


async def _read_while(
    server: Process, command: str, readers: list[Following], count: int
) -> list[list[str]]:
    """What each reader gets of ``count`` events that are appended meanwhile."""

    async def read(reader: Following) -> list[str]:
        ids: list[str] = []
        while len(ids) < count:
            ids += [event.event_id for event in (await reader.read()).events]
            reader.responses.clear()
        return ids

    appending = asyncio.create_task(server.ask(command))
    seen = await asyncio.gather(*(read(reader) for reader in readers))
    assert await appending == "appended"
    return seen
