"""The raw notifications: stored once for each body, with what became of it.

Written with the facts, under their locks, before the log's end is locked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, bindparam, case, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.fact import OUTSIDE_WINDOW, Notification
from antom_payments.payment import Source
from antom_payments.store.batch import Batch, Verdict
from antom_payments.store.members import AppliedOutcome, Member
from antom_payments.store.private_data import DataCipher
from antom_payments.store.tables import notifications

DISCARDED = "DISCARDED"
"""`outcome` of a notification that an operator set aside for good."""

_LEARNT = ("event_id", "fact_kind", "fact_id", "fact_outcome", "payment_id")
"""What a later copy may tell, and never takes back."""


async def with_kept_ids(
    connection: AsyncConnection, members: Sequence[Member]
) -> tuple[Sequence[Member], set[str]]:
    """Members under the ids that their bytes are stored with, or will be with this transaction.

    And the ids of those among them that are quarantined: what is told of them now counts.
    """
    keys = {
        (member.notification.merchant_account, _sha256(member.notification))
        for member in members
        if member.notification
    }
    if not keys:
        return members, set()
    columns = (notifications.c.merchant_account, notifications.c.body_sha256)
    rows = (
        await connection.execute(
            select(*columns, notifications.c.notification_id, notifications.c.outcome).where(
                tuple_(*columns).in_(sorted(keys))
            )
        )
    ).all()
    kept = {(row[0], row[1]): row[2] for row in rows}
    set_aside = {row[2] for row in rows if row[3] == AppliedOutcome.QUARANTINED}
    return [_under_kept_id(member, kept) for member in members], set_aside


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


async def write_notifications(
    connection: AsyncConnection,
    members: Sequence[Member],
    verdicts: Sequence[Verdict],
    set_aside: set[str],
    cipher: DataCipher,
) -> None:
    """Store the raw notifications. Bytes that are stored already are counted, not stored again."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for member, verdict in zip(members, verdicts, strict=True):
        notification = member.notification
        if notification is None:
            continue
        if _is_kept_already(verdict) and notification.notification_id not in set_aside:
            continue
        row = _notification_row(notification, member, verdict, cipher)
        kept = rows.setdefault((notification.merchant_account, row["body_sha256"]), row)
        if kept is not row:
            _add_copy(kept, row)
    if not rows:
        return
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    await connection.execute(
        _upsert(dialect.insert(notifications)), [rows[k] for k in sorted(rows)]
    )


def _add_copy(kept: dict[str, Any], copy: Mapping[str, Any]) -> None:
    """Count a copy in the same transaction, as if it had come after: see `_upsert`."""
    kept["copies"] += 1
    if kept["outcome"] not in {AppliedOutcome.APPLIED, AppliedOutcome.DUPLICATE}:
        kept |= {name: copy[name] for name in ("outcome", "reason")}
    kept |= {name: copy[name] for name in _LEARNT if copy[name]}


def _upsert(statement: Any) -> Any:
    """What was set aside before may be applied now; what was concluded or discarded stays so."""
    stored, told = notifications.c, statement.excluded
    # One by one: a list would be expanded, which a statement of many rows cannot be.
    stays = or_(
        stored.outcome == AppliedOutcome.APPLIED,
        stored.outcome == AppliedOutcome.DUPLICATE,
        and_(
            stored.outcome == DISCARDED,
            or_(
                told.outcome == AppliedOutcome.QUARANTINED,
                told.outcome == AppliedOutcome.DUPLICATE,
            ),
        ),
    )
    changed = {
        name: case((stays, stored[name]), else_=told[name]) for name in ("outcome", "reason")
    }
    return statement.on_conflict_do_update(
        index_elements=["merchant_account", "body_sha256"],
        # Never the body: what was erased does not come back with a resend.
        set_={
            "copies": stored.copies + told.copies + 1,
            **changed,
            **{name: func.coalesce(told[name], stored[name]) for name in _LEARNT},
        },
    )


async def release_held_back(
    connection: AsyncConnection,
    batch: Batch,
    members: Sequence[Member],
    verdicts: Sequence[Verdict],
) -> None:
    """Notifications from outside the window count once an inquiry tells the same (design 9)."""
    agreed = {
        known.fact.identity: known
        for known in batch.facts.values()
        if known.is_adopted and known.fact.source is Source.INQUIRY
    }
    for member, verdict in zip(members, verdicts, strict=True):
        is_told = verdict.outcome in {AppliedOutcome.APPLIED, AppliedOutcome.DUPLICATE}
        if member.fact and member.fact.source is Source.INQUIRY and is_told and verdict.known:
            agreed[member.fact.identity] = verdict.known
    if not agreed:
        return
    held_back = and_(
        notifications.c.merchant_account == bindparam("k_merchant_account"),
        # Not of the identity, but what is indexed.
        notifications.c.payment_id == bindparam("k_payment_id"),
        notifications.c.fact_kind == bindparam("k_kind"),
        notifications.c.fact_id == bindparam("k_fact_id"),
        notifications.c.fact_outcome == bindparam("k_outcome"),
        notifications.c.outcome == AppliedOutcome.QUARANTINED,
        notifications.c.reason == OUTSIDE_WINDOW,
    )
    names = ("k_merchant_account", "k_kind", "k_fact_id", "k_outcome")
    await connection.execute(
        update(notifications)
        .where(held_back)
        .values(outcome=AppliedOutcome.APPLIED, event_id=bindparam("v_event_id")),
        [
            {
                **dict(zip(names, identity, strict=True)),
                "k_payment_id": agreed[identity].fact.payment_id,
                "v_event_id": agreed[identity].event_id,
            }
            for identity in sorted(agreed)
        ],
    )


def _is_kept_already(verdict: Verdict) -> bool:
    """Whether a notification told the fact before; one that an inquiry told first is kept."""
    known = verdict.known
    is_duplicate = verdict.outcome is AppliedOutcome.DUPLICATE
    return is_duplicate and known is not None and known.notification_id is not None


def _notification_row(
    notification: Notification, member: Member, verdict: Verdict, cipher: DataCipher
) -> dict[str, Any]:
    known, outcome, fact = verdict.known, verdict.outcome, member.fact
    if outcome is AppliedOutcome.ORPHANED and known and not known.is_orphan:
        outcome = AppliedOutcome.APPLIED  # adopted by a later member of this batch
    return {
        "notification_id": notification.notification_id,
        "merchant_account": notification.merchant_account,
        "outcome": outcome.value,
        "reason": member.not_understood[:128],
        "body": cipher.encrypt(notification.body),
        "body_sha256": _sha256(notification),
        "client_id": notification.client_id,
        "request_time": notification.request_time,
        "key_fingerprint": notification.key_fingerprint,
        "received_time": notification.received_time,
        "event_id": known.event_id if known else None,
        "copies": 0,
        "fact_kind": fact.kind.value if fact else None,
        "fact_id": fact.fact_id if fact else None,
        "fact_outcome": fact.outcome.value if fact else None,
        "payment_id": fact.payment_id if fact else None,
    }
