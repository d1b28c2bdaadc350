"""Payments to be asked about once more, whatever is known of them: for after a restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.store.audit import write_audit
from antom_payments.store.batch import InquiryKind
from antom_payments.store.tables import inquiries, payments


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A page of payments that inquiries were scheduled for."""

    count: int
    last: tuple[str, str] | None
    """The key of the last one, to go on after; None when there was none."""


async def schedule_inquiries(
    connection: AsyncConnection,
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
    wanted = select(payments.c.merchant_account, payments.c.payment_request_id).where(
        payments.c.update_time >= since
    )
    if merchant_account:
        wanted = wanted.where(payments.c.merchant_account == merchant_account)
    if after is not None:
        wanted = wanted.where(
            or_(
                payments.c.merchant_account > after[0],
                and_(
                    payments.c.merchant_account == after[0],
                    payments.c.payment_request_id > after[1],
                ),
            )
        )
    ordered = wanted.order_by(payments.c.merchant_account, payments.c.payment_request_id)
    keys = [(row[0], row[1]) for row in await connection.execute(ordered.limit(limit))]
    if keys:
        await connection.execute(_upsert(connection), [_row(key, now) for key in keys])
    await write_audit(
        connection,
        now,
        actor,
        "reinquire",
        merchant_account=merchant_account,
        detail={"since": since.isoformat(), "scheduled": len(keys)},
    )
    return Scheduled(len(keys), keys[-1] if keys else None)


def _row(key: tuple[str, str], now: datetime) -> dict[str, Any]:
    merchant_account, payment_request_id = key
    return {
        "merchant_account": merchant_account,
        "kind": InquiryKind.PAYMENT.value,
        "subject_id": payment_request_id,
        "phase": "PRESSING",
        "step": 0,
        "since_time": now,
        "priority": 1,
        "due_time": now,
        "lease_token": None,
        "lease_until_time": None,
    }


def _upsert(connection: AsyncConnection) -> Any:
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(inquiries)
    names = ("phase", "step", "since_time", "priority", "due_time")
    return statement.on_conflict_do_update(
        index_elements=["merchant_account", "kind", "subject_id"],
        set_={name: statement.excluded[name] for name in names}
        # Whoever asks now may ask about what was before.
        | {"lease_token": None, "lease_until_time": None},
    )
