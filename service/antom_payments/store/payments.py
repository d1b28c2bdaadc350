"""PaymentStore: payments and their event log; each write is one transaction."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import delete, select, text

from antom_payments.cadence import Cadence
from antom_payments.fact import Notification
from antom_payments.payment import Payment
from antom_payments.sdk_event import SdkEvent
from antom_payments.session import Session
from antom_payments.store.audit import AuditRecord, read_audit, write_audit
from antom_payments.store.batch import Applied, AppliedOutcome, Member, OrphanState
from antom_payments.store.database import Database, PoolOptions, in_our_words
from antom_payments.store.erasure import Erased, erase_payment
from antom_payments.store.facts import apply_members
from antom_payments.store.hints import Hints
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.inquiry_leases import (
    InquiryClaim,
    InquiryLeases,
    Rate,
    most_overdue,
    open_by_phase,
)
from antom_payments.store.log import EventLog, read_identity
from antom_payments.store.orphans import (
    EndOfOrphan,
    Orphan,
    adoptable,
    end_orphans,
    list_orphans,
)
from antom_payments.store.private_data import DataCipher
from antom_payments.store.quarantine import Quarantine, Replayed, StoredNotification
from antom_payments.store.reinquire import Scheduled, schedule_inquiries
from antom_payments.store.rows import payment_from_row
from antom_payments.store.schema import refuse_old_schema
from antom_payments.store.sdk_events import report_sdk_event
from antom_payments.store.sessions import SessionClaim, Sessions
from antom_payments.store.tables import payments, private_data


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
    ) -> None:
        self.log = log
        self.cadence = cadence
        """How often Antom is asked about what is stored here."""
        self._hints = hints
        self._database = database
        self._cipher = cipher
        self._now = now
        self._inquiries = Inquiries(cadence, now)
        self._leases = InquiryLeases(cadence, now)
        self._sessions = Sessions(cipher, now, self._inquiries)
        self._quarantine = Quarantine(cipher, now, self._inquiries)

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
        payment, appended = await self._database.write(
            lambda connection: self._sessions.confirm(connection, claim, session)
        )
        if appended:
            self._tell_readers()
        return payment

    async def refuse_session(self, claim: SessionClaim, result_code: str) -> tuple[Payment, bool]:
        """Store Antom's definite refusal and its event; the payment after it.

        Also whether the refusal counts: it does not when the payment went on meanwhile, or when the
        lease was lost, because whoever has it may get a session.
        """
        payment, appended, counts = await self._database.write(
            lambda connection: self._sessions.refuse(connection, claim, result_code)
        )
        if appended:
            self._tell_readers()
        return payment, counts

    async def adopt_foreign(self, payment: Payment) -> None:
        """Store a payment that was made elsewhere with the merchant's client id.

        In CREATING: what Antom says of it is applied after.
        """
        await self._database.write(lambda connection: self._sessions.adopt(connection, payment))

    async def release_session(self, claim: SessionClaim) -> None:
        """Give the lease back without an answer: the next call may ask Antom again."""
        await self._database.write(lambda connection: self._sessions.release(connection, claim))

    async def apply(self, members: Sequence[Member]) -> list[Applied]:
        """Apply facts and keep their notifications, in one transaction; one answer each, in order.

        Committed when it returns. Repeating it is harmless: known facts are duplicates.
        """
        answers = await self._database.write(
            lambda connection: apply_members(
                connection,
                members,
                cipher=self._cipher,
                now=self._now,
                inquiries=self._inquiries,
            )
        )
        self._tell_readers()
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

    async def erase_expired(self) -> int:
        """Erase the private data whose time is over; how many payments' it was."""
        over = delete(private_data).where(private_data.c.erase_time < self._now())
        result = await self._database.write(lambda connection: connection.execute(over))
        return result.rowcount

    async def end_orphans(self, merchant_account: str, payment_id: str, state: EndOfOrphan) -> int:
        """Conclude the facts of a `paymentId` that still wait for their payment; how many.

        Repeating it is harmless, and a payment that appears later adopts them all the same.
        """
        return await self._database.write(
            lambda connection: end_orphans(connection, merchant_account, payment_id, state)
        )

    async def sweep_orphans(self, limit: int) -> int:
        """Apply orphans whose payment is known by now again, oldest first; how many found theirs.

        A local net, at most ``limit`` in one transaction: call again while it returns as many.
        """
        found = await self._database.read(lambda connection: adoptable(connection, limit))
        answers = await self.apply([Member(fact) for fact in found]) if found else []
        return sum(answer.outcome is not AppliedOutcome.ORPHANED for answer in answers)

    async def orphans(
        self, states: Sequence[OrphanState], limit: int, *, actor: str
    ) -> Sequence[Orphan]:
        """At most ``limit`` orphans in one of ``states``, oldest first; audited."""
        return await self._database.write(
            lambda connection: list_orphans(connection, states, limit, actor=actor, now=self._now())
        )

    async def quarantined(
        self, reason: str, limit: int, *, actor: str
    ) -> Sequence[StoredNotification]:
        """At most ``limit`` quarantined notifications, oldest first; audited.

        ``reason`` is one, or the first part of one that has two; empty is all.
        """
        return await self._database.write(
            lambda connection: self._quarantine.listed(connection, reason, limit, actor)
        )

    async def quarantine_page(
        self, reason: str, *, after: StoredNotification | None, limit: int
    ) -> Sequence[StoredNotification]:
        """Quarantined notifications page by page, oldest first: those after one."""
        return await self._database.read(
            lambda connection: self._quarantine.page(connection, reason, after, limit)
        )

    async def show_notification(
        self, notification_id: str, *, with_body: bool, actor: str
    ) -> tuple[StoredNotification, bytes] | None:
        """A stored notification, and its body when that is asked for and not erased; audited."""
        return await self._database.write(
            lambda connection: self._quarantine.shown(
                connection, notification_id, actor, with_body=with_body
            )
        )

    async def notification(
        self, notification_id: str
    ) -> tuple[StoredNotification, Notification | None] | None:
        """A stored notification, and as it came unless its body was erased."""
        return await self._database.read(
            lambda connection: self._quarantine.notification(connection, notification_id)
        )

    async def replay(self, member: Member, *, actor: str) -> Replayed | None:
        """Apply a quarantined notification as it is understood now; audited.

        None when it is not there any more.
        """
        replayed = await self._database.write(
            lambda connection: self._quarantine.replay(connection, member, actor)
        )
        self._tell_readers()
        return replayed

    async def discard(
        self, notification_id: str, why: str, *, actor: str
    ) -> tuple[StoredNotification, bool] | None:
        """Set a quarantined notification aside for good, and whether this did it; audited."""
        return await self._database.write(
            lambda connection: self._quarantine.discard(connection, notification_id, why, actor)
        )

    async def erase_payment(
        self, merchant_account: str, payment_request_id: str, *, actor: str
    ) -> Erased | None:
        """Erase a payment's personal data; None when there is no such payment. Audited."""
        return await self._database.write(
            lambda connection: erase_payment(
                connection,
                merchant_account,
                payment_request_id,
                cipher=self._cipher,
                actor=actor,
                now=self._now(),
            )
        )

    async def schedule_inquiries(
        self,
        since: datetime,
        *,
        merchant_account: str,
        after: tuple[str, str] | None,
        limit: int,
        actor: str,
    ) -> Scheduled:
        """Schedule inquiries for a page of payments created or changed since; audited."""
        return await self._database.write(
            lambda connection: schedule_inquiries(
                connection,
                self._inquiries,
                since,
                merchant_account=merchant_account,
                after=after,
                limit=limit,
                actor=actor,
                now=self._now(),
            )
        )

    async def record(
        self, actor: str, action: str, payment: Payment, detail: Mapping[str, object]
    ) -> None:
        """Audit what an operator is about to do with a payment."""
        await self._database.write(
            lambda connection: write_audit(
                connection,
                self._now(),
                actor,
                action,
                merchant_account=payment.merchant_account,
                subject_id=payment.payment_request_id,
                detail=detail,
            )
        )

    async def audit(self, since: datetime | None, limit: int) -> Sequence[AuditRecord]:
        """The newest ``limit`` records at or after ``since``, oldest first."""
        return await self._database.read(lambda connection: read_audit(connection, since, limit))

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
    cadence: Cadence | None = None,
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
        async with hints.running(log.hint if listens else None):
            yield PaymentStore(
                database, log, hints, cipher=cipher, now=now, cadence=cadence or Cadence()
            )
    finally:
        await database.dispose()
