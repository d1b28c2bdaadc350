"""What operators do to what is stored; each step and its audit record are one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from antom_payments.fact import Notification
from antom_payments.payment import Payment
from antom_payments.store.audit import AuditRecord, read_audit, write_audit
from antom_payments.store.database import Database
from antom_payments.store.erasure import Erased, erase_payment
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.members import Member, OrphanState
from antom_payments.store.orphans import Orphan, list_orphans
from antom_payments.store.private_data import DataCipher
from antom_payments.store.quarantine import Quarantine, Replayed, StoredNotification
from antom_payments.store.reinquire import Scheduled, schedule_inquiries


class BackOffice:
    """Lists, replays, discards, erases and schedules for operators, and remembers who did.

    ``on_append`` is called after a commit that may have appended events. Every method raises
    StoreUnavailable when the database cannot be used.
    """

    def __init__(
        self,
        database: Database,
        inquiries: Inquiries,
        *,
        cipher: DataCipher,
        now: Callable[[], datetime],
        on_append: Callable[[], None],
    ) -> None:
        self._database = database
        self._inquiries = inquiries
        self._cipher = cipher
        self._now = now
        self._on_append = on_append
        self._quarantine = Quarantine(cipher, now, inquiries)

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
        self._on_append()
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
