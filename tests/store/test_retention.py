"""What is kept for how long: the log's old end, raw notifications, private data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event

from antom_payments.fact import Outcome
from antom_payments.store import (
    AppliedOutcome,
    DataCipher,
    Kind,
    Member,
    PaymentStore,
    Windows,
    open_store,
)
from antom_payments.store.retention import Retention
from clock import FrozenClock
from databases import SQLITE
from facts import NOW, a_capture, a_notification, a_payment_fact
from stored import (
    SESSION,
    about,
    aged,
    all_payments,
    begun,
    confirmed,
    erased,
    notified,
    numbered,
    pruned,
    rows,
    whole_log,
)

DAYS = 86_400
ON_SQLITE = pytest.mark.parametrize("database_url", [SQLITE], indirect=True)


@pytest.fixture
async def other(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    """The same database in another replica."""
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        yield store


def small(store: PaymentStore, clock: FrozenClock, batch_rows: int = 7) -> Retention:
    """The same retention in batches of a few rows."""
    return Retention(store._database, Windows(), now=clock.now, batch_rows=batch_rows)


async def pruned_by(retention: Retention) -> int:
    return sum([count async for _, count in retention.prune()])


# Events


async def test_events_older_than_their_window_go_and_the_rest_stays(store: PaymentStore) -> None:
    await numbered(store, 10)
    log = await whole_log(store)
    await aged(store, 31, through=6)
    await aged(store, 29, through=8)  # so that the first six are older by sixty days in all
    assert await pruned(store) == {Kind.EVENTS: 6}
    page = await store.log.page(6)
    assert [event.event_id for event in page.events] == [event.event_id for event in log[6:]]
    assert (page.oldest, page.head) == (7, 10)
    assert await pruned(store) == {}


async def test_the_newest_event_always_stays_and_numbers_go_on_from_it(
    store: PaymentStore,
) -> None:
    await numbered(store, 4)
    await aged(store, 400, through=4)
    assert await pruned(store) == {Kind.EVENTS: 3}
    assert await store.log.bounds() == (4, 4)
    await store.apply([Member(about(0))])
    assert await store.log.bounds() == (4, 5)


async def test_an_empty_log_is_no_work(store: PaymentStore) -> None:
    assert await pruned(store) == {}
    assert (await store.retention.oldest()).sequence == 0


async def test_events_of_one_instant_go_together_in_batches(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 20)
    await store.apply([Member(about(n)) for n in range(20)])
    await aged(store, 31, through=39)
    retention = small(store, clock)
    counts = [count async for _, count in retention.prune()]
    assert counts == [7, 7, 7, 7, 7, 4]
    assert await store.log.bounds() == (40, 40)


async def test_after_every_batch_the_log_has_no_hole(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 30)
    await aged(store, 31, through=25)
    async for _, _ in small(store, clock, batch_rows=4).prune():
        oldest, head = await store.log.bounds()
        # An unfiltered page refuses holes.
        page = await store.log.page(oldest - 1)
        assert [event.sequence for event in page.events] == list(range(oldest, head + 1))
    assert (await store.log.bounds())[0] == 26


async def test_replicas_that_prune_at_once_do_the_work_once(
    store: PaymentStore, other: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 40)
    await aged(store, 31, through=33)
    clock.advance(91 * DAYS)

    retentions = [small(one, clock, batch_rows=3) for one in (store, other) * 2]
    removed = await asyncio.gather(*map(pruned_by, retentions))
    if store._database.is_sqlite:
        # Its append times are by the clock that was moved: all but the newest are over.
        assert sum(removed) == 39 + 40
    else:
        assert sum(removed) == 33 + 40
    oldest, head = await store.log.bounds()
    assert [event.sequence for event in (await store.log.page(oldest - 1)).events] == list(
        range(oldest, head + 1)
    )


@ON_SQLITE
async def test_a_pruning_gives_way_to_another_process_after_each_batch(
    store: PaymentStore, other: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 30)
    await aged(store, 31, through=29)
    deleting = asyncio.Event()

    def notice(_: object, cursor: object, statement: str, *rest: object) -> None:  # noqa: ARG001
        if statement.startswith("DELETE FROM events"):
            deleting.set()

    event.listen(store._database.engine.sync_engine, "before_cursor_execute", notice)
    pruning = asyncio.create_task(pruned_by(small(store, clock, batch_rows=1)))
    pruning.add_done_callback(lambda _: deleting.set())
    written = 0
    while not pruning.done():
        await deleting.wait()  # the lock is taken now
        await begun(other, payment_request_id=f"news-{written}")
        written += 1
        deleting.clear()
    assert written > 15, "of 29 batches; without a pause it is two to five"


async def test_a_pruner_that_is_left_in_the_middle_leaves_whole_batches(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 20)
    await aged(store, 31, through=19)
    pruning = small(store, clock).prune()
    assert await anext(pruning) == (Kind.EVENTS, 7)
    await pruning.aclose()
    assert await store.log.bounds() == (8, 20)
    assert await pruned(store) == {Kind.EVENTS: 12}


async def test_payments_stay_as_they_are_and_a_pruned_event_is_no_new_one(
    store: PaymentStore,
) -> None:
    await numbered(store, 3)
    [first] = await store.apply([notified(about(0))])
    await store.apply([Member(about(1)), Member(about(2))])
    before = await all_payments(store)
    await aged(store, 31, through=5)
    assert (await pruned(store))[Kind.EVENTS] == 5
    assert await all_payments(store) == before
    # A resend of what was told by a pruned event: known, whatever became of the event.
    [again] = await store.apply([notified(about(0))])
    assert (again.outcome, again.event) == (AppliedOutcome.DUPLICATE, None)
    assert first.event is not None
    assert await all_payments(store) == before
    assert await store.log.bounds() == (6, 6)


async def test_a_dry_run_counts_what_would_go_and_removes_nothing(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 5)
    await store.apply([notified(about(0))])
    await aged(store, 31, through=4)
    assert await store.retention.due() == {
        Kind.EVENTS: 4,
        Kind.NOTIFICATIONS: 0,
        Kind.PRIVATE_DATA: 0,
    }
    clock.advance(91 * DAYS)
    due = await store.retention.due()
    assert (due[Kind.NOTIFICATIONS], due[Kind.PRIVATE_DATA]) == (1, 5)
    assert (await store.log.bounds())[0] == 1
    assert await pruned(store) == due


async def test_the_window_of_events_is_what_was_set(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    windows = Windows(events=timedelta(days=3))
    async with open_store(database_url, cipher=cipher, now=clock.now, windows=windows) as store:
        await numbered(store, 4)
        await aged(store, 2, through=3)
        assert await pruned(store) == {}
        await aged(store, 2, through=2)
        assert await pruned(store) == {Kind.EVENTS: 2}


# Notifications


async def outcomes(store: PaymentStore) -> list[str]:
    query = "SELECT outcome FROM notifications ORDER BY outcome"
    return [row.outcome for row in await rows(store, query)]


async def test_concluded_notifications_go_and_what_waits_for_somebody_stays(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact())])
    await store.apply([notified(a_payment_fact())])  # in other bytes: known, and not kept
    await store.apply([notified(a_capture())])
    await store.apply([notified(a_payment_fact(fact_id="P-1", payment_id="P-9"))])  # a conflict
    await store.apply([notified(a_capture(payment_id="P-7", capture_id="C-7"))])  # an orphan
    await store.apply([Member(None, a_notification(), "not understood")])
    before = await outcomes(store)
    assert before == ["APPLIED", "APPLIED", "CONFLICT", "ORPHANED", "QUARANTINED"]
    clock.advance(90 * DAYS)
    assert (await pruned(store))[Kind.NOTIFICATIONS] == 0
    clock.advance(1)
    assert (await pruned(store))[Kind.NOTIFICATIONS] == 2
    assert await outcomes(store) == ["CONFLICT", "ORPHANED", "QUARANTINED"]


async def test_an_orphan_that_waits_for_no_payment_any_more_goes(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await store.apply([notified(a_capture(payment_id="P-7", capture_id="C-7"))])
    clock.advance(91 * DAYS)
    assert (await pruned(store))[Kind.NOTIFICATIONS] == 0
    async with store._database.writer.begin() as connection:
        await connection.exec_driver_sql("UPDATE facts SET orphan_state = 'FOREIGN'")
    assert (await pruned(store))[Kind.NOTIFICATIONS] == 1


async def test_an_orphan_is_adopted_long_after_and_its_notification_goes_then(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await store.apply([notified(a_capture())])
    clock.advance(91 * DAYS)
    assert await pruned(store) == {}
    await confirmed(store)
    now = a_notification(received_time=clock.now())
    await store.apply([Member(a_payment_fact(), now)])
    assert await outcomes(store) == ["APPLIED", "APPLIED"]
    assert [event.type.value for event in await whole_log(store)][-2:] == [
        "PAYMENT_AUTHORIZED",
        "CAPTURE_SUCCEEDED",
    ]
    assert (await pruned(store))[Kind.NOTIFICATIONS] == 1


@pytest.mark.parametrize("is_same_body", [True, False])
async def test_a_resend_after_its_notification_was_pruned_is_a_duplicate(
    store: PaymentStore, clock: FrozenClock, is_same_body: bool
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(), b"first"), notified(a_capture(), b"capture")])
    payment = await all_payments(store)
    clock.advance(91 * DAYS)
    assert (await pruned(store))[Kind.NOTIFICATIONS] == 2
    bodies = (b"first", b"capture") if is_same_body else (None, None)
    again = await store.apply(
        [notified(a_payment_fact(), bodies[0]), notified(a_capture(), bodies[1])]
    )
    assert {applied.outcome for applied in again} == {AppliedOutcome.DUPLICATE}
    assert await all_payments(store) == payment
    assert (await store.log.bounds())[1] == 3
    # Known without its body: nothing is stored again.
    assert await outcomes(store) == []


# Private data


async def test_the_window_of_private_data_is_what_was_set(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    window = timedelta(minutes=20)
    async with open_store(
        database_url, cipher=cipher, now=clock.now, private_data_window=window
    ) as store:
        await confirmed(store)
        assert SESSION.payment_session_expiry_time == NOW + timedelta(hours=1)
        clock.advance(80 * 60)
        assert await pruned(store) == {}
        assert len(await rows(store, "SELECT request FROM private_data")) == 1
        clock.advance(1)
        assert (await pruned(store))[Kind.PRIVATE_DATA] == 1


async def test_a_session_that_is_repeated_within_the_window_is_the_first_one(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    await store.apply([Member(about(1, Outcome.PROCESSING))])
    clock.advance(3599)
    assert await pruned(store) == {}
    assert (await begun(store)).session == SESSION


async def test_private_data_is_erased_in_batches(store: PaymentStore, clock: FrozenClock) -> None:
    await numbered(store, 10)
    clock.advance(7201)
    retention = small(store, clock, batch_rows=4)
    assert [found async for found in retention.prune()] == [
        (Kind.PRIVATE_DATA, 4),
        (Kind.PRIVATE_DATA, 4),
        (Kind.PRIVATE_DATA, 2),
    ]


async def test_a_session_that_is_asked_for_anew_is_not_erased_before_its_answer(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await begun(store)
    clock.advance(7_199)  # its erasure is due in a second
    claim = await begun(store)
    clock.advance(2)
    assert await erased(store) == 0
    expiry = clock.now() + timedelta(hours=1)
    await store.confirm_session(claim, replace(SESSION, payment_session_expiry_time=expiry))
    assert (await begun(store)).session is not None
