"""Quarantine: verified notifications that were not understood, or not to be applied.

None is deleted while it waits. An operator replays it, once it is understood, or discards it; what
came from outside the window ends by itself when an inquiry tells the same (`notifications.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.fact import Notification
from antom_payments.store.audit import write_audit
from antom_payments.store.database import lock_transaction
from antom_payments.store.facts import apply_members, payment_id_lock
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.members import Applied, AppliedOutcome, Member
from antom_payments.store.notifications import DISCARDED
from antom_payments.store.private_data import ERASED, DataCipher
from antom_payments.store.tables import notifications

_QUARANTINED = AppliedOutcome.QUARANTINED.value


@dataclass(frozen=True, slots=True)
class StoredNotification:
    """A stored notification without its body: nothing personal."""

    notification_id: str
    merchant_account: str
    outcome: str
    reason: str
    client_id: str
    request_time: str
    key_fingerprint: str
    received_time: datetime
    event_id: str
    copies: int
    """How often the same bytes came again."""
    body_sha256: str
    fact_kind: str
    fact_id: str
    fact_outcome: str
    payment_id: str
    is_erased: bool
    """Whether its body was erased."""

    @property
    def is_quarantined(self) -> bool:
        """Whether it waits for somebody."""
        return self.outcome == _QUARANTINED


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did; `applied` is None when somebody else was first."""

    stored: StoredNotification
    applied: Applied | None


class Quarantine:
    """Steps of the quarantine, each within the caller's transaction, audited in it."""

    def __init__(
        self, cipher: DataCipher, now: Callable[[], datetime], inquiries: Inquiries
    ) -> None:
        self._cipher = cipher
        self._now = now
        self._inquiries = inquiries

    async def listed(
        self, connection: AsyncConnection, reason: str, limit: int, actor: str
    ) -> Sequence[StoredNotification]:
        """What is quarantined, oldest first; of a reason, or of its first part."""
        found = await self.page(connection, reason, None, limit)
        detail = {"reason": reason, "found": len(found)}
        await write_audit(connection, self._now(), actor, "quarantine list", detail=detail)
        return found

    async def page(
        self,
        connection: AsyncConnection,
        reason: str,
        after: StoredNotification | None,
        limit: int,
    ) -> Sequence[StoredNotification]:
        """What is quarantined after a notification, oldest first; not audited."""
        place = (after.received_time, after.notification_id) if after else None
        rows = await set_aside_page(connection, place, limit, *_quarantined(reason))
        return [_from_row(row) for row in rows]

    async def shown(
        self, connection: AsyncConnection, notification_id: str, actor: str, *, with_body: bool
    ) -> tuple[StoredNotification, bytes] | None:
        """One notification, whatever became of it; its body only when it is asked for."""
        row = await _row(connection, notification_id)
        if row is None:
            return None
        await self._record(connection, actor, "show", row, {"body": with_body})
        stored = _from_row(row)
        is_shown = with_body and not stored.is_erased
        return stored, self._cipher.decrypt(bytes(row["body"])) if is_shown else b""

    async def notification(
        self, connection: AsyncConnection, notification_id: str
    ) -> tuple[StoredNotification, Notification | None] | None:
        """One notification as it came, to be read again; without it when its body was erased."""
        row = await _row(connection, notification_id)
        if row is None:
            return None
        stored = _from_row(row)
        return stored, None if stored.is_erased else self._as_it_came(row)

    async def replay(
        self, connection: AsyncConnection, member: Member, actor: str
    ) -> Replayed | None:
        """Apply a quarantined notification as what is understood of it now.

        Its fact makes one event or is a known one, as if it had come now; what is not to be applied
        stays quarantined, with the reason of now.
        """
        assert member.notification is not None  # noqa: S101 - the store's caller read it here
        notification_id = member.notification.notification_id
        if member.fact is not None:
            # Before the row's lock, in the order of all who apply facts.
            key = payment_id_lock(member.fact.merchant_account, member.fact.payment_id)
            await lock_transaction(connection, [key])
        row = await _row(connection, notification_id, lock=True)
        if row is None:
            return None
        stored = _from_row(row)
        if not stored.is_quarantined or stored.is_erased:
            return Replayed(stored, None)
        [applied], _ = await apply_members(
            connection, [member], cipher=self._cipher, now=self._now, inquiries=self._inquiries
        )
        # The row and the record are ours alone: behind the log's lock nobody is waited for.
        values = {
            "outcome": applied.outcome.value,
            "reason": member.not_understood[:128],
            "event_id": applied.event.event_id if applied.event else None,
            "copies": stored.copies,
        }
        await connection.execute(
            update(notifications)
            .where(notifications.c.notification_id == notification_id)
            .values(values)
        )
        detail = {name: values[name] for name in ("outcome", "reason", "event_id")}
        await self._record(connection, actor, "replay", row, detail)
        row = await _row(connection, notification_id)
        return Replayed(_from_row(row), applied)

    async def discard(
        self, connection: AsyncConnection, notification_id: str, why: str, actor: str
    ) -> tuple[StoredNotification, bool] | None:
        """Set a quarantined notification aside for good; whether this did it."""
        row = await _row(connection, notification_id, lock=True)
        if row is None:
            return None
        stored = _from_row(row)
        if not stored.is_quarantined:
            return stored, False
        await connection.execute(
            update(notifications)
            .where(notifications.c.notification_id == notification_id)
            .values(outcome=DISCARDED)
        )
        detail = {"why": why, "reason": stored.reason}
        await self._record(connection, actor, "discard", row, detail)
        return _from_row({**row, "outcome": DISCARDED}), True

    def _as_it_came(self, row: Any) -> Notification:
        return Notification(
            notification_id=row["notification_id"],
            merchant_account=row["merchant_account"],
            body=self._cipher.decrypt(bytes(row["body"])),
            client_id=row["client_id"],
            request_time=row["request_time"],
            received_time=row["received_time"],
            key_fingerprint=row["key_fingerprint"],
        )

    async def _record(
        self, connection: AsyncConnection, actor: str, what: str, row: Any, detail: dict[str, Any]
    ) -> None:
        await write_audit(
            connection,
            self._now(),
            actor,
            f"quarantine {what}",
            merchant_account=row["merchant_account"],
            subject_id=row["notification_id"],
            detail=detail,
        )


