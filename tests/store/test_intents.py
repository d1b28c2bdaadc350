"""Intents at the same time share a transaction, and each ends as it would have alone."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import exc

from antom_payments.errors import (
    PaymentRequestIdReused,
    SessionInFlight,
    StoreOverloaded,
    StoreUnavailable,
)
from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import PaymentState
from antom_payments.store import DataCipher, PaymentStore, PoolOptions, SessionClaim, open_store
from antom_payments.store.sessions import Intent
from clock import FrozenClock
from facts import NOW, a_payment, a_payment_fact
from store.transactions import Transactions
from stored import REQUEST, SESSION, begun, notified, rows

Begun = Coroutine[Any, Any, SessionClaim]
OTHER_AMOUNT = {"amount": Money("EUR", 7)}


def one(store: PaymentStore, name: str, **more: Any) -> Begun:
    return begun(store, payment_request_id=name, reference_order_id=name, **more)


async def as_one_group(
    store: PaymentStore, transactions: Transactions, *calls: Begun
) -> list[SessionClaim | BaseException]:
    """What becomes of ``calls`` that come, in this order, while an intent is being stored."""
    transactions.hold()
    first = asyncio.create_task(one(store, "under way"))
    await transactions.is_under_way()
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)  # each has asked
    transactions.go_on()
    await asyncio.gather(first, return_exceptions=True)
    return list(await asyncio.gather(*waiting, return_exceptions=True))


async def names(store: PaymentStore) -> list[str]:
    found = await rows(store, "SELECT payment_request_id FROM payments ORDER BY 1")
    return [row[0] for row in found]


async def test_alone_an_intent_is_a_transaction_of_its_own_at_once(
    store: PaymentStore, transactions: Transactions
) -> None:
    for n in range(3):
        assert (await one(store, f"order-{n}")).lease_token
        assert transactions.count == n + 1


async def test_intents_that_come_meanwhile_share_the_next_transaction_whatever_their_order(
    store: PaymentStore, transactions: Transactions
) -> None:
    order = [*range(10, 20), *range(10)]
    claims = await as_one_group(store, transactions, *(one(store, f"order-{n}") for n in order))
    assert transactions.count == 2
    tokens = set()
    for n, claim in zip(order, claims, strict=True):
        assert isinstance(claim, SessionClaim)
        assert claim.payment.payment_request_id == f"order-{n}"
        assert not claim.was_sent_before
        tokens.add(claim.lease_token)
    assert len(tokens) == 20
    for table in ("private_data", "inquiries"):
        assert await rows(store, f"SELECT count(*) FROM {table}") == [(21,)]
    stored = await rows(store, "SELECT lease_token FROM payments")
    assert {row[0] for row in stored} >= tokens


# What there is under an id before the group comes, two seconds later.


async def nothing(store: PaymentStore, name: str) -> None:
    pass


async def leased(store: PaymentStore, name: str) -> None:
    await one(store, name, lease_seconds=60)


async def lease_over(store: PaymentStore, name: str) -> None:
    await one(store, name, lease_seconds=1)


async def given_back(store: PaymentStore, name: str) -> None:
    await store.release_session(await one(store, name))


async def live(store: PaymentStore, name: str) -> None:
    await store.confirm_session(await one(store, name), SESSION)


async def expired(store: PaymentStore, name: str) -> None:
    over = replace(SESSION, payment_session_expiry_time=NOW + timedelta(seconds=1))
    await store.confirm_session(await one(store, name), over)


async def final(store: PaymentStore, name: str) -> None:
    await live(store, name)
    ids = {"payment_request_id": name, "payment_id": name, "fact_id": name}
    await store.apply([notified(a_payment_fact(Outcome.FAILED, **ids), name.encode())])


BEFORE = (nothing, leased, lease_over, given_back, live, expired, final)
GROUPS = ("same", "other", "same same", "same other", "other same", "same same same")
"""Intents under one id: as what is stored, or of another amount."""


def in_words(answer: SessionClaim | BaseException) -> tuple[object, ...]:
    """What a caller is told, without what differs between any two calls."""
    match answer:
        case SessionClaim(payment, session, lease_token, request, was_sent_before):
            does = "asks Antom" if lease_token else "asks nobody"
            return (does, session, request, was_sent_before, payment.state, payment.amount)
        case PaymentRequestIdReused(differing=differing):
            return ("is refused", differing)
        case SessionInFlight(retry_after_seconds=seconds):
            return ("is to come back", seconds)
    raise AssertionError(answer)


async def test_each_of_a_group_ends_as_if_they_had_come_one_after_the_other(
    store: PaymentStore, transactions: Transactions, clock: FrozenClock
) -> None:
    """Every history of an id by every sort of company under it, all in one group."""
    cases = [(before, group) for before in BEFORE for group in GROUPS]
    for way in ("together", "alone"):
        for before, group in cases:
            await before(store, f"{way} {before.__name__} {group}")
    clock.advance(2)
    # All the first ones, then all the second ones: those of one id keep their order.
    asked = [
        (f"{before.__name__} {group}", {} if kinds[place] == "same" else OTHER_AMOUNT)
        for place in range(3)
        for before, group in cases
        if place < len(kinds := group.split())
    ]
    together = await as_one_group(
        store, transactions, *(one(store, f"together {case}", **more) for case, more in asked)
    )
    told, alike = defaultdict(list), defaultdict(list)
    for (case, more), answer in zip(asked, together, strict=True):
        told[case].append(in_words(answer))
        alone = one(store, f"alone {case}", **more)
        alike[case] += map(in_words, await asyncio.gather(alone, return_exceptions=True))
    for case, answers in alike.items():
        # Which of several under a known id is the first is anybody's.
        assert Counter(told[case]) == Counter(answers), case
        assert sum(words[:1] == ("asks Antom",) for words in told[case]) <= 1, case


async def test_a_bad_intent_fails_alone_and_the_others_are_stored(
    store: PaymentStore, transactions: Transactions
) -> None:
    calls = [one(store, f"order-{n}") for n in range(6)]
    calls.insert(4, begun(store, payment_request_id="bad", reference_order_id="\ud800"))
    answers = await as_one_group(store, transactions, *calls)
    assert isinstance(answers.pop(4), UnicodeEncodeError | exc.DBAPIError)
    assert all(isinstance(answer, SessionClaim) for answer in answers)
    assert await names(store) == [*(f"order-{n}" for n in range(6)), "under way"]


async def test_an_outage_stores_none_of_a_group_and_each_may_come_again(
    store: PaymentStore, transactions: Transactions
) -> None:
    transactions.failures += [
        exc.OperationalError("COMMIT", None, Exception("disk full")),
        exc.OperationalError("COMMIT", None, Exception("disk full")),
    ]
    failed = await as_one_group(store, transactions, *(one(store, f"order-{n}") for n in range(3)))
    assert [type(error) for error in failed] == [StoreUnavailable] * 3
    assert await names(store) == []
    for n in range(3):
        claim = await one(store, f"order-{n}")
        assert claim.lease_token
        assert not claim.was_sent_before


class Aborted(Exception):
    """What asyncpg says when PostgreSQL wants the transaction to be run again."""

    sqlstate = "40001"


async def test_a_group_that_the_database_aborts_is_run_again(
    store: PaymentStore, transactions: Transactions
) -> None:
    transactions.failures.append(exc.DBAPIError("COMMIT", None, Aborted()))
    claims = await asyncio.gather(*(one(store, f"order-{n}") for n in range(3)))
    assert all(claim.lease_token and not claim.was_sent_before for claim in claims)


async def test_an_intent_whose_commit_was_not_heard_of_has_its_lease_and_may_have_been_sent(
    store: PaymentStore,
) -> None:
    intent = Intent(a_payment(PaymentState.CREATING, version=0), REQUEST, "token", 15)
    write, sessions = store._database.write, store._sessions
    [first] = await write(lambda connection: sessions.begin(connection, [intent]))
    assert first is not None
    assert first.lease_token == "token"
    assert await write(lambda connection: sessions.begin(connection, [intent])) == [None]
    again = await write(lambda connection: sessions.begin_again(connection, intent))
    assert (again.lease_token, again.request, again.was_sent_before) == ("token", REQUEST, True)


async def test_an_intent_whose_caller_left_before_its_turn_is_not_stored(
    store: PaymentStore, transactions: Transactions
) -> None:
    """Its lease would keep others waiting for nobody."""
    transactions.hold()
    under_way = asyncio.create_task(one(store, "under way"))
    await transactions.is_under_way()
    left, stays = (asyncio.create_task(one(store, name)) for name in ("left", "stays"))
    await asyncio.sleep(0)
    under_way.cancel()
    left.cancel()
    await asyncio.gather(under_way, left, return_exceptions=True)
    transactions.go_on()
    await stays
    assert await names(store) == ["stays", "under way"]


async def test_nobody_waits_longer_than_for_one_write_and_nothing_is_begun_after(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    brief = PoolOptions(size=1, timeout_seconds=5, budget_seconds=0.2)
    async with open_store(database_url, cipher=cipher, now=clock.now, pool=brief) as store:
        transactions = Transactions(store)
        answers = as_one_group_that_hangs(store, transactions)
        assert [type(error) for error in await answers] == [StoreUnavailable] * 2
        transactions.go_on()
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        assert await names(store) == ["under way"]


async def as_one_group_that_hangs(
    store: PaymentStore, transactions: Transactions
) -> list[SessionClaim | BaseException]:
    transactions.hold()
    first = asyncio.create_task(one(store, "under way"))
    await transactions.is_under_way()
    return list(await asyncio.gather(first, one(store, "waits"), return_exceptions=True))


async def test_beyond_a_number_one_more_is_turned_away(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    few = PoolOptions(in_flight=2)
    async with open_store(database_url, cipher=cipher, now=clock.now, pool=few) as store:
        calls = [one(store, f"order-{n}") for n in range(3)]
        *stored, refused = await as_one_group(store, Transactions(store), *calls)
        assert all(isinstance(claim, SessionClaim) for claim in stored)
        assert isinstance(refused, StoreOverloaded)
        assert refused.metadata["limit"] == "database_in_flight"
        assert await names(store) == ["order-0", "order-1", "under way"]
