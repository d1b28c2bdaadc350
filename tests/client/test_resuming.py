"""The real client, crashed and resumed at random points while events are appended."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

from antom_payments.client import AfterCursor, Earliest
from antom_payments.store import PaymentStore
from client.test_real_server import PATIENCE, SOON, caller
from event_stream.news import News, whole_log
from grpc_api.world import serving

CRASHES = 50


async def keep_appending(store: PaymentStore, over: asyncio.Event) -> None:
    moods, news = random.Random(1), News(store)
    while not over.is_set():
        await news.about(*(f"payment-{n}" for n in range(moods.randint(1, 4))))
        await asyncio.sleep(moods.choice((0.001, 0.01)))


async def test_a_client_that_crashes_and_resumes_fifty_times_sees_exactly_the_log(
    store: PaymentStore,
) -> None:
    moods = random.Random(3)
    effects: list[str] = []
    cursor = ""
    over = asyncio.Event()

    async def live(port: int, batches_taken: int) -> None:
        """Take some batches; effects and cursor are kept together, or neither."""
        nonlocal cursor
        start = AfterCursor(cursor) if cursor else Earliest()
        async with (
            caller(port) as payments,
            aclosing(payments.follow(start, backoff=SOON).batches()) as batches,
        ):
            for _ in range(batches_taken):
                batch = await anext(batches)
                if moods.random() < 0.2:
                    return
                effects.extend(event.event_id for event in batch.events)
                cursor = batch.cursor

    async with (
        asyncio.timeout(PATIENCE * 2),
        serving(store) as served,
        asyncio.TaskGroup() as writers,
    ):
        writers.create_task(keep_appending(store, over))
        for _ in range(CRASHES):
            await live(served.server.port, moods.randint(0, 4))
        over.set()
        await asyncio.sleep(0)
    log = [event_id for _, event_id in await whole_log(store)]
    async with asyncio.timeout(PATIENCE), serving(store) as served:
        while len(effects) < len(log):
            await live(served.server.port, 1)
    assert effects == log
    assert len(log) > CRASHES