async def set_aside_page(
    connection: AsyncConnection, after: tuple[datetime, str] | None, limit: int, *wanted: Any
) -> Sequence[Any]:
    """Rows of notifications in the order of their receipt, after a time and id."""
    time, notification_id = notifications.c.received_time, notifications.c.notification_id
    query = select(notifications).where(*wanted).order_by(time, notification_id).limit(limit)
    if after is not None:
        later = or_(time > after[0], and_(time == after[0], notification_id > after[1]))
        query = query.where(time >= after[0], later)
    return (await connection.execute(query)).mappings().all()


def _quarantined(reason: str) -> list[Any]:
    wanted = [notifications.c.outcome == _QUARANTINED]
    if reason:
        wanted.append(
            or_(
                notifications.c.reason == reason,
                notifications.c.reason.startswith(f"{reason}:", autoescape=True),
            )
        )
    return wanted


async def _row(connection: AsyncConnection, notification_id: str, *, lock: bool = False) -> Any:
    wanted = select(notifications).where(notifications.c.notification_id == notification_id)
    rows = await connection.execute(wanted.with_for_update() if lock else wanted)
    return rows.mappings().one_or_none()


def _from_row(row: Any) -> StoredNotification:
    kept: dict[str, Any] = {
        field.name: row[field.name] for field in fields(StoredNotification) if field.name in row
    }
    nulls = {name: "" for name, value in kept.items() if value is None}
    return StoredNotification(**kept | nulls, is_erased=bytes(row["body"]) == ERASED)
