"""Who asks Antom now: claims of inquiries that are due, under leases and a rate per merchant.

Replicas share the work: a claim is a lease that everybody sees, one that is over is anybody's, and
all of them draw from one token bucket for each merchant.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, literal, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.cadence import Cadence, Phase, Priority, priority_of
from antom_payments.payment import Payment
from antom_payments.store.inquiries import CLOCKS_DIFFER, KEY
from antom_payments.store.members import InquiryKind, OrphanState
from antom_payments.store.rows import payment_from_row
from antom_payments.store.tables import facts, inquiries, inquiry_rates, payments

Row = Mapping[Any, Any]

_ROUTINES_TURN = 4
"""Each so many claims of a merchant, by a process, routine goes before evidence."""


@dataclass(frozen=True, slots=True)
class InquiryClaim:
    """An inquiry that is due, and the lease under which one process makes it."""

    merchant_account: str
    kind: InquiryKind
    subject_id: str
    phase: Phase
    since_time: datetime
    lease_token: str
    payment: Payment | None
    """The payment as it stood when the inquiry was claimed; None for an orphan's."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many inquiries a merchant may make, all replicas together: a token bucket."""

    per_second: float = 10.0
    burst: float = 20.0
    """What may be saved up; at least 1."""

    @classmethod
    def of(cls, per_second: float) -> Rate:
        """The rate that saves up two seconds of inquiries."""
        return cls(per_second, max(1.0, 2 * per_second))


class InquiryLeases:
    """Steps of claims, each within the caller's transaction."""

    def __init__(self, cadence: Cadence, now: Callable[[], datetime]) -> None:
        self._cadence = cadence
        self._now = now
        self._turns: Counter[str] = Counter()

    async def claim(
        self,
        connection: AsyncConnection,
        merchant_account: str,
        *,
        limit: int,
        rate: Rate,
        lease_seconds: float,
    ) -> list[InquiryClaim]:
        """Take what is due, the most pressing first, as much as the merchant's rate allows."""
        now = self._now()
        allowed = min(limit, await self._tokens(connection, merchant_account, rate, now))
        rows = await self._due(connection, merchant_account, allowed, now)
        if not rows:
            return []
        token = str(uuid.uuid4())
        keys = [tuple(row[name] for name in KEY) for row in rows]
        await connection.execute(
            update(inquiries)
            .where(tuple_(*(inquiries.c[name] for name in KEY)).in_(keys))
            .values(lease_token=token, lease_until_time=now + timedelta(seconds=lease_seconds))
        )
        await connection.execute(
            update(inquiry_rates)
            .where(inquiry_rates.c.merchant_account == merchant_account)
            .values(tokens=inquiry_rates.c.tokens - len(rows))
        )
        known = await self._payments(connection, merchant_account, rows)
        return [
            InquiryClaim(
                merchant_account=merchant_account,
                kind=InquiryKind(row["kind"]),
                subject_id=row["subject_id"],
                phase=Phase(row["phase"]),
                since_time=row["since_time"],
                lease_token=token,
                payment=known.get((row["kind"], row["subject_id"])),
            )
            for row in rows
        ]

    async def settle(
        self, connection: AsyncConnection, claim: InquiryClaim, *, retry_seconds: float | None
    ) -> None:
        """Give a claim back: asked and stored, or, with ``retry_seconds``, to be asked again.

        Nothing happens when the lease was lost: somebody else is at it.
        """
        row = await self._mine(connection, claim)
        if row is None:
            return
        now = self._now()
        if retry_seconds is not None:
            retry = timedelta(seconds=retry_seconds)
            await _give_back(connection, claim, {"due_time": now + retry})
            return
        if (row["phase"], row["since_time"]) != (claim.phase, claim.since_time):
            # A phase that began meanwhile, by news or by the answer, has its own first step.
            await _give_back(connection, claim, {})
            return
        if claim.kind is InquiryKind.ORPHAN:
            is_open = await _is_waiting(connection, claim)
            step = row["step"] + 1
            due = self._cadence.orphan_due(step=step, since=row["since_time"], now=now)
            values = {"step": step, "due_time": due} if is_open and due else None
        else:
            values = await self._next(connection, claim, row, now)
        if values is None:
            await connection.execute(delete(inquiries).where(*_of(claim)))
        else:
            await _give_back(connection, claim, values)

    async def _next(
        self, connection: AsyncConnection, claim: InquiryClaim, row: Row, now: datetime
    ) -> dict[str, Any] | None:
        """What comes after an inquiry about a payment, as it stands by now."""
        known = await self._payments(connection, claim.merchant_account, [row])
        found = known.get((claim.kind, claim.subject_id))
        phase = self._cadence.phase(found, now) if found else None
        if found is None or phase is None:
            return None
        same = phase.value == row["phase"]
        step = row["step"] + 1 if same else 0
        since = row["since_time"] if same else now
        return {
            "phase": phase,
            "step": step,
            "since_time": since,
            "priority": priority_of(phase),
            "due_time": self._cadence.due(found, phase, step=step, since=since, now=now),
        }

    async def _tokens(
        self, connection: AsyncConnection, merchant_account: str, rate: Rate, now: datetime
    ) -> int:
        """Fill the merchant's bucket for the time that passed; whole inquiries in it."""
        dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
        await connection.execute(
            dialect.insert(inquiry_rates)
            .values(merchant_account=merchant_account, tokens=rate.burst, update_time=now)
            .on_conflict_do_nothing()
        )
        mine = inquiry_rates.c.merchant_account == merchant_account
        bucket = (
            await connection.execute(select(inquiry_rates).where(mine).with_for_update())
        ).one()
        passed = max(0.0, (now - bucket.update_time).total_seconds())
        tokens = min(rate.burst, bucket.tokens + passed * rate.per_second)
        # A clock that was far ahead, and was put right, must not stop the bucket until then.
        is_ahead = bucket.update_time - now > CLOCKS_DIFFER
        update_time = now if is_ahead else max(now, bucket.update_time)
        await connection.execute(
            update(inquiry_rates).where(mine).values(tokens=tokens, update_time=update_time)
        )
        return int(tokens)

    async def _due(
        self, connection: AsyncConnection, merchant_account: str, limit: int, now: datetime
    ) -> list[Row]:
        """By class, as the index has them: the routine of a week must not be walked through.

        Now and then from the other end: what never stops pressing must not keep a payment that
        waits from lapsing, nor one that was paid from being looked at again.
        """
        found: list[Row] = []
        if limit:
            self._turns[merchant_account] += 1
        is_routines_turn = self._turns[merchant_account] % _ROUTINES_TURN == 0
        for priority in sorted(Priority, reverse=is_routines_turn):
            if len(found) == limit:
                break
            result = await connection.execute(
                select(inquiries)
                .where(
                    inquiries.c.merchant_account == merchant_account,
                    inquiries.c.priority == priority,
                    inquiries.c.due_time <= now,
                    _is_free(now),
                )
                .order_by(inquiries.c.due_time)
                .limit(limit - len(found))
                # SQLite has one writer; there it says nothing.
                .with_for_update(skip_locked=True)
            )
            found += result.mappings().all()
        return found

    async def _payments(
        self, connection: AsyncConnection, merchant_account: str, rows: Sequence[Row]
    ) -> dict[tuple[str, str], Payment]:
        ids = [row["subject_id"] for row in rows if row["kind"] == InquiryKind.PAYMENT]
        if not ids:
            return {}
        result = await connection.execute(
            select(payments).where(
                payments.c.merchant_account == merchant_account,
                payments.c.payment_request_id.in_(ids),
            )
        )
        found = [payment_from_row(row) for row in result.mappings()]
        kind = InquiryKind.PAYMENT.value
        return {(kind, payment.payment_request_id): payment for payment in found}

    async def _mine(self, connection: AsyncConnection, claim: InquiryClaim) -> Row | None:
        result = await connection.execute(select(inquiries).where(*_of(claim)).with_for_update())
        row = result.mappings().one_or_none()
        return row if row and row["lease_token"] == claim.lease_token else None


