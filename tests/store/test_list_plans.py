"""Pages of lists are read from an index, however many payments there are: what the planners say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from antom_payments.payment import PaymentState
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, Place, TimeRange
from antom_payments.store import PaymentStore
from antom_payments.store.listing import page_statement
from antom_payments.store.tables import payments
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
# In a state that most payments are in, the list without states is as good.
BY_STATE = {"ix_payments_created_in_state", "ix_payments_created"}
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
SORTED = {"of two merchants", "in rare states", "in every state", "of an order"}
"""What several stretches begin with is merged; the payments of one order are few."""


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
    await fill_many(store, COUNT)
    for name, (wanted, order, indexes) in LISTS.items():
        for after in (None, Place(MIDDLE, "default", "pay-50000")):
            lines = await plan(store, page_statement(wanted, order, after=after, limit=PAGE))
            told = f"{name}, {after}:\n" + "\n".join(lines)
            used = {index.name for index in payments.indexes if is_named(lines, index.name)}
            assert used, told
            assert used <= indexes, told
            assert not any("Seq Scan" in line or "SCAN payments" in line for line in lines), told
            is_sorted = any("Sort" in line or "TEMP B-TREE" in line for line in lines)
            assert not is_sorted or name in SORTED, told
            assert sum(passed_over(line) for line in lines) <= PAGE, told


def is_named(lines: list[str], index: str | None) -> bool:
    """Whether a line names the index, and not one that begins alike."""
    return any(index in line.split() for line in lines)


def passed_over(line: str) -> int:
    """Rows that PostgreSQL read in vain."""
    return int(line.split(": ")[1]) if "Removed by Filter" in line else 0
