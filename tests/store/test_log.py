"""The event log: dense, in commit order, read by pages that lose nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import LogCorrupt
from antom_payments.fact import Outcome
from antom_payments.payment import EventType
from antom_payments.payment_event import EventFilter
from antom_payments.store import DataCipher, LogPage, PaymentStore, migrate, open_store
from antom_payments.store.log import append
from antom_payments.store.tables import events as events_table
from clock import FrozenClock
from databases import SQLITE, Databases
from stored import about, confirmed, execute, notified, numbered, whole_log


def sequences(page: LogPage) -> list[int]:
    return [event.sequence for event in page.events]


async def test_an_empty_log_has_no_bounds(store: PaymentStore) -> None:
    assert await store.log.bounds() == (0, 0)
    assert await store.log.page(0) == LogPage((), 0, 0, 0)
    assert await store.log.event(1) is None


async def test_events_are_numbered_from_one_without_holes(store: PaymentStore) -> None:
    await numbered(store, 3)
    await store.apply([notified(about(n)) for n in range(3)])
    events = await whole_log(store)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert len({event.event_id for event in events}) == 6
    assert await store.log.bounds() == (1, 6)


async def test_a_transaction_that_fails_leaves_no_hole(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)

    async def fails(connection: AsyncConnection) -> None:
        await append(connection, await whole_log(store), clock.now)

    with pytest.raises(IntegrityError):
        await store._database.write(fails)
    await confirmed(store, payment_request_id="order-2")
    assert [event.sequence for event in await whole_log(store)] == [1, 2]


async def test_the_versions_of_a_payment_are_dense(store: PaymentStore) -> None:
    await numbered(store, 2)
    for outcome in (Outcome.PROCESSING, Outcome.PENDING, Outcome.SUCCEEDED):
        await store.apply([notified(about(0, outcome)), notified(about(1, outcome))])
    for n in range(2):
        versions = [
            event.payment.version
            for event in await whole_log(store)
            if event.payment.payment_request_id == f"order-{n}"
        ]
        assert versions == [1, 2, 3, 4]


async def test_one_event_is_found_by_its_number(store: PaymentStore) -> None:
    await numbered(store, 3)
    assert await store.log.event(2) == (await whole_log(store))[1]
    assert await store.log.event(4) is None


async def test_a_page_holds_what_follows_and_says_how_far_it_reaches(store: PaymentStore) -> None:
    await numbered(store, 5)
    page = await store.log.page(2)
    assert (sequences(page), page.through, page.oldest, page.head) == ([3, 4, 5], 5, 1, 5)
    page = await store.log.page(0, limit=2)
    assert (sequences(page), page.through) == ([1, 2], 2)
    page = await store.log.page(1, window=2)
    assert (sequences(page), page.through, page.head) == ([2, 3], 3, 5)


async def test_a_page_at_the_end_is_empty_and_stays_there(store: PaymentStore) -> None:
    await numbered(store, 2)
    for after in (2, 7):
        page = await store.log.page(after)
        assert (sequences(page), page.through, page.head) == ([], after, 2)


async def test_a_filtered_page_passes_over_others_events_as_far_as_it_looked(
    store: PaymentStore,
) -> None:
    await numbered(store, 6)
    only = EventFilter(payment_request_ids=frozenset({"order-1", "order-5"}))
    page = await store.log.page(0, event_filter=only)
    assert (sequences(page), page.through) == ([2, 6], 6)
    page = await store.log.page(0, window=4, event_filter=only)
    assert (sequences(page), page.through) == ([2], 4)
    page = await store.log.page(0, limit=1, event_filter=only)
    assert (sequences(page), page.through) == ([2], 2)


@pytest.mark.parametrize(
    "event_filter",
    [
        EventFilter(),
        EventFilter(merchant_accounts=frozenset({"other"})),
        EventFilter(merchant_accounts=frozenset()),
        EventFilter(payment_request_ids=frozenset({"order-0"})),
        EventFilter(types=frozenset({EventType.PAYMENT_FAILED, EventType.SESSION_CREATED})),
        EventFilter(final_states_only=True),
        EventFilter(
            merchant_accounts=frozenset({"default"}),
            types=frozenset({EventType.PAYMENT_AUTHORIZED}),
        ),
    ],
    ids=[
        "none",
        "others",
        "nobodys",
        "one_payment",
        "two_types",
        "final_states",
        "own_of_one_type",
    ],
)
async def test_the_database_filters_as_the_domain_does(
    store: PaymentStore, event_filter: EventFilter
) -> None:
    await numbered(store, 3)
    await confirmed(store, merchant_account="other")
    await store.apply([notified(about(0)), notified(about(1, Outcome.FAILED))])
    page = await store.log.page(0, event_filter=event_filter)
    assert list(page.events) == [e for e in await whole_log(store) if event_filter.admits(e)]
    assert page.through == page.head == 6


async def test_a_hole_is_an_error_and_never_skipped(store: PaymentStore) -> None:
    await numbered(store, 5)
    await execute(store, "DELETE FROM events WHERE sequence = 3")
    for after in (0, 1, 2):
        with pytest.raises(LogCorrupt, match="after sequence 2"):
            await store.log.page(after)
    assert sequences(await store.log.page(0, limit=2)) == [1, 2], "what is whole is read"
    assert sequences(await store.log.page(3)) == [4, 5]


async def test_a_hole_at_the_end_of_a_pages_window_is_found(store: PaymentStore) -> None:
    await numbered(store, 5)
    await execute(store, "DELETE FROM events WHERE sequence IN (3, 4)")
    with pytest.raises(LogCorrupt, match="after sequence 2"):
        await store.log.page(1, window=2)


async def test_a_log_whose_beginning_was_pruned_reads_on_from_its_oldest_event(
    store: PaymentStore,
) -> None:
    await numbered(store, 5)
    await execute(store, "DELETE FROM events WHERE sequence <= 3")
    assert await store.log.bounds() == (4, 5)
    page = await store.log.page(3)
    assert (sequences(page), page.oldest) == ([4, 5], 4)
    stale = await store.log.page(1)
    assert stale.oldest == 4, "the reader sees that it was overtaken"


async def test_append_time_never_goes_backwards(store: PaymentStore, clock: FrozenClock) -> None:
    await confirmed(store)
    [first] = await whole_log(store)
    assert first.append_time is not None
    ahead = first.append_time + timedelta(days=1)
    async with store._database.writer.begin() as connection:
        await connection.execute(update(events_table).values(append_time=ahead))
    clock.advance(-3600)
    await confirmed(store, payment_request_id="order-2")
    assert (await whole_log(store))[-1].append_time == ahead


async def test_events_of_one_transaction_share_their_append_time(store: PaymentStore) -> None:
    await numbered(store, 3)
    answers = await store.apply([notified(about(n)) for n in range(3)])
    assert len({answer.event and answer.event.append_time for answer in answers}) == 1


async def test_whoever_waits_is_woken_by_an_append_of_this_process(store: PaymentStore) -> None:
    waiting = asyncio.create_task(store.log.wait(60))
    await confirmed(store)
    await asyncio.wait_for(waiting, 5)


async def test_whoever_waits_in_vain_goes_on_in_time(store: PaymentStore) -> None:
    await asyncio.wait_for(store.log.wait(0.01), 5)


async def test_every_process_reads_the_same_log(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    async with (
        open_store(database_url, cipher=cipher, now=clock.now) as one,
        open_store(database_url, cipher=cipher, now=clock.now) as other,
    ):
        assert one.log.log_id == other.log.log_id
        assert one.log.cursor_key == other.log.cursor_key
        assert len(one.log.cursor_key) == 64
        await confirmed(one)
        assert await whole_log(other) == await whole_log(one)


async def test_two_logs_have_different_identities(
    databases: Databases, cipher: DataCipher, clock: FrozenClock
) -> None:
    identities: set[object] = set()
    for _ in range(2):
        async with databases.fresh(SQLITE, migrated=False) as url:
            await migrate(url)
            async with open_store(url, cipher=cipher, now=clock.now) as store:
                identities |= {store.log.log_id, store.log.cursor_key}
    assert len(identities) == 4
