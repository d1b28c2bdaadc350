"""The client against the real server: what one promises is what the other relies on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from antom_payments.client import (
    PLAINTEXT,
    AfterCursor,
    Backoff,
    CursorExpired,
    CursorInvalid,
    Earliest,
    InvalidRequest,
    Latest,
    LogRewound,
    MemoryCursorStore,
    NotFound,
    Payments,
    connect,
)
from antom_payments.store import PaymentStore
from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_service_pb2 import CreateSessionRequest
from client.test_follow import each
from grpc_api.world import options, serving, stream_options
from stored import execute

SOON = Backoff(first_seconds=0.02, longest_seconds=0.1)
PATIENCE = 20.0


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Payments]:
    quick = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20)]
    async with connect(f"127.0.0.1:{port}", credentials=PLAINTEXT, options=quick) as payments:
        yield payments


@asynccontextmanager
async def following(payments: Payments, start: object, **how: object) -> AsyncIterator[Follower]:
    async with aclosing(aiter(payments.follow(start, backoff=SOON, **how))) as events:
        yield Follower(events)


class Follower:
    """What came, and waiting for more."""

    def __init__(self, events: AsyncIterator[PaymentEvent]) -> None:
        self._events = events

    async def take(self, count: int) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            return [(await anext(self._events)).event_id for _ in range(count)]


def ids(events: list[object]) -> list[str]:
    return [event.event_id for event in events]


async def test_history_and_live_events_come_in_order(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        before = await served.news.about("order-1", "order-2")
        async with following(payments, Earliest()) as follower:
            assert await follower.take(2) == ids(before)
            after = await served.news.about("order-3")
            assert await follower.take(1) == ids(after)


async def test_a_payments_cursor_is_where_its_news_goes_on(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about("order-1")
        known = await payments.get_payment(payment_request_id="order-1")
        news = await served.news.about("order-1")
        async with following(
            payments, AfterCursor(known.cursor), payment_request_ids=["order-1"]
        ) as follower:
            assert await follower.take(1) == ids(news)


async def test_planned_ends_of_streams_are_not_noticed(store: PaymentStore) -> None:
    short = stream_options(lifetime_seconds=(0.02, 0.05), retry_seconds=0.01)
    seen, told = [], []
    async with (
        serving(store, short) as served,
        caller(served.server.port) as payments,
        following(payments, Earliest()) as follower,
    ):
        for number in range(12):
            told += await served.news.about(f"order-{number}")
            seen += await follower.take(1)
    assert seen == ids(told)


async def test_a_rolling_restart_loses_and_repeats_nothing(store: PaymentStore) -> None:
    async with serving(store) as first:
        port = first.server.port
        async with caller(port) as payments, following(payments, Earliest()) as follower:
            told = await first.news.about("order-1", "order-2")
            seen = await follower.take(2)
            await first.server.drain()
            told += await first.news.about("order-3")
            async with serving(store, options(address=f"127.0.0.1:{port}")) as second:
                seen += await follower.take(1)
                told += await second.news.about("order-4")
                seen += await follower.take(1)
    assert seen == ids(told)


async def test_latest_starts_with_what_happens_next(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about("order-1")
        batches = payments.follow(Latest(), backoff=SOON).batches()
        async with aclosing(batches), asyncio.timeout(PATIENCE):
            first = await anext(batches)
            news = await served.news.about("order-2")
            seen = list(first.events)
            while not seen:
                seen += (await anext(batches)).events
    assert first.cursor
    assert ids(seen) == ids(news)


async def three_events(store: PaymentStore) -> tuple[list[str], list[str]]:
    """The ids of three payments' events, and the cursor after each; the server stopped again."""
    orders = ("order-1", "order-2", "order-3")
    async with serving(store) as served, caller(served.server.port) as payments:
        told = await served.news.about(*orders)
        known = [await payments.get_payment(payment_request_id=order) for order in orders]
    return ids(told), [payment.cursor for payment in known]


async def test_a_garbled_cursor_is_refused(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        with pytest.raises(CursorInvalid):
            await each(payments.follow(AfterCursor("garbled"), backoff=SOON), print)


async def test_a_cursor_of_pruned_events_tells_where_the_log_begins(store: PaymentStore) -> None:
    told, cursors = await three_events(store)
    await execute(store, "DELETE FROM events WHERE sequence < 3")
    async with serving(store) as served, caller(served.server.port) as payments:
        with pytest.raises(CursorExpired) as gap:
            await each(payments.follow(AfterCursor(cursors[0]), backoff=SOON), print)
        async with following(payments, AfterCursor(gap.value.oldest_cursor)) as follower:
            assert await follower.take(1) == told[2:]


async def test_after_a_gap_a_follower_that_catches_up_goes_on(store: PaymentStore) -> None:
    gaps = []

    async def catch_up(gap: CursorExpired) -> None:
        gaps.append(gap.oldest_cursor)

    told, cursors = await three_events(store)
    await execute(store, "DELETE FROM events WHERE sequence < 3")
    stored = MemoryCursorStore(cursors[0])
    async with (
        serving(store) as served,
        caller(served.server.port) as payments,
        following(payments, Earliest(), cursor_store=stored, on_expired=catch_up) as follower,
    ):
        assert await follower.take(1) == told[2:]
    assert len(gaps) == 1


async def test_a_cursor_of_a_future_that_the_log_lost_is_refused(store: PaymentStore) -> None:
    _, cursors = await three_events(store)
    await execute(store, "DELETE FROM events WHERE sequence > 1")
    async with serving(store) as restored, caller(restored.server.port) as payments:
        with pytest.raises(LogRewound):
            await each(payments.follow(AfterCursor(cursors[2]), backoff=SOON), print)


async def test_errors_of_the_service_are_typed(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        with pytest.raises(NotFound) as missing:
            await payments.get_payment(payment_request_id="nobody")
        assert missing.value.reason == "PAYMENT_NOT_FOUND"
        with pytest.raises(NotFound) as foreign:
            await payments.get_payment(payment_request_id="x", merchant_account="other")
        assert foreign.value.metadata == {"merchant_account": "other"}
        with pytest.raises(InvalidRequest) as wrong:
            await payments.create_session(CreateSessionRequest())
        assert "payment_amount" in [v.field for v in wrong.value.violations]
