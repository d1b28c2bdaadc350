"""Snapshots, times and paces through the client, against the real server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from antom_payments.client import (
    AtTime,
    CursorExpired,
    Earliest,
    InvalidRequest,
    MemoryCursorStore,
    Snapshot,
)
from antom_payments.client.terminal import WatchWish, watched
from antom_payments.store import PaymentStore
from client.test_real_server import PATIENCE, SOON, caller, following
from event_stream.news import execute
from grpc_api.world import serving


async def test_a_snapshot_is_resumed_in_its_middle_from_the_stored_cursor(
    store: PaymentStore,
) -> None:
    kept = MemoryCursorStore()
    versions: dict[str, int] = {}
    ends = 0
    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about(*(f"order-{n}" for n in range(130)))
        follow = payments.follow(Snapshot(), cursor_store=kept, backoff=SOON)
        async with asyncio.timeout(PATIENCE):
            while not ends:
                # A consumer that stops after each second batch, and starts again.
                async with aclosing(follow.batches()) as batches:
                    for _ in range(2):
                        batch = await anext(batches)
                        for payment in batch.payments:
                            assert payment.payment_request_id not in versions or kept.cursor
                            versions[payment.payment_request_id] = payment.version
                        ends += batch.snapshot_end
    assert versions == {f"order-{n}": 1 for n in range(130)}


async def test_events_alone_are_refused_where_payments_would_be_lost(
    store: PaymentStore,
) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about("order-1")
        async with following(payments, Snapshot()) as follower:
            with pytest.raises(ValueError, match="batches"):
                await follower.take(1)
        batches = payments.follow(Snapshot(), backoff=SOON).batches()
        async with aclosing(batches):
            assert (await anext(batches)).payments


async def test_a_follower_whose_snapshot_expired_takes_a_new_one(
    store: PaymentStore, database_url: str
) -> None:
    kept = MemoryCursorStore()
    told: list[CursorExpired] = []

    async def note(expired: CursorExpired) -> None:
        told.append(expired)

    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about("order-1", "order-2")
        first = payments.follow(Snapshot(), backoff=SOON).batches()
        async with aclosing(first):
            kept.cursor = (await anext(first)).cursor
        await served.news.about("order-1")
    await execute(database_url, "DELETE FROM events WHERE sequence < 3")
    async with serving(store) as served, caller(served.server.port) as payments:
        follow = payments.follow(Snapshot(), cursor_store=kept, on_expired=note, backoff=SOON)
        async with asyncio.timeout(PATIENCE), aclosing(follow.batches()) as batches:
            batch = await anext(batches)
    assert len(told) == 1
    assert [payment.version for payment in batch.payments] == [1, 2]


async def test_a_follower_starts_at_a_time_and_keeps_to_its_pace(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about("order-1", "order-2")
        start = AtTime(datetime(2001, 1, 1, tzinfo=UTC))
        async with following(
            payments, start, checkpoint_seconds=5, max_events_per_second=1
        ) as follower:
            assert len(await follower.take(2)) == 2
        async with following(payments, Earliest(), checkpoint_seconds=0.5) as follower:
            with pytest.raises(InvalidRequest):
                await follower.take(1)
        with pytest.raises(ValueError, match="zone"):
            payments.follow(AtTime(datetime(2001, 1, 1)))


async def test_the_command_line_prints_payments_and_then_events(store: PaymentStore) -> None:
    async with serving(store) as served:
        await served.news.about("order-1")
        lines = []
        wishes = (WatchWish(snapshot=True), WatchWish(at_time=datetime(2001, 1, 1, tzinfo=UTC)))
        for wish in wishes:
            for as_json in (False, True):
                address = f"127.0.0.1:{served.server.port}"
                async with aclosing(watched(address, wish, as_json=as_json)) as told:
                    lines.append((await anext(told))[1])
    assert "PROCESSING  order-1 (USD 1250 minor units)  cursor=" in lines[0]
    assert lines[1].startswith('{"payment":{')
    assert "CREATING → PROCESSING  order-1" in lines[2]
    assert lines[3].startswith('{"event":{')
