"""The order of locks, always the same: paymentIds, payments, facts, the log's end (design 8).

Each test holds one lock, waits until a batch asks for it, and looks at what the batch has by then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.store.facts import payment_id_lock
from antom_payments.store.log import LOG_LOCK
from clock import FrozenClock
from stored import about, intended, notified, whole_log

pytestmark = pytest.mark.postgres

PATIENCE = 30.0
LOCK = "SELECT pg_advisory_xact_lock(:key)"
LOCK_PAYMENT = "SELECT 1 FROM payments WHERE payment_request_id = :order FOR UPDATE"


class Bystander:
    """Holds locks in one transaction, and looks at others' from another."""

    def __init__(self, holding: AsyncConnection, looking: AsyncConnection) -> None:
        self._holding = holding
        self._looking = looking

    async def hold(self, statement: str, **values: Any) -> None:
        await self._holding.execute(text(statement), values)

    async def let_go(self) -> None:
        await self._holding.rollback()

    async def has_the_batch_wait(self) -> None:
        """Return once somebody waits for what is held."""
        waiting = text(
            "SELECT count(*), pg_sleep(0.01) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(PATIENCE):
            while not (await self._looking.execute(waiting)).one()[0]:
                # A transaction sees one state of that view.
                await self._looking.rollback()

    async def is_free(self, key: int) -> bool:
        return await self._says("SELECT pg_try_advisory_xact_lock(:key)", key=key)

    async def is_payment_free(self, order: str) -> bool:
        return await self._says(
            f"SELECT count(*) = 1 FROM ({LOCK_PAYMENT} SKIP LOCKED) AS free", order=order
        )

    async def _says(self, question: str, **values: Any) -> bool:
        answer = (await self._looking.execute(text(question), values)).scalar_one()
        await self._looking.rollback()
        return bool(answer)


@pytest.fixture
async def bystander(postgres_url: str) -> AsyncIterator[Bystander]:
    engine = create_async_engine(postgres_url)
    async with engine.connect() as holding, engine.connect() as looking:
        yield Bystander(holding, looking)
    await engine.dispose()


@pytest.fixture
async def postgres(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        yield store


@contextlib.asynccontextmanager
async def a_batch_about(
    store: PaymentStore, bystander: Bystander, *numbers: int
) -> AsyncIterator[None]:
    """A batch of news in this order, which waits for what is held until the block ends."""
    batch = asyncio.create_task(store.apply([notified(about(n)) for n in numbers]))
    try:
        await bystander.has_the_batch_wait()
        yield
    finally:
        await bystander.let_go()
        await batch


def lock_of(number: int) -> int:
    return payment_id_lock("default", f"P-{number}")


async def test_the_locks_of_payment_ids_are_taken_in_their_order_whatever_the_batchs(
    postgres: PaymentStore, bystander: Bystander
) -> None:
    await intended(postgres, 2)
    first, last = sorted(range(2), key=lock_of)
    await bystander.hold(LOCK, key=lock_of(first))
    async with a_batch_about(postgres, bystander, last, first):
        assert await bystander.is_free(lock_of(last))
    assert len(await whole_log(postgres)) == 2


async def test_payments_are_locked_in_their_order_whatever_the_batchs(
    postgres: PaymentStore, bystander: Bystander
) -> None:
    await intended(postgres, 2)
    await bystander.hold(LOCK_PAYMENT, order="order-0")
    async with a_batch_about(postgres, bystander, 1, 0):
        assert not await bystander.is_free(lock_of(1))
        assert await bystander.is_payment_free("order-1")


async def test_nothing_is_locked_after_the_logs_end(
    postgres: PaymentStore, bystander: Bystander
) -> None:
    await intended(postgres, 1)
    await bystander.hold(LOCK, key=LOG_LOCK)
    async with a_batch_about(postgres, bystander, 0):
        assert not await bystander.is_free(lock_of(0))
        assert not await bystander.is_payment_free("order-0")


async def test_the_logs_end_is_free_while_a_batch_waits_for_a_payment(
    postgres: PaymentStore, bystander: Bystander
) -> None:
    await intended(postgres, 1)
    await bystander.hold(LOCK_PAYMENT, order="order-0")
    async with a_batch_about(postgres, bystander, 0):
        assert await bystander.is_free(LOG_LOCK)
