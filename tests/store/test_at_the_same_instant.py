"""Many writers at once: no event lost, none made twice, no deadlock, whatever the order."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState
from antom_payments.store import (
    AppliedOutcome,
    DataCipher,
    Member,
    PaymentStore,
    PoolOptions,
    open_store,
)
from clock import FrozenClock
from databases import POSTGRES, SQLITE, Databases
from facts import a_capture, a_payment_fact
from stored import (
    about,
    all_payments,
    confirmed,
    intended,
    notified,
    numbered,
    rows,
    told_kinds,
    whole_log,
)

T = TypeVar("T")
ROUNDS = 50
CALLERS = 4
# Writers queue for one lock: on a slow machine the hundredth waits longer than a caller would.
PATIENT = PoolOptions(size=2, timeout_seconds=60)

Open = Callable[[int], contextlib.AbstractAsyncContextManager[list[PaymentStore]]]


@pytest.fixture
def opened(database_url: str, cipher: DataCipher, clock: FrozenClock) -> Open:
    """Opens several stores on one database, as several processes have them."""

    @contextlib.asynccontextmanager
    async def open_all(count: int) -> AsyncIterator[list[PaymentStore]]:
        async with contextlib.AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    open_store(database_url, cipher=cipher, now=clock.now, pool=PATIENT)
                )
                for _ in range(count)
            ]

    return open_all


async def at_once(*calls: Callable[[], Awaitable[T]]) -> list[T]:
    """Run ``calls`` from the same instant on."""
    barrier = asyncio.Barrier(len(calls))

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        await barrier.wait()
        return await call()

    return list(await asyncio.gather(*(one(call) for call in calls)))


def capture_of(number: int, part: str = "1", units: int = 100) -> Fact:
    capture = a_capture(capture_id=f"C-{number}-{part}", amount=Money("EUR", units))
    return replace(capture, payment_id=f"P-{number}")


async def payment_and_capture_at_once(stores: Sequence[PaymentStore], rounds: int) -> list[Payment]:
    """Each round tells a payment and its capture from two processes at the same instant."""
    one, other = stores
    await intended(one, rounds)
    for n in range(rounds):
        news = [[notified(about(n))], [notified(capture_of(n))]]
        if n % 2:
            news.reverse()
        await at_once(lambda news=news: one.apply(news[0]), lambda news=news: other.apply(news[1]))
    return await all_payments(one)


async def test_a_payment_and_its_capture_at_the_same_instant_always_end_succeeded(
    opened: Open,
) -> None:
    async with opened(2) as stores:
        payments = await payment_and_capture_at_once(stores, ROUNDS)
        assert {payment.state for payment in payments} == {PaymentState.SUCCEEDED}
        kinds = ["CAPTURE_SUCCEEDED", "PAYMENT_AUTHORIZED"]
        assert told_kinds(await whole_log(stores[0])) == sorted(
            (f"order-{n}", kind) for n in range(ROUNDS) for kind in kinds
        )


@pytest.mark.postgres
async def test_without_the_lock_of_the_payment_id_the_same_rounds_lose_captures(
    postgres_url: str,
    cipher: DataCipher,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_lock(connection: AsyncConnection, keys: Sequence[int]) -> None:
        pass

    monkeypatch.setattr("antom_payments.store.facts.lock_transaction", no_lock)
    async with contextlib.AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(
                open_store(postgres_url, cipher=cipher, now=clock.now, pool=PATIENT)
            )
            for _ in range(2)
        ]
        payments = await payment_and_capture_at_once(stores, ROUNDS)
    lost = [payment for payment in payments if payment.state is not PaymentState.SUCCEEDED]
    assert lost, "the rounds above would not notice a missing lock"


async def test_a_hundred_identical_notifications_at_once_are_one_event_and_all_acknowledged(
    opened: Open,
) -> None:
    async with opened(4) as stores:
        await confirmed(stores[0])
        answers = await at_once(
            *(
                lambda store=store: store.apply([notified(a_payment_fact(), b"the same bytes")])
                for store in stores * 25
            )
        )
        outcomes = [answer.outcome for [answer] in answers]
        assert sorted(outcomes) == [AppliedOutcome.APPLIED] + [AppliedOutcome.DUPLICATE] * 99
        [_, event] = await whole_log(stores[0])
        assert event.type is EventType.PAYMENT_AUTHORIZED
        assert {answer.event and answer.event.event_id for [answer] in answers} == {event.event_id}
        assert await rows(stores[0], "SELECT count(*) FROM notifications") == [(1,)]


async def test_a_hundred_identical_orphans_at_once_are_adopted_once(opened: Open) -> None:
    async with opened(4) as stores:
        await confirmed(stores[0])
        news = [notified(a_capture(), b"the same bytes") for _ in range(99)]
        news.insert(50, notified(a_payment_fact(), b"the payment"))
        await at_once(
            *(
                lambda n=n, member=member: stores[n % 4].apply([member])
                for n, member in enumerate(news)
            )
        )
        assert told_kinds(await whole_log(stores[0])) == sorted(
            ("order-1-attempt-1", kind)
            for kind in ("SESSION_CREATED", "PAYMENT_AUTHORIZED", "CAPTURE_SUCCEEDED")
        )


async def test_a_capture_told_of_two_payments_at_once_belongs_to_one(opened: Open) -> None:
    async with opened(2) as stores:
        await numbered(stores[0], 2)
        await stores[0].apply([notified(about(0)), notified(about(1))])
        one = capture_of(0)
        other = replace(one, payment_id="P-1")
        answers = await at_once(
            lambda: stores[0].apply([notified(one)]), lambda: stores[1].apply([notified(other)])
        )
        outcomes = sorted(answer.outcome for [answer] in answers)
        assert outcomes == [AppliedOutcome.APPLIED, AppliedOutcome.CONFLICT]


def a_days_news(payments: int) -> list[Member]:
    """Five distinct facts of each payment: what Antom tells of a payment captured in two parts."""
    facts = []
    for n in range(payments):
        facts += [about(n, outcome) for outcome in (Outcome.PROCESSING, Outcome.PENDING)]
        facts += [about(n), capture_of(n, "1", 60), capture_of(n, "2", 40)]
    return [notified(fact, repr(fact).encode()) for fact in facts]


def the_end(payment: Payment) -> Payment:
    """Where a payment stands, without the order in which it got there."""
    captures = sorted(payment.captures, key=lambda capture: capture.capture_id)
    return replace(payment, captures=tuple(captures), last_sequence=0)


async def everything(store: PaymentStore) -> list[Payment]:
    return [the_end(payment) for payment in await all_payments(store)]


async def test_a_thousand_shuffled_notifications_from_eight_connections_equal_the_ordered_run(
    opened: Open, databases: Databases, cipher: DataCipher, clock: FrozenClock, database_url: str
) -> None:
    payments, seed = 200, 20260302
    news = a_days_news(payments)
    kind = SQLITE if database_url.startswith("sqlite") else POSTGRES
    async with (
        databases.fresh(kind) as url,
        open_store(url, cipher=cipher, now=clock.now) as store,
    ):
        await intended(store, payments)
        await store.apply(news)
        expected = await everything(store)
        expected_kinds = told_kinds(await whole_log(store))
    shuffled = random.Random(seed)
    told = news + shuffled.choices(news, k=200)
    shuffled.shuffle(told)
    async with opened(8) as stores:
        await intended(stores[0], payments)
        parts = [told[n::8] for n in range(8)]

        async def tell(store: PaymentStore, part: list[Member]) -> None:
            while part:
                batch = [part.pop() for _ in range(min(len(part), shuffled.randint(1, 4)))]
                await store.apply(batch)

        # Several callers at each, so that their members share transactions.
        await at_once(
            *(
                lambda store=store, part=part: tell(store, part)
                for store, part in zip(stores * CALLERS, parts * CALLERS, strict=True)
            )
        )
        events = await whole_log(stores[0])
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert told_kinds(events) == expected_kinds
        assert await everything(stores[0]) == expected
    if kind == POSTGRES:
        async with opened(1) as [store]:
            query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            assert await rows(store, query) == [(0,)]
