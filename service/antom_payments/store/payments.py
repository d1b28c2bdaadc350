"""PaymentStore: payments and their event log; appends at the same time share a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments import sampling, telemetry
from antom_payments.cadence import Cadence
from antom_payments.payment import EventType, Payment, PaymentState
from antom_payments.sdk_event import SdkEvent
from antom_payments.session import Session
from antom_payments.store.back_office import BackOffice
from antom_payments.store.data_key import KeyRotation, refuse_foreign_key
from antom_payments.store.database import Database
from antom_payments.store.engines import PoolOptions
from antom_payments.store.facts import apply_members
from antom_payments.store.group_commit import GroupCommit
from antom_payments.store.hints import Hints
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.inquiry_leases import (
    InquiryClaim,
    InquiryLeases,
    Rate,
    most_overdue,
    open_by_phase,
)
from antom_payments.store.intents import Intents
from antom_payments.store.listing import PaymentListing
from antom_payments.store.log import EventLog, append_span, read_identity
from antom_payments.store.measures import count_appended, group_queue, intent_queue, open_by_state
from antom_payments.store.members import (
    UNADOPTED,
    Applied,
    AppliedOutcome,
    Confirmed,
    Member,
    OrphanState,
    SessionResult,
)
from antom_payments.store.orphans import EndOfOrphan, adoptable, end_orphans
from antom_payments.store.outages import in_our_words
from antom_payments.store.private_data import DataCipher
from antom_payments.store.retention import Retention, Windows
from antom_payments.store.rows import payment_from_row
from antom_payments.store.schema import refuse_old_schema
from antom_payments.store.sdk_events import report_sdk_event
from antom_payments.store.sessions import PRIVATE_DATA_WINDOW, SessionClaim, Sessions
from antom_payments.store.tables import payments

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
        cadence: Cadence,
        windows: Windows,
        private_data_window: timedelta,
    ) -> None:
        self.log = log
        self.cadence = cadence
        """How often Antom is asked about what is stored here."""
        self.retention = Retention(database, windows, now=now)
        self.key_rotation = KeyRotation(database, cipher)
        self.listing = PaymentListing(database)
        self._hints = hints
        self._database = database
        self._cipher = cipher
        self._now = now
        self._private_data_window = private_data_window
        self._inquiries = Inquiries(cadence, now)
        self._leases = InquiryLeases(cadence, now)
        self._sessions = Sessions(cipher, now, self._inquiries, private_data_window)
        # SQLite has one writer at a time, and no queue of those that want to be the next.
        pause = _pause if database.is_sqlite else None
        self._appends = GroupCommit(self._commit, pause=pause)
        self.waiting_appends = self._appends.waiting
        self.intents = Intents(database, self._sessions, pause=pause)
        self.back_office = BackOffice(
            database, self._inquiries, cipher=cipher, now=now, on_append=self._tell_readers
        )

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
        return await self.intents.begin(intent, request, lease_seconds)

    async def confirm_session(self, claim: SessionClaim, session: Session) -> Confirmed:
        """Store Antom's session and its event; the payment after it. Raises PaymentNotFound."""
        applied = await self._conclude(claim, session=session)
        return Confirmed(applied.payment or claim.payment, applied.newest_event_id)

    async def refuse_session(self, claim: SessionClaim, result_code: str) -> tuple[Payment, bool]:
        """Store Antom's definite refusal and its event; the payment after it.

        Also whether the refusal counts: it does not when the payment went on meanwhile, or when the
        lease was lost, because whoever has it may get a session; unless it was stored before.
        Raises PaymentNotFound.
        """
        applied = await self._conclude(claim, result_code=result_code)
        payment = applied.payment or claim.payment
        if applied.outcome is AppliedOutcome.APPLIED:
            return payment, True
        if applied.is_leased:
            return payment, payment.version == claim.payment.version
        is_stored = payment.state is PaymentState.FAILED and payment.result_code == result_code
        return payment, is_stored

    async def adopt_foreign(self, payment: Payment) -> None:
        """Store a payment that was made elsewhere with the merchant's client id.

        In CREATING: what Antom says of it is applied after.
        """
        await self._database.write(lambda connection: self._sessions.adopt(connection, payment))

    async def _conclude(
        self, claim: SessionClaim, session: Session | None = None, result_code: str = ""
    ) -> Applied:
        payment = claim.payment
        result = SessionResult(
            payment.merchant_account,
            payment.payment_request_id,
            claim.lease_token,
            session,
            result_code,
        )
        [applied] = await self._append([Member(session_result=result)], payment.traceparent)
        return applied

    async def release_session(self, claim: SessionClaim) -> None:
        """Give the lease back without an answer: the next call may ask Antom again."""
        await self._database.write(lambda connection: self._sessions.release(connection, claim))

    async def apply(self, members: Sequence[Member]) -> list[Applied]:
        """Apply facts and keep their notifications, in one transaction; one answer each, in order.

        Committed when it returns. Repeating it is harmless: known facts are duplicates. Whoever
        calls meanwhile shares the next transaction. A caller that is cancelled takes nothing back.

        Raises:
            StoreOverloaded: too much waits for the database already; nothing was done.
        """
        if not members:
            return []
        return await self._append(members)

    async def _append(self, members: Sequence[Member], session: str = "") -> list[Applied]:
        """`apply`, linked to the span that made the payment's ``session`` where that is known."""
        with append_span(session) as span:
            traceparent = telemetry.current_traceparent()
            is_undecided = sampling.is_undecided(span)
            answers = await self._appends.submit(
                [
                    replace(member, traceparent=traceparent, is_undecided=is_undecided)
                    for member in members
                ]
            )
            told = [answer.payment for answer in answers if answer.payment is not None]
            telemetry.link_elsewhere(*(payment.traceparent for payment in told))
            return answers

    async def close(self) -> None:
        """Take no more intents and appends, and wait for those under way."""
        await self.intents.close()
        await self._appends.close()

    async def _commit(self, members: Sequence[Member]) -> list[Applied]:
        """One transaction of the group commit."""
        answers, appended = await self._database.write(
            lambda connection: self._apply(connection, members)
        )
        self._tell_readers()
        count_appended(appended)
        return answers

    async def claim_inquiries(
        self, merchant_account: str, *, limit: int, rate: Rate, lease_seconds: float
    ) -> list[InquiryClaim]:
        """Take inquiries that are due, under a lease; give each back by `settle_inquiry`."""
        return await self._database.write(
            lambda connection: self._leases.claim(
                connection, merchant_account, limit=limit, rate=rate, lease_seconds=lease_seconds
            )
        )

    async def settle_inquiry(
        self, claim: InquiryClaim, *, retry_seconds: float | None = None
    ) -> None:
        """Give a claim back once its answer is stored; with ``retry_seconds``, without an answer.

        When Antom is asked next follows from the payment as it stands by now.
        """
        await self._database.write(
            lambda connection: self._leases.settle(connection, claim, retry_seconds=retry_seconds)
        )

    async def hasten_inquiry(self, payment: Payment) -> None:
        """Ask about an open payment again soon: somebody waits for its news."""
        await self._database.write(lambda connection: self._inquiries.hasten(connection, payment))

    async def report_sdk_event(
        self, merchant_account: str, payment_request_id: str, reported: SdkEvent
    ) -> Payment | None:
        """Tell what a front end reported, once for each code; None when there is no such payment.

        The payment's state stays; Antom is asked where that may bring news.
        """
        told = await self._database.write(
            lambda connection: report_sdk_event(
                connection,
                merchant_account,
                payment_request_id,
                reported,
                inquiries=self._inquiries,
                now=self._now,
            )
        )
        if told is None:
            return None
        payment, is_news = told
        if is_news:
            count_appended([EventType.SDK_EVENT_REPORTED])
            self._tell_readers()
        return payment

    async def adopt_missing_inquiries(self, *, limit: int = 500) -> int:
        """Begin inquiries about what is open and not asked about; how many were begun."""
        return await self._database.write(
            lambda connection: self._inquiries.adopt_missing(connection, limit=limit)
        )

    async def has_due_inquiry(self) -> datetime | None:
        """Since when the inquiry that waits longest has been due; None when none is."""
        now = self._now()
        return await self._database.read(lambda connection: most_overdue(connection, now))

    async def inquiries_by_phase(self) -> dict[str, int]:
        """How many inquiries are to come, by phase."""
        return await self._database.read(open_by_phase)

    async def open_payments_by_state(self) -> dict[str, int]:
        """How many payments Antom is still to be asked about, by state."""
        return await self._database.read(open_by_state)

    async def end_orphans(self, merchant_account: str, payment_id: str, state: EndOfOrphan) -> int:
        """Conclude the facts of a `paymentId` that still wait for their payment; how many.

        Repeating it is harmless, and a payment that appears later adopts them all the same.
        """
        return await self._database.write(
            lambda connection: end_orphans(connection, merchant_account, payment_id, state)
        )

    async def sweep_orphans(
        self, limit: int, *, states: Sequence[OrphanState] = UNADOPTED
    ) -> list[Applied]:
        """Apply orphans whose payment is known by now again, oldest first; those that found theirs.

        A local net, at most ``limit`` in one transaction: call again while it returns as many.
        Those that wait are few; what was ended as foreign may be many.
        """
        found = await self._database.read(lambda connection: adoptable(connection, limit, states))
        answers = await self.apply([Member(fact) for fact in found]) if found else []
        return [answer for answer in answers if answer.outcome is not AppliedOutcome.ORPHANED]

    async def _apply(
        self, connection: AsyncConnection, members: Sequence[Member]
    ) -> tuple[list[Applied], list[EventType]]:
        # Its parent is the first one's; the others' traces are linked.
        telemetry.link_elsewhere(*(member.traceparent for member in members))
        return await apply_members(
            connection,
            members,
            cipher=self._cipher,
            now=self._now,
            inquiries=self._inquiries,
            private_data_window=self._private_data_window,
        )

    def _tell_readers(self) -> None:
        """Hint, after the commit, that the log may have grown."""
        self.log.hint()
        self._hints.send()

    async def ping(self) -> None:
        """Ask for a sign of life of a database that takes writes; else StoreUnavailable."""
        await self._database.ping()


