"""Applying facts: state, fact and event in one transaction, each fact exactly one event.

Many members share one transaction of multi-row statements. Lock order, always: the locks of the
`paymentId`s, sorted; the payment rows, sorted; facts and notifications, sorted; the log's end, and
nothing after it. (Measured: members in arrival order deadlock, sorted never.) The lock of a
`paymentId` joins a payment and the captures that name only its `paymentId`: whoever comes first,
the other sees it (a plain implementation loses the capture when both arrive at once).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import and_, bindparam, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.fact import Fact
from antom_payments.payment import EventType, Payment
from antom_payments.payment_event import PaymentEvent
from antom_payments.store.batch import Batch, KnownFact, Verdict
from antom_payments.store.database import lock_transaction
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.log import append
from antom_payments.store.members import (
    UNADOPTED,
    Applied,
    AppliedOutcome,
    Member,
    OrphanState,
    PaymentKey,
)
from antom_payments.store.notifications import (
    release_held_back,
    with_kept_ids,
    write_notifications,
)
from antom_payments.store.private_data import DataCipher
from antom_payments.store.rows import (
    event_from_row,
    fact_from_json,
    fact_to_json,
    payment_from_row,
    payment_to_row,
)
from antom_payments.store.sessions import PRIVATE_DATA_WINDOW, read_session_ids, write_sessions
from antom_payments.store.tables import events, facts, notifications, payments

_FACT_KEY = ("merchant_account", "kind", "fact_id", "outcome")
_PAYMENT_KEY = ("merchant_account", "payment_request_id")


async def apply_members(
    connection: AsyncConnection,
    members: Sequence[Member],
    *,
    cipher: DataCipher,
    now: Callable[[], datetime],
    inquiries: Inquiries,
    private_data_window: timedelta = PRIVATE_DATA_WINDOW,
) -> tuple[list[Applied], list[EventType]]:
    """Apply ``members`` in the open transaction: an answer for each, and the events it appended."""
    batch = Batch()
    members = await _read(connection, batch, members, cipher)
    # Under the locks: bytes that another transaction stores with their fact are seen here.
    members, set_aside = await with_kept_ids(connection, members)
    verdicts = [batch.tell(member, now()) for member in members]
    await write_sessions(connection, batch, cipher, private_data_window)
    await _write_facts(connection, batch)
    await write_notifications(connection, members, verdicts, set_aside, cipher)
    await release_held_back(connection, batch, members, verdicts)
    await inquiries.follow(connection, batch.changes())
    await inquiries.want(connection, batch.wanted)
    appended = await _append(connection, batch, now)
    answers = await _answers(connection, batch, verdicts, appended)
    return answers, [event.type for event in appended.values()]


async def _read(
    connection: AsyncConnection, batch: Batch, members: Sequence[Member], cipher: DataCipher
) -> Sequence[Member]:
    """Lock and read whatever the members may touch; the members, as they are known by then."""
    told = [member.fact for member in members if member.fact]
    results = [member.session_result for member in members if member.session_result]
    ids = sorted({(fact.merchant_account, fact.payment_id) for fact in told})
    requests = {
        (fact.merchant_account, fact.payment_request_id) for fact in told if fact.payment_request_id
    }
    requests |= {result.key for result in results}
    locks = sorted({payment_id_lock(*payment_id) for payment_id in ids})
    await lock_transaction(connection, locks)
    await _read_payments(connection, batch, ids, sorted(requests))
    if results:
        await read_session_ids(connection, batch, results, cipher)
    if not told:
        return members
    members = [batch.named(member) for member in members]
    await _read_facts(connection, batch, [member.fact for member in members if member.fact], ids)
    return members


async def _read_payments(
    connection: AsyncConnection,
    batch: Batch,
    ids: Sequence[PaymentKey],
    requests: Sequence[PaymentKey],
) -> None:
    """Lock and read payments by either of their ids, with who asks Antom for their sessions."""
    if not ids and not requests:
        return
    by_id = tuple_(payments.c.merchant_account, payments.c.payment_id).in_(ids)
    by_request = tuple_(*_columns(payments, _PAYMENT_KEY)).in_(requests)
    rows = await connection.execute(
        select(payments)
        .where(or_(by_id, by_request))
        .order_by(*_columns(payments, _PAYMENT_KEY))
        .with_for_update()
    )
    for row in rows.mappings():
        batch.find_payment(payment_from_row(row))
        batch.leases[row["merchant_account"], row["payment_request_id"]] = row["lease_token"]


async def _read_facts(
    connection: AsyncConnection, batch: Batch, told: Sequence[Fact], ids: Sequence[PaymentKey]
) -> None:
    """Facts known already, and orphans that wait for one of the payment ids."""
    key = _columns(facts, _FACT_KEY)
    identities = sorted({fact.identity for fact in told})
    waiting = and_(
        tuple_(facts.c.merchant_account, facts.c.payment_id).in_(ids),
        facts.c.orphan_state.in_(UNADOPTED),
    )
    rows = await connection.execute(
        select(facts)
        .where(or_(tuple_(*key).in_(identities), waiting))
        .order_by(facts.c.told_time, *key)
    )
    for row in rows.mappings():
        fact = fact_from_json(row["body"])
        batch.facts[fact.identity] = KnownFact(
            fact=fact,
            event_id=row["event_id"],
            notification_id=row["notification_id"],
            told_time=row["told_time"],
            is_orphan=row["orphan_state"] in UNADOPTED,
            is_conclusive=row["is_conclusive"],
        )


async def _write_facts(connection: AsyncConnection, batch: Batch) -> None:
    """New facts, adopted orphans and counters, in multi-row statements."""
    known = sorted(batch.facts.values(), key=lambda known: known.fact.identity)
    new = [_fact_row(fact) for fact in known if fact.is_new]
    if new:
        await connection.execute(insert(facts), new)
    concluded = [fact for fact in known if (fact.is_adopted or fact.is_retold) and not fact.is_new]
    if concluded:
        names = ("body", "event_id", "orphan_state", "is_conclusive")
        await connection.execute(
            update(facts)
            .where(_keyed(facts, _FACT_KEY))
            .values({name: bindparam(f"v_{name}") for name in names}),
            [
                {**_fact_key(fact.fact)} | {f"v_{name}": _fact_row(fact)[name] for name in names}
                for fact in concluded
            ],
        )
        told = [fact for fact in concluded if fact.notification_id]
        if told:
            await connection.execute(
                update(notifications)
                .where(notifications.c.notification_id == bindparam("k_notification_id"))
                .values(event_id=bindparam("v_event_id"), outcome=AppliedOutcome.APPLIED),
                [
                    {"k_notification_id": fact.notification_id, "v_event_id": fact.event_id}
                    for fact in told
                ],
            )
    again = [fact for fact in known if fact.told_again and not fact.is_new]
    if again:
        await connection.execute(
            update(facts)
            .where(_keyed(facts, _FACT_KEY))
            .values(copies=facts.c.copies + bindparam("v_copies")),
            [{**_fact_key(fact.fact), "v_copies": fact.told_again} for fact in again],
        )


async def _append(
    connection: AsyncConnection, batch: Batch, now: Callable[[], datetime]
) -> dict[str, PaymentEvent]:
    """Append the events, and save the payments with their newest sequence."""
    appended = await append(connection, batch.drafts, now) if batch.drafts else []
    for event in appended:
        key = (event.payment.merchant_account, event.payment.payment_request_id)
        batch.payments[key] = replace(batch.payments[key], last_sequence=event.sequence)
    if batch.changed:
        await save_payments(connection, [batch.payments[key] for key in sorted(batch.changed)])
    return {event.event_id: event for event in appended}


async def save_payments(connection: AsyncConnection, changed: Iterable[Payment]) -> None:
    """Update payment rows that this transaction has locked."""
    rows = [payment_to_row(payment) for payment in changed]
    await connection.execute(
        _saving(*rows[0]),
        [
            {f"{'k' if name in _PAYMENT_KEY else 'v'}_{name}": row[name] for name in row}
            for row in rows
        ],
    )


@cache
def _saving(*names: str) -> Any:
    """The statement that writes these columns, made once: making it costs more than running it."""
    return (
        update(payments)
        .where(_keyed(payments, _PAYMENT_KEY))
        .values({name: bindparam(f"v_{name}") for name in names if name not in _PAYMENT_KEY})
    )


async def _answers(
    connection: AsyncConnection,
    batch: Batch,
    verdicts: Sequence[Verdict],
    appended: Mapping[str, PaymentEvent],
) -> list[Applied]:
    """Answers with their events: those appended now, and those that told the fact before."""
    ids = {verdict.known.event_id for verdict in verdicts if verdict.known}
    earlier = {event_id for event_id in ids if event_id and event_id not in appended}
    told = dict(appended)
    if earlier:
        rows = await connection.execute(select(events).where(events.c.event_id.in_(earlier)))
        told |= {row["event_id"]: event_from_row(row) for row in rows.mappings()}
    by_sequence = {event.sequence: event.event_id for event in appended.values()}
    answers = []
    for verdict in verdicts:
        payment = batch.payments.get(verdict.key) if verdict.key else None
        answers.append(
            Applied(
                outcome=verdict.outcome,
                # None when it was pruned since.
                event=told.get((verdict.known.event_id if verdict.known else None) or ""),
                payment=payment,
                adopted=tuple(appended[known.event_id or ""] for known in verdict.adopted),
                wanted=verdict.wanted,
                is_leased=verdict.is_leased,
                newest_event_id=by_sequence.get(payment.last_sequence, "") if payment else "",
            )
        )
    return answers


def _fact_row(known: KnownFact) -> dict[str, Any]:
    fact = known.fact
    orphan_state = OrphanState.ADOPTED if known.is_adopted else None
    return {
        "merchant_account": fact.merchant_account,
        "kind": fact.kind.value,
        "fact_id": fact.fact_id,
        "outcome": fact.outcome.value,
        "payment_id": fact.payment_id,
        "payment_request_id": fact.payment_request_id,
        "body": fact_to_json(fact),
        "event_id": known.event_id,
        "is_conclusive": known.is_conclusive,
        "orphan_state": OrphanState.WAITING if known.is_orphan else orphan_state,
        "notification_id": known.notification_id,
        "told_time": known.told_time,
        "copies": known.told_again,
    }


def _fact_key(fact: Fact) -> dict[str, Any]:
    return dict(zip((f"k_{name}" for name in _FACT_KEY), fact.identity, strict=True))


def _columns(table: Any, names: Sequence[str]) -> list[Any]:
    return [table.c[name] for name in names]


def _keyed(table: Any, names: Sequence[str]) -> Any:
    """The row whose key is bound as `k_…`."""
    return and_(*(table.c[name] == bindparam(f"k_{name}") for name in names))


def payment_id_lock(merchant_account: str, payment_id: str) -> int:
    """The advisory lock of a `paymentId`: a signed 64-bit hash. A collision only waits longer."""
    digest = hashlib.sha256(f"{merchant_account}\0{payment_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
