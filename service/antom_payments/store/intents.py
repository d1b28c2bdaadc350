"""Intents at the same time share a transaction: a commit costs about the same for one as for all.

Only new payments are begun together. One that is known, or whose id comes twice, is looked at in a
transaction of its own, under its lock, as if it had come a moment later.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments import telemetry
from antom_payments.errors import StoreUnavailable
from antom_payments.payment import Payment
from antom_payments.store.database import Database
from antom_payments.store.group_commit import GroupCommit
from antom_payments.store.measures import count_intents
from antom_payments.store.sessions import Intent, SessionClaim, Sessions


class Intents:
    """Stores intents; ``pause`` is the group commit's."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        *,
        pause: Callable[[], Coroutine[Any, Any, None]] | None,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._group = GroupCommit(
            self._commit,
            most_waiting=database.options.in_flight,
            limit="database_in_flight",
            patience_seconds=database.options.budget_seconds,
            pause=pause,
            measure=count_intents,
        )

    async def begin(self, payment: Payment, request: bytes, lease_seconds: float) -> SessionClaim:
        """See `PaymentStore.begin_session`."""
        until = asyncio.get_running_loop().time() + self._database.options.budget_seconds
        intent = Intent(payment, request, str(uuid.uuid4()), lease_seconds, until)
        [claim] = await self._group.submit([intent])
        if claim is not None:
            return claim
        if not intent.is_waited_for:
            raise StoreUnavailable
        return await self._database.write(
            lambda connection: self._sessions.begin_again(connection, intent)
        )

    def waiting(self) -> Iterable[tuple[float, dict[str, str]]]:
        """How many wait for the next transactions; for metrics."""
        return self._group.waiting()

    async def close(self) -> None:
        """Take no more, and wait for those under way."""
        await self._group.close()

    async def _commit(self, intents: Sequence[Intent]) -> list[SessionClaim | None]:
        return await self._database.write(lambda connection: self._begin(connection, intents))

    async def _begin(
        self, connection: AsyncConnection, intents: Sequence[Intent]
    ) -> list[SessionClaim | None]:
        # The transaction's parent is the first one's; the others' traces are linked.
        telemetry.link_elsewhere(*(intent.payment.traceparent for intent in intents))
        return await self._sessions.begin(connection, intents)
