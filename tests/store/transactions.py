"""The writing transactions of a store: counted, held before their commit, or made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.util import await_only

from antom_payments.store import PaymentStore
from antom_payments.store.engines import WRITER
from stored import about, notified

T = TypeVar("T")


class Transactions:
    """What a store writes from now on."""

    def __init__(self, store: PaymentStore) -> None:
        self.count = 0
        """Transactions that came to their commit."""
        self.failures: list[Exception] = []
        """What the next commits fail with, one each."""
        self._begun = asyncio.Semaphore(0)
        self._may_commit = asyncio.Event()
        self._may_commit.set()
        event.listen(store._database.engine.sync_engine, "commit", self._commit)

    def hold(self) -> None:
        """Keep transactions from their commit until `go_on`."""
        self._begun = asyncio.Semaphore(0)
        self._may_commit.clear()

    async def is_under_way(self) -> None:
        """Wait until a transaction is about to commit."""
        await self._begun.acquire()

    def go_on(self) -> None:
        self._may_commit.set()

    def _commit(self, connection: Connection) -> None:
        if not connection.get_execution_options().get(WRITER):
            return
        self.count += 1
        self._begun.release()
        await_only(self._may_commit.wait())
        if self.failures:
            raise self.failures.pop(0)


async def while_one_is_under_way(
    store: PaymentStore, transactions: Transactions, *calls: Coroutine[Any, Any, T]
) -> list[T | BaseException]:
    """What becomes of ``calls`` that come, in this order, while a transaction is under way."""
    before = transactions.count
    transactions.hold()
    first = asyncio.create_task(store.apply([notified(about(10_000))]))
    await transactions.is_under_way()
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)  # each has asked
    assert transactions.count == before + 1
    transactions.go_on()
    await first
    return list(await asyncio.gather(*waiting, return_exceptions=True))
