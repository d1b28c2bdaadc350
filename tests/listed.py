"""Payments as lists find them: written as rows, because a list is made of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import update

from antom_payments.payment import Payment, PaymentState
from antom_payments.store import PaymentStore
from antom_payments.store.rows import payment_to_row
from antom_payments.store.tables import payments
from facts import a_payment


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
