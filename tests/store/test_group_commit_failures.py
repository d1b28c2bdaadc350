"""A group that fails: whose fault it is fails alone, an outage fails all, nothing is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import create_async_engine

from antom_payments.decision import decide
from antom_payments.errors import StoreOverloaded, StoreUnavailable, Undecipherable
from antom_payments.fact import Fact
from antom_payments.payment import Decision, Payment
from antom_payments.store import (
    AppliedOutcome,
    DataCipher,
    Member,
    PaymentStore,
    new_data_key,
    open_store,
)
from clock import FrozenClock
from facts import a_capture, a_notification, a_payment_fact
from store.transactions import Transactions, while_one_is_under_way
from stored import (
    SESSION,
    about,
    all_payments,
    begun,
    confirmed,
    intended,
    notified,
    rows,
    told_kinds,
    whole_log,
)


def unencodable() -> Member:
    return notified(replace(about(0), payment_id="P-\ud800"))


def refused_by_a_constraint() -> Member:
    return Member(None, a_notification(request_time=None), not_understood="JSON")


def chokes_decide() -> Member:
    return notified(about(6))


@pytest.mark.parametrize(
    ("poison", "error"),
    [
        (unencodable, UnicodeEncodeError),
        (refused_by_a_constraint, exc.IntegrityError),
        (chokes_decide, ZeroDivisionError),
    ],
)
async def test_a_bad_member_fails_alone_and_the_others_are_committed(
    store: PaymentStore,
    transactions: Transactions,
    monkeypatch: pytest.MonkeyPatch,
    poison: Any,
    error: type[Exception],
) -> None:
    def choking(payment: Payment, fact: Fact, *rest: Any) -> Decision:
        if fact.payment_id == "P-6":
            raise ZeroDivisionError
        return decide(payment, fact, *rest)

    monkeypatch.setattr("antom_payments.store.batch.decide", choking)
    await intended(store, 7)
    calls = [store.apply([notified(about(n))]) for n in range(6)]
    calls.insert(4, store.apply([poison()]))
    answers = await while_one_is_under_way(store, transactions, *calls)
    assert isinstance(answers.pop(4), error)
    assert [a[0].outcome for a in answers] == [AppliedOutcome.APPLIED] * 6  # type: ignore[index] - the others succeeded
    assert [event.payment.payment_request_id for event in await whole_log(store)] == [
        f"order-{n}" for n in range(6)
    ]


@pytest.mark.postgres
async def test_a_value_that_the_database_refuses_is_no_outage(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        await confirmed(store)
        for payment_id in ("P" * 65, "P\x00"):
            good, bad = await asyncio.gather(
                store.apply([notified(a_payment_fact(), b"good")]),
                store.apply([notified(replace(about(0), payment_id=payment_id))]),
                return_exceptions=True,
            )
            assert isinstance(good, list)
            assert isinstance(bad, exc.DBAPIError)


async def test_a_session_that_cannot_be_read_stops_nobody_else(
    database_url: str, store: PaymentStore, clock: FrozenClock
) -> None:
    other_key = DataCipher(new_data_key())
    # Started before anything was stored that would have told it.
    async with open_store(database_url, cipher=other_key, now=clock.now) as other:
        await intended(store, 1)
        claim = await begun(store)
        await store.confirm_session(claim, SESSION)
        unread, applied = await asyncio.gather(
            other.confirm_session(claim, SESSION),
            other.apply([notified(about(0))]),
            return_exceptions=True,
        )
    assert isinstance(unread, Undecipherable)
    assert isinstance(applied, list)
    assert len(await whole_log(store)) == 2


async def test_a_call_of_several_members_is_committed_whole_or_not_at_all(
    store: PaymentStore, transactions: Transactions
) -> None:
    await intended(store, 3)
    one, whole = await while_one_is_under_way(
        store,
        transactions,
        store.apply([notified(about(2))]),
        store.apply([notified(about(0)), unencodable(), notified(about(1))]),
    )
    assert isinstance(one, list)
    assert isinstance(whole, UnicodeEncodeError)
    assert told_kinds(await whole_log(store)) == [("order-2", "PAYMENT_AUTHORIZED")]


async def test_of_news_whose_event_cannot_be_appended_nothing_is_kept(store: PaymentStore) -> None:
    def refuse_events(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT INTO events"):
            raise ZeroDivisionError

    await intended(store, 1)
    event.listen(store._database.engine.sync_engine, "before_cursor_execute", refuse_events)
    with pytest.raises(ZeroDivisionError):
        await store.apply([notified(about(0))])
    for table in ("facts", "notifications", "events"):
        assert await rows(store, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert (await all_payments(store))[0].version == 0


async def test_an_outage_fails_the_whole_group_once_and_later_calls_work(
    store: PaymentStore, transactions: Transactions
) -> None:
    await intended(store, 5)
    first = [asyncio.create_task(store.apply([notified(about(n))])) for n in range(4)]
    before = transactions.count
    transactions.failures.append(exc.OperationalError("COMMIT", None, Exception("disk full")))
    failed = await asyncio.gather(*first, return_exceptions=True)
    assert [type(error) for error in failed] == [StoreUnavailable] * 4
    assert len({id(error) for error in failed}) == 4, "each caller has an error of its own"
    assert transactions.count == before + 1
    assert await whole_log(store) == []
    await asyncio.gather(*(store.apply([notified(about(n))]) for n in range(5)))
    assert len(await whole_log(store)) == 5


class Aborted(Exception):
    """What asyncpg says when PostgreSQL wants the transaction to be run again."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
