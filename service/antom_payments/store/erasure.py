"""Erasure of a payment's personal data: the side table's row and raw notification bodies.

What remains holds none: the payment, its events and facts, and of each notification its hash, ids
and outcome, so that what Antom sends again is still known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.store.audit import write_audit
from antom_payments.store.database import lock_transaction
from antom_payments.store.facts import payment_id_lock
from antom_payments.store.members import UNADOPTED, AppliedOutcome
from antom_payments.store.notifications import DISCARDED
from antom_payments.store.private_data import ERASED, DataCipher
from antom_payments.store.quarantine import set_aside_page
from antom_payments.store.tables import events, facts, notifications, payments, private_data

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased now; nothing when it was before."""

    sessions: int
    """Rows of stored session requests and sessions: 0 or 1."""
    notifications: int
    """Raw bodies."""


async def erase_payment(
    connection: AsyncConnection,
    merchant_account: str,
    payment_request_id: str,
    *,
    cipher: DataCipher,
    actor: str,
    now: datetime,
) -> Erased | None:
    """Erase what is personal of a payment; None when there is no such payment. Audited."""
    is_payment = (
        payments.c.merchant_account == merchant_account,
        payments.c.payment_request_id == payment_request_id,
    )
    found = (await connection.execute(select(payments.c.payment_id).where(*is_payment))).first()
    if found is None:
        return None
    payment_id: str = found[0] or ""
    if payment_id:
        await lock_transaction(connection, [payment_id_lock(merchant_account, payment_id)])
    sessions = await connection.execute(
        delete(private_data).where(
            private_data.c.merchant_account == merchant_account,
            private_data.c.payment_request_id == payment_request_id,
        )
    )
    ids = await _ids_of(connection, merchant_account, payment_request_id, payment_id)
    needles = [f'"{one}"'.encode() for one in (payment_request_id, payment_id) if one]
    ids |= await _ids_that_name(connection, merchant_account, needles, cipher)
    bodies = await _empty(connection, ids)
    erased = Erased(sessions.rowcount, bodies)
    await write_audit(
        connection,
        now,
        actor,
        "erase",
        merchant_account=merchant_account,
        subject_id=payment_request_id,
        detail={"sessions": erased.sessions, "notifications": erased.notifications},
    )
    return erased


async def _ids_of(
    connection: AsyncConnection, merchant_account: str, payment_request_id: str, payment_id: str
) -> set[str]:
    """Notifications that name its `paymentId`, told its facts or led to its events."""
    waits = and_(
        facts.c.orphan_state.in_(UNADOPTED), facts.c.payment_request_id == payment_request_id
    )
    told = or_(waits, facts.c.payment_id == payment_id) if payment_id else waits
    wanted: list[Select[Any]] = [
        select(events.c.body["notification_id"].as_string()).where(
            events.c.merchant_account == merchant_account,
            events.c.payment_request_id == payment_request_id,
        ),
        select(facts.c.notification_id).where(facts.c.merchant_account == merchant_account, told),
    ]
    if payment_id:
        wanted.append(
            select(notifications.c.notification_id).where(
                notifications.c.merchant_account == merchant_account,
                notifications.c.payment_id == payment_id,
            )
        )
    # One by one: each has its index, which a condition over all would not use.
    found = [row[0] for query in wanted for row in await connection.execute(query)]
    return {notification_id for notification_id in found if notification_id}


async def _ids_that_name(
    connection: AsyncConnection, merchant_account: str, needles: list[bytes], cipher: DataCipher
) -> set[str]:
    """Notifications set aside whose bytes name the payment: nothing else ties them to it."""
    found: set[str] = set()
    for outcome in (AppliedOutcome.QUARANTINED, DISCARDED):
        after: tuple[datetime, str] | None = None
        while True:
            page = await set_aside_page(
                connection,
                after,
                _PAGE,
                notifications.c.outcome == outcome,
                notifications.c.merchant_account == merchant_account,
                notifications.c.body != ERASED,
            )
            if not page:
                break
            after = (page[-1]["received_time"], page[-1]["notification_id"])
            found.update(_naming(page, needles, cipher))
    return found


def _naming(page: Any, needles: list[bytes], cipher: DataCipher) -> Iterator[str]:
    for row in page:
        body = cipher.decrypt(bytes(row["body"]))
        if any(needle in body for needle in needles):
            yield row["notification_id"]


async def _empty(connection: AsyncConnection, ids: set[str]) -> int:
    """Replace the bodies by the marker; how many."""
    if not ids:
        return 0
    chosen = and_(notifications.c.notification_id.in_(sorted(ids)), notifications.c.body != ERASED)
    # Locked in the order in which notifications are written.
    await connection.execute(
        select(notifications.c.notification_id)
        .where(chosen)
        .order_by(notifications.c.merchant_account, notifications.c.body_sha256)
        .with_for_update()
    )
    result = await connection.execute(update(notifications).where(chosen).values(body=ERASED))
    return result.rowcount
