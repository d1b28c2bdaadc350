"""The audit: what operators did by command, written in the transaction that does it.

Ids and counts only, and the operator's own words where a command asks for them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.store.tables import audit_records


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that an operator did."""

    audit_id: str
    record_time: datetime
    actor: str
    """Who says to have done it: the system's user, or what the command was told."""
    action: str
    """The command, as in `quarantine discard`."""
    merchant_account: str
    """Empty when it is about several."""
    subject_id: str
    """What it was done to: a `notification_id`, a `payment_request_id`; empty for lists."""
    detail: Mapping[str, Any]


async def write_audit(
    connection: AsyncConnection,
    time: datetime,
    actor: str,
    action: str,
    *,
    merchant_account: str = "",
    subject_id: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Record what the open transaction does. A new row of its own: it waits for nobody."""
    await connection.execute(
        insert(audit_records).values(
            audit_id=str(uuid.uuid4()),
            record_time=time,
            actor=actor,
            action=action,
            merchant_account=merchant_account,
            subject_id=subject_id,
            detail=dict(detail or {}),
        )
    )


async def read_audit(
    connection: AsyncConnection, since: datetime | None, limit: int
) -> Sequence[AuditRecord]:
    """The newest ``limit`` records at or after ``since``, oldest first."""
    newest = select(audit_records).order_by(
        audit_records.c.record_time.desc(), audit_records.c.audit_id
    )
    if since is not None:
        newest = newest.where(audit_records.c.record_time >= since)
    rows = await connection.execute(newest.limit(limit))
    return [AuditRecord(**row) for row in rows.mappings()][::-1]
