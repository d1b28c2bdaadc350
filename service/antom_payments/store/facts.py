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
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.fact import Fact, Notification
from antom_payments.payment import Payment
from antom_payments.payment_event import PaymentEvent
from antom_payments.store.batch import (
    Applied,
    AppliedOutcome,
    Batch,
    KnownFact,
    Member,
    PaymentKey,
    Verdict,
)
from antom_payments.store.database import lock_transaction
from antom_payments.store.log import append
from antom_payments.store.private_data import DataCipher
from antom_payments.store.rows import (
    event_from_row,
    fact_from_json,
    fact_to_json,
    payment_from_row,
    payment_to_row,
)
from antom_payments.store.sessions import read_session_ids, write_sessions
from antom_payments.store.tables import events, facts, notifications, payments

WAITING = "WAITING"
"""`orphan_state` of a fact that no payment has adopted yet."""
ADOPTED = "ADOPTED"

_FACT_KEY = ("merchant_account", "kind", "fact_id", "outcome")
_PAYMENT_KEY = ("merchant_account", "payment_request_id")


async def apply_members(
    connection: AsyncConnection,
    members: Sequence[Member],
    *,
    cipher: DataCipher,
    now: Callable[[], datetime],
) -> list[Applied]:
    """Apply ``members`` in the open transaction; one answer for each, in order."""
    batch = Batch()
    await _read(connection, batch, members, cipher)
    # Under the locks: bytes that another transaction stores with their fact are seen here.
    members = await _with_kept_ids(connection, members)
    verdicts = [batch.tell(member, now()) for member in members]
    await write_sessions(connection, batch, cipher)
    await _write_facts(connection, batch)
    await _write_notifications(connection, members, verdicts, cipher)
    appended = await _append(connection, batch, now)
    return await _answers(connection, batch, verdicts, appended)


async def _with_kept_ids(
    connection: AsyncConnection, members: Sequence[Member]
) -> Sequence[Member]:
    """Members under the ids that their bytes are stored with, or will be with this transaction."""
    keys = {
        (member.notification.merchant_account, _sha256(member.notification))
        for member in members
        if member.notification
    }
    if not keys:
        return members
    columns = (notifications.c.merchant_account, notifications.c.body_sha256)
    rows = await connection.execute(
        select(*columns, notifications.c.notification_id).where(tuple_(*columns).in_(sorted(keys)))
    )
    kept = {(row[0], row[1]): row[2] for row in rows}
    return [_under_kept_id(member, kept) for member in members]


def _under_kept_id(member: Member, kept: dict[tuple[str, str], str]) -> Member:
    """``member`` under the id that is kept for its bytes; of several copies, the first's."""
    told = member.notification
    if told is None:
        return member
    kept_id = kept.setdefault((told.merchant_account, _sha256(told)), told.notification_id)
    if kept_id == told.notification_id:
        return member
    return replace(member, notification=replace(told, notification_id=kept_id))


def _sha256(notification: Notification) -> str:
    return hashlib.sha256(notification.body).hexdigest()


async def _read(
    connection: AsyncConnection, batch: Batch, members: Sequence[Member], cipher: DataCipher
) -> None:
    """Lock and read whatever the members may touch."""
    told = [member.fact for member in members if member.fact]
    results = [member.session_result for member in members if member.session_result]
    ids = sorted({(fact.merchant_account, fact.payment_id) for fact in told})
    requests = {
        (fact.merchant_account, fact.payment_request_id) for fact in told if fact.payment_request_id
    }
    requests |= {result.key for result in results}
    await lock_transaction(connection, sorted({_lock_key(*payment_id) for payment_id in ids}))
    await _read_payments(connection, batch, ids, sorted(requests))
    if results:
        await read_session_ids(connection, batch, results, cipher)
    if told:
        await _read_facts(connection, batch, told, ids)


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
        batch.add_payment(payment_from_row(row))
        batch.leases[row["merchant_account"], row["payment_request_id"]] = row["lease_token"]


