"""PaymentStore: payments and their event log; appends at the same time share a transaction."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from opentelemetry.trace import SpanKind, get_current_span
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments import telemetry
from antom_payments.payment import Payment
from antom_payments.session import Session
from antom_payments.store.batch import Applied, Member, SessionResult
from antom_payments.store.database import Database, PoolOptions, in_our_words
from antom_payments.store.facts import apply_members
from antom_payments.store.group_commit import GroupCommit
from antom_payments.store.hints import Hints
from antom_payments.store.log import EventLog, read_identity
from antom_payments.store.private_data import DataCipher
from antom_payments.store.rows import payment_from_row
from antom_payments.store.schema import refuse_old_schema
from antom_payments.store.sessions import SessionClaim, Sessions
from antom_payments.store.tables import payments, private_data

_PAUSE_SECONDS = 0.01
"""After a group commit to SQLite: the time in which another process begins its transaction."""


class PaymentStore:
    """Payments, their private data and their event log.

    Every method raises StoreUnavailable when the database cannot be used. Writes are committed when
    they return: with PostgreSQL's synchronous_commit and SQLite's synchronous FULL, to disk.
    """

    def __init__(
        self,
        database: Database,
        log: EventLog,
        hints: Hints,
        *,
        cipher: DataCipher,
        now: Callable[[], datetime],
    ) -> None:
        self.log = log
        self._hints = hints
        self._database = database
        self._cipher = cipher
        self._now = now
        self._sessions = Sessions(cipher, now)
        # SQLite has one writer at a time, and no queue of those that want to be the next.
        self._appends = GroupCommit(self._commit, pause=_pause if database.is_sqlite else None)

    async def payment(
        self,
        merchant_account: str,
        *,
        payment_request_id: str = "",
        payment_id: str = "",
        reference_order_id: str = "",
    ) -> Payment | None:
        """Find a payment by one of its ids; of several with the same order, the newest."""
        wanted = select(payments).where(payments.c.merchant_account == merchant_account)
        if payment_request_id:
            wanted = wanted.where(payments.c.payment_request_id == payment_request_id)
        elif payment_id:
            wanted = wanted.where(payments.c.payment_id == payment_id)
        else:
            wanted = wanted.where(payments.c.reference_order_id == reference_order_id)
        wanted = wanted.order_by(
            payments.c.create_time.desc(), payments.c.payment_request_id.desc()
        ).limit(1)
        result = await self._database.read(lambda connection: connection.execute(wanted))
        row = result.mappings().one_or_none()
        return None if row is None else payment_from_row(row)

    async def begin_session(
        self, intent: Payment, request: bytes, *, lease_seconds: float
    ) -> SessionClaim:
        """Store the intent to create a session, or find what became of an earlier one.

        ``intent`` is the payment in CREATING, ``request`` Antom's request body, which is kept
        encrypted and sent again by later calls. For ``lease_seconds`` nobody else asks Antom for
        this payment.

        Raises:
            PaymentRequestIdReused: the id belongs to another payment.
            SessionInFlight: somebody else holds the lease.
        """
        token = str(uuid.uuid4())
        return await self._database.write(
            lambda connection: self._sessions.begin(
                connection, intent, request, token, lease_seconds
            )
        )

    async def confirm_session(self, claim: SessionClaim, session: Session) -> Payment:
        """Store Antom's session and its event; the payment after it."""
        return await self._conclude(claim, session=session)

    async def refuse_session(self, claim: SessionClaim, result_code: str) -> Payment:
        """Store Antom's definite refusal and its event; the payment after it."""
        return await self._conclude(claim, result_code=result_code)

    async def _conclude(
        self, claim: SessionClaim, session: Session | None = None, result_code: str = ""
    ) -> Payment:
        payment = claim.payment
        result = SessionResult(
            payment.merchant_account,
            payment.payment_request_id,
            claim.lease_token,
            session,
            result_code,
        )
        [applied] = await self.apply([Member(session_result=result)])
        return applied.payment or payment

    async def release_session(self, claim: SessionClaim) -> None:
        """Give the lease back without an answer: the next call may ask Antom again."""
        await self._database.write(lambda connection: self._sessions.release(connection, claim))

    async def apply(self, members: Sequence[Member]) -> list[Applied]:
        """Apply facts and keep their notifications, in one transaction; one answer each, in order.

        Committed when it returns. Repeating it is harmless: known facts are duplicates. Whoever
        calls meanwhile shares the next transaction. A caller that is cancelled takes nothing back.

        Raises:
            LimitReached: too much waits for the database already; nothing was done.
        """
        if not members:
            return []
        with telemetry.quiet_span("append", SpanKind.PRODUCER):
            traceparent = telemetry.current_traceparent()
            return await self._appends.submit(
                [replace(member, traceparent=traceparent) for member in members]
            )

    async def close(self) -> None:
        """Take no more appends, and wait for those under way."""
        await self._appends.close()

    async def _commit(self, members: Sequence[Member]) -> list[Applied]:
        """One transaction of the group commit."""
        answers = await self._database.write(lambda connection: self._apply(connection, members))
        self._tell_readers()
        return answers

    async def _apply(self, connection: AsyncConnection, members: Sequence[Member]) -> list[Applied]:
        span = get_current_span()
        if span.is_recording():
            # Its parent is the first one's; the others' traces are linked.
            for other in {member.traceparent for member in members} - {members[0].traceparent}:
                for link in telemetry.link_to(other):
                    span.add_link(link.context)
        return await apply_members(connection, members, cipher=self._cipher, now=self._now)

    async def erase_expired(self) -> int:
        """Erase the private data whose time is over; how many payments' it was."""
        over = delete(private_data).where(private_data.c.erase_time < self._now())
        result = await self._database.write(lambda connection: connection.execute(over))
        return result.rowcount

    def _tell_readers(self) -> None:
        """Hint, after the commit, that the log may have grown."""
        self.log.hint()
        self._hints.send()

    async def ping(self) -> None:
        """Ask the database for a sign of life; StoreUnavailable when there is none."""
        await self._database.read(lambda connection: connection.execute(text("SELECT 1")))


@asynccontextmanager
async def open_store(
    database_url: str,
    *,
    cipher: DataCipher,
    now: Callable[[], datetime],
    pool: PoolOptions | None = None,
    listens: bool = False,
) -> AsyncIterator[PaymentStore]:
    """Open the store on a migrated database.

    With ``listens``, hints of other processes wake this one's readers before their next poll.

    Raises:
        SchemaOutdated: the database needs `antom-payments migrate`.
        StoreUnavailable: the database cannot be reached.
    """
    database = Database(database_url, pool)
    try:
        with in_our_words():
            async with database.engine.connect() as connection:
                await refuse_old_schema(connection)
                log_id, cursor_key = await read_identity(connection)
        log = EventLog(database, log_id, cursor_key)
        hints = Hints(database)
        store = PaymentStore(database, log, hints, cipher=cipher, now=now)
        async with hints.running(log.hint if listens else None):
            try:
                yield store
            finally:
                await store.close()
    finally:
        await database.dispose()


async def _pause() -> None:
    await asyncio.sleep(_PAUSE_SECONDS)
