"""Payments as lists find them: written as rows, because a list is made of nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import text, update

from antom_payments.payment import Payment, PaymentState
from antom_payments.store import PaymentStore
from antom_payments.store.database import Database
from antom_payments.store.rows import payment_to_row
from antom_payments.store.tables import payments
from facts import NOW, a_payment


def numbered_payment(
    number: int, state: PaymentState = PaymentState.SUCCEEDED, **more: Any
) -> Payment:
    """Payment `pay-0001`, whose id sorts by its number in every database."""
    fields: dict[str, Any] = {
        "payment_request_id": f"pay-{number:04}",
        "reference_order_id": f"order-{number:04}",
    }
    return a_payment(state, **fields | more)


async def fill(store: PaymentStore, found: Iterable[Payment]) -> None:
    """Write payments behind the store's back."""
    async with store._database.writer.begin() as connection:
        await connection.execute(payments.insert(), [payment_to_row(one) for one in found])


async def change(store: PaymentStore, payment_request_id: str, **values: Any) -> None:
    """Change a payment's columns."""
    statement = update(payments).where(payments.c.payment_request_id == payment_request_id)
    async with store._database.writer.begin() as connection:
        await connection.execute(statement.values(**values))


_MANY = {
    "sqlite": """
        WITH RECURSIVE numbers(n) AS (
            SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last
        )
        INSERT INTO payments ({columns}) SELECT {values} FROM numbers
    """,
    "postgresql": """
        INSERT INTO payments ({columns})
        SELECT {values} FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS numbers(n)
    """,
}
_AT_ONCE = 20_000
"""Rows of one statement: no statement may take longer than some seconds."""
_TIME = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000000', :now, '-' || n || ' seconds')",
    "postgresql": "CAST(:now AS timestamptz) - n * interval '1 second'",
}


async def fill_many(database: Database, count: int) -> None:
    """Payments of one merchant, the newest from NOW and one each second before it.

    97 of 100 have SUCCEEDED, one each is FAILED, CANCELLED and EXPIRED; two share an order.
    """
    dialect = database.engine.dialect.name
    time = _TIME[dialect]
    values = {name: _literal(value) for name, value in payment_to_row(a_payment()).items()}
    values |= {
        "payment_request_id": "'pay-' || n",
        "payment_id": "'P-' || n",
        "reference_order_id": "'order-' || (n / 2)",
        "state": "CASE n % 100 WHEN 1 THEN 'FAILED' WHEN 2 THEN 'CANCELLED'"
        " WHEN 3 THEN 'EXPIRED' ELSE 'SUCCEEDED' END",
        "create_time": time,
        "update_time": time,
        "last_sequence": "n",
    }
    statement = _MANY[dialect].format(columns=", ".join(values), values=", ".join(values.values()))
    now = NOW if dialect == "postgresql" else NOW.strftime("%Y-%m-%d %H:%M:%S")
    for first in range(0, count, _AT_ONCE):
        numbers = {"first": first, "last": min(first + _AT_ONCE, count) - 1}
        async with database.writer.begin() as connection:
            await connection.execute(text(statement), {**numbers, "now": now})
    await analyze(database)


async def analyze(database: Database) -> None:
    """Gather statistics, as PostgreSQL does by itself before long."""
    async with database.writer.begin() as connection:
        await connection.execute(text("ANALYZE payments"))


def _literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case dict() | list():
            return f"'{json.dumps(value)}'"
        case _:
            return f"'{value}'"