async def _read_facts(
    connection: AsyncConnection, batch: Batch, told: Sequence[Fact], ids: Sequence[PaymentKey]
) -> None:
    """Facts known already, and orphans that wait for one of the payment ids."""
    key = _columns(facts, _FACT_KEY)
    identities = sorted({fact.identity for fact in told})
    waiting = and_(
        tuple_(facts.c.merchant_account, facts.c.payment_id).in_(ids),
        facts.c.orphan_state == WAITING,
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
            is_orphan=row["orphan_state"] == WAITING,
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


async def _write_notifications(
    connection: AsyncConnection,
    members: Sequence[Member],
    verdicts: Sequence[Verdict],
    cipher: DataCipher,
) -> None:
    """Store the raw notifications. Bytes that are stored already are counted, not stored again."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for member, verdict in zip(members, verdicts, strict=True):
        notification = member.notification
        if notification is None or _is_kept_already(verdict):
            continue
        row = _notification_row(notification, member.not_understood, verdict, cipher)
        kept = rows.setdefault((notification.merchant_account, row["body_sha256"]), row)
        if kept is not row:
            # As if they had come one after the other: see below.
            row["event_id"] = row["event_id"] or kept["event_id"]
            kept |= {name: row[name] for name in ("outcome", "reason", "event_id")}
            kept["copies"] += 1
    if not rows:
        return
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(notifications)
    statement = statement.on_conflict_do_update(
        index_elements=["merchant_account", "body_sha256"],
        # What was set aside before may be applied now.
        set_={
            "copies": notifications.c.copies + statement.excluded.copies + 1,
            "outcome": statement.excluded.outcome,
            "reason": statement.excluded.reason,
            "event_id": func.coalesce(statement.excluded.event_id, notifications.c.event_id),
        },
    )
    await connection.execute(statement, [rows[key] for key in sorted(rows)])


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
    values: dict[str, Any] = {
        name: bindparam(f"v_{name}") for name in rows[0] if name not in _PAYMENT_KEY
    }
    await connection.execute(
        update(payments).where(_keyed(payments, _PAYMENT_KEY)).values(values),
        [
            {f"{'k' if name in _PAYMENT_KEY else 'v'}_{name}": row[name] for name in row}
            for row in rows
        ],
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
    return [
        Applied(
            outcome=verdict.outcome,
            # None when it was pruned since.
            event=told.get((verdict.known.event_id if verdict.known else None) or ""),
            payment=batch.payments.get(verdict.key) if verdict.key else None,
        )
        for verdict in verdicts
    ]


def _is_kept_already(verdict: Verdict) -> bool:
    """Whether a notification told the fact before; one that an inquiry told first is kept."""
    known = verdict.known
    is_duplicate = verdict.outcome is AppliedOutcome.DUPLICATE
    return is_duplicate and known is not None and known.notification_id is not None


def _notification_row(
    notification: Notification, not_understood: str, verdict: Verdict, cipher: DataCipher
) -> dict[str, Any]:
    known, outcome = verdict.known, verdict.outcome
    if outcome is AppliedOutcome.ORPHANED and known and not known.is_orphan:
        outcome = AppliedOutcome.APPLIED  # adopted by a later member of this batch
    return {
        "notification_id": notification.notification_id,
        "merchant_account": notification.merchant_account,
        "outcome": outcome.value,
        "reason": not_understood[:128],
        "body": cipher.encrypt(notification.body),
        "body_sha256": _sha256(notification),
        "client_id": notification.client_id,
        "request_time": notification.request_time,
        "key_fingerprint": notification.key_fingerprint,
        "received_time": notification.received_time,
        "event_id": known.event_id if known else None,
        "copies": 0,
    }


def _fact_row(known: KnownFact) -> dict[str, Any]:
    fact = known.fact
    orphan_state = ADOPTED if known.is_adopted else None
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
        "orphan_state": WAITING if known.is_orphan else orphan_state,
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


def _lock_key(merchant_account: str, payment_id: str) -> int:
    """The advisory lock of a `paymentId`: a signed 64-bit hash. A collision only waits longer."""
    digest = hashlib.sha256(f"{merchant_account}\0{payment_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
