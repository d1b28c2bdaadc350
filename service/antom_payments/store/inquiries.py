"""Inquiries to come: what Antom is still to be asked about, when, and who does it.

A row is written in the transaction that changes its payment, so that nothing stays open and
unexamined after a crash. Replicas share the work by leases: a lease that is over is anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import case, delete, exists, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.cadence import Cadence, Phase, Priority, priority_of
from antom_payments.payment import Payment
from antom_payments.store.members import InquiryKind, OrphanState, WantedInquiry
from antom_payments.store.rows import payment_from_row
from antom_payments.store.tables import IS_OPEN, facts, inquiries, payments

PaymentKey = tuple[str, str]

KEY = ("merchant_account", "kind", "subject_id")
CLOCKS_DIFFER = timedelta(minutes=1)
"""By so much, at most, the clocks of replicas that are in order."""


class Inquiries:
    """Steps of inquiries, each within the caller's transaction."""

    def __init__(self, cadence: Cadence, now: Callable[[], datetime]) -> None:
        self.cadence = cadence
        self._now = now

    async def follow(
        self, connection: AsyncConnection, changes: Iterable[tuple[Payment | None, Payment]]
    ) -> None:
        """Let payments that changed follow the cadence of their new phase.

        ``changes`` are payments before and after, under their locks. Nothing is written for one
        whose phase stays the same: it keeps its pace.
        """
        now = self._now()
        over: list[PaymentKey] = []
        begun: list[dict[str, Any]] = []
        for before, after in changes:
            phase = self.cadence.phase(after, now)
            is_new = after.inquiry_wanted and not (before and before.inquiry_wanted)
            if before and not is_new and self.cadence.phase(before, now) is phase:
                continue
            if phase is None:
                over.append((after.merchant_account, after.payment_request_id))
            else:
                begun.append(self._begun(after, phase, now))
        if over:
            await connection.execute(
                delete(inquiries).where(
                    inquiries.c.kind == InquiryKind.PAYMENT,
                    tuple_(inquiries.c.merchant_account, inquiries.c.subject_id).in_(sorted(over)),
                )
            )
        await _upsert(connection, begun)

    async def want(
        self,
        connection: AsyncConnection,
        wanted: Iterable[WantedInquiry],
        *,
        priority: Priority = Priority.EVIDENCE,
    ) -> None:
        """Have these asked about at once."""
        now = self._now()
        rows = []
        for one in sorted(set(wanted)):
            phase = Phase.ORPHAN if one.kind is InquiryKind.ORPHAN else Phase.PRESSING
            row = _row(one, phase, due=now, now=now)
            rows.append(row | {"priority": priority})
        await _upsert(connection, rows, is_asked_sooner=True)

    async def hasten(self, connection: AsyncConnection, payment: Payment) -> None:
        """Ask again soon about an open payment that somebody waits for.

        One whose money is held or taken keeps its pace: whoever reads it has just been told, and
        many readers must not spend the merchant's rate.
        """
        now = self._now()
        soon = self.cadence.due(payment, Phase.PRESSING, step=0, since=now, now=now)
        await connection.execute(
            update(inquiries)
            .where(
                *_of_payment(payment),
                inquiries.c.phase.in_((Phase.WAITING, Phase.PRESSING)),
                inquiries.c.due_time > soon,
            )
            .values(due_time=soon, priority=Priority.EVIDENCE)
        )

    async def adopt_missing(self, connection: AsyncConnection, *, limit: int) -> int:
        """The net: payments and orphans that nothing asks about although something should.

        Left by a version that did not know of inquiries yet, or by a restore of a part.
        """
        now = self._now()
        asked = exists().where(
            inquiries.c.merchant_account == payments.c.merchant_account,
            inquiries.c.kind == InquiryKind.PAYMENT,
            inquiries.c.subject_id == payments.c.payment_request_id,
        )
        rows = await connection.execute(select(payments).where(IS_OPEN, ~asked).limit(limit))
        found = [payment_from_row(row) for row in rows.mappings()]
        begun = [
            self._begun(payment, phase, now)
            for payment in found
            if (phase := self.cadence.phase(payment, now))
        ]
        await _insert(connection, begun)
        orphans = await _orphans_without_inquiry(connection, limit)
        await self.want(connection, orphans)
        await _put_right(connection, now)
        return len(begun) + len(orphans)

    def _begun(self, payment: Payment, phase: Phase, now: datetime) -> dict[str, Any]:
        return _row(
            WantedInquiry(
                payment.merchant_account, InquiryKind.PAYMENT, payment.payment_request_id
            ),
            phase,
            due=self.cadence.due(payment, phase, step=0, since=now, now=now),
            now=now,
        )