async def test_a_group_that_the_database_aborts_is_run_again_and_is_one_event_each(
    store: PaymentStore, transactions: Transactions, sqlstate: str
) -> None:
    await intended(store, 4)
    aborted = exc.DBAPIError("COMMIT", None, Aborted(sqlstate))
    transactions.failures.append(aborted)
    await asyncio.gather(*(store.apply([notified(about(n))]) for n in range(4)))
    assert len(await whole_log(store)) == 4


async def somebody_waits_for_a_lock(store: PaymentStore) -> None:
    waits = [(0,)]
    while waits == [(0,)]:
        waits = await rows(store, "SELECT count(*) FROM pg_locks WHERE NOT granted")


@pytest.mark.postgres
async def test_a_deadlock_with_somebody_who_locks_in_another_order_loses_nothing(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    def lock(n: int) -> Any:
        return text(f"SELECT 1 FROM payments WHERE payment_request_id = 'order-{n}' FOR UPDATE")

    engine = create_async_engine(postgres_url)
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        await intended(store, 2)
        async with engine.connect() as other:
            await other.execute(text("SET deadlock_timeout = '1min'"))
            await other.execute(lock(1))
            applying = [asyncio.create_task(store.apply([notified(about(n))])) for n in range(2)]
            await somebody_waits_for_a_lock(store)
            await other.execute(lock(0))
            await other.rollback()
            await asyncio.gather(*applying)
        assert len(await whole_log(store)) == 2
    await engine.dispose()


async def test_a_caller_that_is_cancelled_leaves_its_member_to_be_committed(
    store: PaymentStore, transactions: Transactions
) -> None:
    await intended(store, 3)
    transactions.hold()
    under_way = asyncio.create_task(store.apply([notified(about(0))]))
    await transactions.is_under_way()
    waiting = asyncio.create_task(store.apply([notified(about(1))]))
    other = asyncio.create_task(store.apply([notified(about(2))]))
    await asyncio.sleep(0)
    under_way.cancel()
    waiting.cancel()
    await asyncio.gather(under_way, waiting, return_exceptions=True)
    assert under_way.cancelled()
    assert waiting.cancelled()
    transactions.go_on()
    await other
    assert len(await whole_log(store)) == 3


async def test_closing_the_store_commits_what_was_taken_and_takes_nothing_more(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        await intended(store, 3)
        transactions = Transactions(store)
        transactions.hold()
        taken = [asyncio.create_task(store.apply([notified(about(0))]))]
        await transactions.is_under_way()
        taken.append(asyncio.create_task(store.apply([notified(about(1))])))
        await asyncio.sleep(0)
        transactions.go_on()
    assert all(task.done() for task in taken)
    with pytest.raises(StoreUnavailable):
        await store.apply([notified(about(2))])
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        assert len(await whole_log(store)) == 2


async def test_calls_beyond_the_bound_are_refused_before_any_work(
    store: PaymentStore, transactions: Transactions
) -> None:
    await confirmed(store)
    copies = [notified(a_payment_fact(), b"the same bytes")] * 1024
    many, refused = await while_one_is_under_way(
        store, transactions, store.apply(copies), store.apply([notified(a_capture())])
    )
    assert isinstance(many, list)
    assert isinstance(refused, StoreOverloaded)
    assert refused.metadata["limit"] == "store_writes"
    assert refused.retry_after_seconds
    assert await rows(store, "SELECT count(*) FROM facts WHERE kind = 'CAPTURE'") == [(0,)]
    [applied] = await store.apply([notified(a_capture())])
    assert applied.outcome is AppliedOutcome.APPLIED