@asynccontextmanager
async def open_store(
    database_url: str,
    *,
    cipher: DataCipher,
    now: Callable[[], datetime],
    pool: PoolOptions | None = None,
    cadence: Cadence | None = None,
    listens: bool = False,
    windows: Windows | None = None,
    private_data_window: timedelta = PRIVATE_DATA_WINDOW,
) -> AsyncIterator[PaymentStore]:
    """Open the store on a migrated database.

    With ``listens``, hints of other processes wake this one's readers before their next poll.

    ``windows`` and ``private_data_window`` say how long things are kept.

    Raises:
        SchemaOutdated: the database needs `antom-payments migrate`.
        ConfigurationError: ``cipher`` does not open what is stored.
        StoreUnavailable: the database cannot be reached.
    """
    database = Database(database_url, pool)
    try:
        with in_our_words():
            async with database.engine.connect() as connection:
                await refuse_old_schema(connection)
                log_id, cursor_key = await read_identity(connection)
                await refuse_foreign_key(connection, cipher)
        log = EventLog(database, log_id, cursor_key)
        hints = Hints(database)
        async with hints.running(log.hint if listens else None):
            store = PaymentStore(
                database,
                log,
                hints,
                cipher=cipher,
                now=now,
                cadence=cadence or Cadence(),
                windows=windows or Windows(),
                private_data_window=private_data_window,
            )
            try:
                with (
                    group_queue.read_from(store.waiting_appends),
                    intent_queue.read_from(store.intents.waiting),
                ):
                    yield store
            finally:
                await store.close()
    finally:
        await database.dispose()


async def _pause() -> None:
    await asyncio.sleep(_PAUSE_SECONDS)