def _row(wanted: WantedInquiry, phase: Phase, *, due: datetime, now: datetime) -> dict[str, Any]:
    return {
        "merchant_account": wanted.merchant_account,
        "kind": wanted.kind,
        "subject_id": wanted.subject_id,
        "phase": phase,
        "step": 0,
        "since_time": now,
        "priority": priority_of(phase),
        "due_time": due,
    }


async def _upsert(
    connection: AsyncConnection, rows: Sequence[dict[str, Any]], *, is_asked_sooner: bool = False
) -> None:
    """Begin a phase; whoever asks meanwhile keeps the lease, and settles into the new phase.

    With ``is_asked_sooner`` nothing that presses already is put behind what does not.
    """
    if rows:
        statement = _upserting(connection.dialect.name, is_asked_sooner)
        await connection.execute(statement, sorted(rows, key=_key))


@cache
def _upserting(dialect: str, is_asked_sooner: bool) -> Any:
    """The statement, made once: making it costs more than running it."""
    statement = _inserting(dialect)
    told = statement.excluded
    names = ("phase", "step", "since_time", "priority", "due_time")
    changed: dict[str, Any] = {name: told[name] for name in names}
    if is_asked_sooner:
        stays = inquiries.c.priority < told.priority
        changed["priority"] = case((stays, inquiries.c.priority), else_=told.priority)
    return statement.on_conflict_do_update(index_elements=KEY, set_=changed)


async def _insert(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Begin a phase, unless something asks already."""
    if rows:
        statement = _inserting(connection.dialect.name).on_conflict_do_nothing()
        await connection.execute(statement, sorted(rows, key=_key))


def _inserting(dialect: str) -> Any:
    return sqlite.insert(inquiries) if dialect == "sqlite" else postgresql.insert(inquiries)


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


async def _put_right(connection: AsyncConnection, now: datetime) -> None:
    """Have evidence asked about now that a clock far ahead put off: it would wait until then."""
    await connection.execute(
        update(inquiries)
        .where(
            inquiries.c.priority == Priority.EVIDENCE,
            inquiries.c.since_time > now + CLOCKS_DIFFER,
            inquiries.c.due_time > now,
        )
        .values(due_time=now)
    )


async def _orphans_without_inquiry(connection: AsyncConnection, limit: int) -> list[WantedInquiry]:
    asked = exists().where(
        inquiries.c.merchant_account == facts.c.merchant_account,
        inquiries.c.kind == InquiryKind.ORPHAN,
        inquiries.c.subject_id == facts.c.payment_id,
    )
    result = await connection.execute(
        select(facts.c.merchant_account, facts.c.payment_id)
        .where(facts.c.orphan_state == OrphanState.WAITING, ~asked)
        .distinct()
        .limit(limit)
    )
    return [WantedInquiry(row[0], InquiryKind.ORPHAN, row[1]) for row in result]


def _of_payment(payment: Payment) -> tuple[Any, ...]:
    return (
        inquiries.c.merchant_account == payment.merchant_account,
        inquiries.c.kind == InquiryKind.PAYMENT,
        inquiries.c.subject_id == payment.payment_request_id,
    )
