"""Pages of lists are read from an index, however many payments there are: what the planners say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from antom_payments.payment import PaymentState
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, Place, TimeRange
from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.store.listing import page_statement
from antom_payments.store.tables import payments
from clock import FrozenClock
from facts import NOW
from listed import fill_many

COUNT = 100_000
PAGE = 201
MINE = PaymentFilter(merchant_accounts=frozenset({"default"}))
BOTH = replace(MINE, merchant_accounts=frozenset({"default", "books"}))
RARE = frozenset({PaymentState.EXPIRED, PaymentState.CANCELLED})
MIDDLE = NOW - timedelta(seconds=COUNT / 2)
A_DAY = TimeRange(NOW - timedelta(days=1), NOW)
CREATED, UPDATED = PaymentOrder.CREATE_TIME_DESC, PaymentOrder.UPDATE_TIME_ASC
BY_CREATION = {"ix_payments_created"}
# In a state that most payments are in, the list without states is as good; open ones are few.
BY_STATE = {"ix_payments_created_in_state", "ix_payments_created", "ix_payments_open"}
BY_CHANGE = {"ix_payments_updated"}
BY_REFERENCE = {"ix_payments_merchant_account_reference_order_id_create_time"}
LISTS = {
    "everything": (MINE, CREATED, BY_CREATION),
    "of two merchants": (BOTH, CREATED, BY_CREATION),
    "created today": (replace(MINE, create_time=A_DAY), CREATED, BY_CREATION),
    "in rare states": (replace(MINE, states=RARE), CREATED, BY_STATE),
    "in every state": (replace(MINE, states=frozenset(PaymentState)), CREATED, BY_STATE),
    "of an order": (replace(MINE, reference_order_id="order-7"), CREATED, BY_REFERENCE),
    "by change": (MINE, UPDATED, BY_CHANGE),
    "changed today": (replace(MINE, update_time=A_DAY), UPDATED, BY_CHANGE),
}


async def plan(store: PaymentStore, statement: Any) -> list[str]:
    """What the database does for ``statement``, line by line."""
    engine = store._database.engine
    how = "EXPLAIN QUERY PLAN" if store._database.is_sqlite else "EXPLAIN (ANALYZE, COSTS OFF)"
    literal = statement.compile(engine, compile_kwargs={"literal_binds": True})
    async with engine.connect() as connection:
        result = await connection.execute(text(f"{how} {literal}"))
        return [str(row[-1]) for row in result]


async def test_every_page_is_a_stretch_of_an_index_among_a_hundred_thousand_payments(
    store: PaymentStore,
) -> None:
    await fill_many(store._database, COUNT)
    for name, (wanted, order, indexes) in LISTS.items():
        for after in (None, Place(MIDDLE, "default", "pay-50000")):
            lines = await plan(store, page_statement(wanted, order, after=after, limit=PAGE))
            told = f"{name}, {after}:\n" + "\n".join(lines)
            refuse_other_indexes(lines, indexes, told)
            assert sum(passed_over(line) for line in lines) <= PAGE, told


async def test_sqlite_finds_the_right_index_before_it_has_any_statistics(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    """It gathers none by itself; a payment is looked up by its order as in a list of one."""
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        for name, (wanted, order, indexes) in LISTS.items():
            for limit in (1, PAGE):
                for after in (None, Place(MIDDLE, "default", "pay-50000")):
                    statement = page_statement(wanted, order, after=after, limit=limit)
                    lines = await plan(store, statement)
                    refuse_other_indexes(lines, indexes, f"{name}: {lines}")


def refuse_other_indexes(lines: list[str], indexes: set[str], told: str) -> None:
    used = {index.name for index in payments.indexes if is_named(lines, index.name)}
    assert used, told
    assert used <= indexes, told
    assert not any("Seq Scan" in line or "SCAN payments" in line for line in lines), told


def is_named(lines: list[str], index: str | None) -> bool:
    """Whether a line names the index, and not one that begins alike."""
    return any(index in line.split() for line in lines)


def passed_over(line: str) -> int:
    """Rows that PostgreSQL read in vain."""
    return int(line.split(": ")[1]) if "Removed by Filter" in line else 0
