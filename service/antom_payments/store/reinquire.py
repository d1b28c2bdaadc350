"""Payments to be asked about once more, whatever is known of them: for after a restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.cadence import Priority
from antom_payments.store.audit import write_audit
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.members import InquiryKind, WantedInquiry
from antom_payments.store.tables import payments


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A page of payments that inquiries were scheduled for."""

    count: int
    last: tuple[str, str] | None
    """The key of the last one, to go on after; None when there was none."""


async def schedule_inquiries(
    connection: AsyncConnection,
    inquiries: Inquiries,
    since: datetime,
    *,
    merchant_account: str,
    after: tuple[str, str] | None,
    limit: int,
    actor: str,
    now: datetime,
) -> Scheduled:
    """Schedule an inquiry, due at once, for payments created or changed since; audited.

    Final ones included: a restored database may have lost what changed them. At most ``limit``,
    by key, after the key ``after``; of all merchants when ``merchant_account`` is empty.
    """
    chosen = select(payments.c.merchant_account, payments.c.payment_request_id).where(
        payments.c.update_time >= since
    )
    if merchant_account:
        chosen = chosen.where(payments.c.merchant_account == merchant_account)
    if after is not None:
        # As a pair: of alternatives the planner makes no place in the key to begin at.
        key = tuple_(payments.c.merchant_account, payments.c.payment_request_id)
        chosen = chosen.where(key > tuple_(*map(literal, after)))
    ordered = chosen.order_by(payments.c.merchant_account, payments.c.payment_request_id)
    keys = [(row[0], row[1]) for row in await connection.execute(ordered.limit(limit))]
    if keys:
        wanted = (WantedInquiry(key[0], InquiryKind.PAYMENT, key[1]) for key in keys)
        await inquiries.want(connection, wanted, priority=Priority.ROUTINE)
    await write_audit(
        connection,
        now,
        actor,
        "reinquire",
        merchant_account=merchant_account,
        detail={"since": since.isoformat(), "scheduled": len(keys)},
    )
    return Scheduled(len(keys), keys[-1] if keys else None)
