"""Filters over a long log of somebody else's events: by index, in bounded steps, always further."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from antom_payments.event_stream import Earliest, Snapshot
from antom_payments.payment import EventType
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentStore
from antom_payments.store.log import _page_statement
from antom_payments.store.snapshot import payments_statement
from event_stream.foreign_log import FOREIGN, fill
from event_stream.news import News
from event_stream.replica import streaming
from event_stream.watching import PATIENCE, Watcher, running

EVENTS = 40_000
OURS = EventFilter(merchant_accounts=frozenset({"default"}))
NOBODYS = EventFilter(merchant_accounts=frozenset({"nobody"}))
PAYMENT = EventFilter(payment_request_ids=frozenset({"p-7"}))
MANY = EventFilter(payment_request_ids=frozenset(f"none-{n}" for n in range(100)))
PAYMENT_OF_MERCHANT = EventFilter(
    merchant_accounts=frozenset({FOREIGN}), payment_request_ids=frozenset({"p-7"})
)
TYPE = EventFilter(types=frozenset({EventType.PAYMENT_FAILED}))
FINAL = EventFilter(final_states_only=True)
FINAL_OF_BUSY = EventFilter(merchant_accounts=frozenset({FOREIGN}), final_states_only=True)


async def plan(store: PaymentStore, statement: Any) -> str:
    """How the database goes about it."""
    is_sqlite = store._database.is_sqlite
    dialect = sqlite.dialect() if is_sqlite else postgresql.dialect()
    compiled = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    async with store._database.engine.connect() as connection:
        rows = (await connection.exec_driver_sql(f"{explain} {compiled}")).all()
    return "\n".join(str(row[3] if is_sqlite else row[0]) for row in rows)


async def refuses_scans(store: PaymentStore, statement: Any, *expected: str) -> None:
    """By one of the indexes expected, and never through a whole table."""
    how = await plan(store, statement)
    assert any(index in how for index in expected), how
    assert "Seq Scan on events" not in how, how
    assert "Seq Scan on payments" not in how, how
    assert "SCAN payments" not in how, how


async def test_every_filter_finds_its_pages_by_an_index_and_snapshots_end_soon(
    store: PaymentStore,
) -> None:
    await fill(store, EVENTS)
    by_key = "sqlite_autoindex_events_1" if store._database.is_sqlite else "pk_events"
    of_merchant = "ix_events_merchant_account_sequence"
    of_payment = "ix_events_payment_request_id_merchant_account_sequence"
    for event_filter, *indexes in (
        (OURS, of_merchant),
        (NOBODYS, of_merchant),
        (PAYMENT, of_payment),
        (MANY, of_payment, by_key),
        (PAYMENT_OF_MERCHANT, of_payment),
        (TYPE, by_key),
        (FINAL, by_key),
        (FINAL_OF_BUSY, of_merchant, by_key),
    ):
        place = {"after": EVENTS // 2, "until": EVENTS // 2 + 5_000, "most": 64}
        statement = _page_statement(event_filter).params(place)
        await refuses_scans(store, statement, *indexes)
    by_place = "ix_payments_last_sequence"
    pk = "sqlite_autoindex_payments_1" if store._database.is_sqlite else "pk_payments"
    for event_filter, *indexes in (
        (EventFilter(), by_place),
        (OURS, "ix_payments_told"),
        # PostgreSQL knows that hardly any are final.
        (FINAL, by_place, "ix_payments_created_in_state"),
        (PAYMENT_OF_MERCHANT, pk),
    ):
        for up_to in (None, EVENTS):
            statement = payments_statement(EVENTS // 2, 1, 64, event_filter, up_to)
            await refuses_scans(store, statement, *indexes)
    await soon_over(store)


async def test_the_cursor_moves_through_a_long_log_in_which_nothing_matches(
    store: PaymentStore,
) -> None:
    """Page by page, with places to check in between, to the head; what matches is found there."""
    await fill(store, EVENTS)
    last = (await News(store).about("late"))[0]
    async with running(store.log) as stream:
        for event_filter in (NOBODYS, MANY, TYPE, FINAL, FINAL_OF_BUSY):
            watcher = await Watcher.start(stream, Earliest(), event_filter)
            cursors = []
            while not watcher.caught_up:
                await watcher.take(0.0005)
                cursors.append(watcher.subscription.checkpoint_cursor())
            assert watcher.seen == []
            assert len(set(cursors)) > (0 if event_filter is NOBODYS else 2)
            assert cursors[-1] == stream.cursor_at(last.sequence, last.event_id)
            watcher.close()
        ours = await (await Watcher.start(stream, Earliest(), OURS)).until_caught_up()
        assert ours.sequences == [1, last.sequence]
        theirs = await Watcher.start(stream, Earliest(), PAYMENT_OF_MERCHANT)
        assert (await theirs.until_caught_up()).sequences == list(range(72, 82))


async def soon_over(store: PaymentStore) -> None:
    """A snapshot of few among many payments takes few reads."""
    async with streaming(store.log) as stream:
        for event_filter, expected in ((OURS, 1), (PAYMENT_OF_MERCHANT, 1), (FINAL, 0)):
            subscription = await stream.subscribe(Snapshot(), event_filter)
            told, steps = 0, 0
            while not (batch := await subscription.next(PATIENCE)) or not batch.snapshot_end:
                told += batch.payments if batch else 0
                steps += 1
                assert steps < 10
            assert told == expected
            subscription.close()
