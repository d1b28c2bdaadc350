"""Orphans: facts that came before their payment was known, to their end (design 9).

    WAITING ─► ADOPTED         its payment became known; also from the two others
            ─► FOREIGN         Antom knows the payment, and it is not one of ours
            ─► UNATTRIBUTED    nobody knew the payment in time

Whoever asks Antom says which; that a payment adopts them is `facts.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import and_, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.fact import Fact
from antom_payments.store.audit import write_audit
from antom_payments.store.database import lock_transaction
from antom_payments.store.facts import payment_id_lock
from antom_payments.store.members import OrphanState
from antom_payments.store.rows import fact_from_json
from antom_payments.store.tables import facts, payments

EndOfOrphan = Literal[OrphanState.FOREIGN, OrphanState.UNATTRIBUTED]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A fact that came before its payment was known."""

    merchant_account: str
    kind: str
    fact_id: str
    outcome: str
    payment_id: str
    payment_request_id: str
    """Empty when the news names only `payment_id`, as CAPTURE_RESULT does."""
    told_time: datetime
    state: OrphanState
    event_id: str
    """The event of its adoption; empty until then."""
    notification_id: str
    """The stored notification that told it; empty when an inquiry did."""


async def end_orphans(
    connection: AsyncConnection, merchant_account: str, payment_id: str, state: EndOfOrphan
) -> int:
    """Conclude the facts of a `paymentId` that still wait; how many. Repeated, it changes none."""
    # The lock of whatever applies facts of this paymentId: an adoption is never overwritten.
    await lock_transaction(connection, [payment_id_lock(merchant_account, payment_id)])
    result = await connection.execute(
        update(facts)
        .where(
            facts.c.merchant_account == merchant_account,
            facts.c.payment_id == payment_id,
            facts.c.orphan_state == OrphanState.WAITING,
        )
        .values(orphan_state=state)
    )
    return result.rowcount


async def adoptable(
    connection: AsyncConnection, limit: int, states: Sequence[OrphanState]
) -> Sequence[Fact]:
    """Facts without a payment whose payment is known by now, oldest first.

    As facts are told: by the merchant's id when the news names it, else by Antom's.
    """
    by_request_id = exists().where(
        payments.c.merchant_account == facts.c.merchant_account,
        payments.c.payment_request_id == facts.c.payment_request_id,
    )
    by_payment_id = exists().where(
        payments.c.merchant_account == facts.c.merchant_account,
        payments.c.payment_id == facts.c.payment_id,
    )
    names_request = func.coalesce(facts.c.payment_request_id, "") != ""
    rows = await connection.execute(
        select(facts.c.body)
        .where(
            facts.c.orphan_state.in_(states),
            or_(and_(names_request, by_request_id), and_(~names_request, by_payment_id)),
        )
        .order_by(facts.c.told_time, facts.c.fact_id)
        .limit(limit)
    )
    return [fact_from_json(body) for (body,) in rows]


async def list_orphans(
    connection: AsyncConnection,
    states: Sequence[OrphanState],
    limit: int,
    *,
    actor: str,
    now: datetime,
) -> Sequence[Orphan]:
    """Orphans in one of ``states``, oldest first; audited."""
    rows = await connection.execute(
        select(facts)
        .where(facts.c.orphan_state.in_(states))
        .order_by(facts.c.told_time, facts.c.fact_id)
        .limit(limit)
    )
    found = [
        Orphan(
            merchant_account=row["merchant_account"],
            kind=row["kind"],
            fact_id=row["fact_id"],
            outcome=row["outcome"],
            payment_id=row["payment_id"],
            payment_request_id=row["payment_request_id"] or "",
            told_time=row["told_time"],
            state=OrphanState(row["orphan_state"]),
            event_id=row["event_id"] or "",
            notification_id=row["notification_id"] or "",
        )
        for row in rows.mappings()
    ]
    detail = {"states": [state.value for state in states], "found": len(found)}
    await write_audit(connection, now, actor, "orphans list", detail=detail)
    return found