async def most_overdue(connection: AsyncConnection, now: datetime) -> datetime | None:
    """Since when the inquiry that waits longest has been due; None when none is."""
    result = await connection.execute(
        select(inquiries.c.due_time)
        .where(inquiries.c.due_time <= now, _is_free(now))
        .order_by(inquiries.c.due_time)
        .limit(1)
    )
    found: datetime | None = result.scalar_one_or_none()
    return found


async def open_by_phase(connection: AsyncConnection) -> dict[str, int]:
    """How many inquiries are to come, by phase."""
    result = await connection.execute(
        select(inquiries.c.phase, func.count()).group_by(inquiries.c.phase)
    )
    return {row[0]: row[1] for row in result}


async def _give_back(
    connection: AsyncConnection, claim: InquiryClaim, values: Mapping[str, Any]
) -> None:
    await connection.execute(
        update(inquiries)
        .where(*_of(claim))
        .values(**values, lease_token=None, lease_until_time=None)
    )


async def _is_waiting(connection: AsyncConnection, claim: InquiryClaim) -> bool:
    """Whether an orphan still waits for the payment that was asked about."""
    result = await connection.execute(
        select(literal(1))
        .where(
            facts.c.merchant_account == claim.merchant_account,
            facts.c.payment_id == claim.subject_id,
            facts.c.orphan_state == OrphanState.WAITING,
        )
        .limit(1)
    )
    return result.one_or_none() is not None


def _is_free(now: datetime) -> Any:
    return or_(inquiries.c.lease_until_time.is_(None), inquiries.c.lease_until_time <= now)


def _of(claim: InquiryClaim) -> tuple[Any, ...]:
    return (
        inquiries.c.merchant_account == claim.merchant_account,
        inquiries.c.kind == claim.kind,
        inquiries.c.subject_id == claim.subject_id,
    )
