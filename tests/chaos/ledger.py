"""A run's history, read at its end from the database, from Antom's books and from what was seen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Collection
from typing import Any

import asyncpg

import views
from antom_payments.antom.messages import parse_notification
from antom_payments.emulator.messages import encoded
from chaos.complaints import complaints
from chaos.load import BUYER, Load
from chaos.subscribers import Subscriber
from chaos.town import Town
from invariants import (
    AntomPayment,
    FactKey,
    History,
    LoggedEvent,
    StoredFact,
    StoredPayment,
    violations,
)

QUIET_SECONDS = 300.0
LOG_AFTER = (
    "SELECT sequence, event_id, payment_request_id, payment_version, type, state,"
    " merchant_account, body FROM events WHERE sequence > $1 ORDER BY sequence"
)
_OPEN = "'CREATING', 'AWAITING_BUYER', 'PROCESSING'"
_FIRST_STEP_SECONDS, _LONGEST_STEP_SECONDS = 400.0, 6 * 3600.0
"""What passes at once: first what Antom's resends take, later the hours between two looks at what
is stale, and what a clock was ahead when it said when to look."""


async def become_quiet(
    town: Town, followers: list[Subscriber], say: Callable[[str], None]
) -> float:
    """Let time pass until nothing is under way and everybody has the log; the seconds it took.

    Raises TimeoutError with what is left.
    """
    began = time.monotonic()
    left, step = ["nothing was looked at"], _FIRST_STEP_SECONDS
    quiet_looks = 0
    # Twice: what dies or begins anew after one look is seen by the next.
    while quiet_looks < 2:
        if time.monotonic() - began > QUIET_SECONDS:
            raise TimeoutError(f"not quiet: {', '.join(left)}")
        town.pass_time(step)
        step = min(step * 1.5, _LONGEST_STEP_SECONDS)
        await town.settle()
        await asyncio.sleep(0.5)
        left = await _left(town, followers)
        quiet_looks = 0 if left else quiet_looks + 1
        say(f"     becoming quiet: {', '.join(left) or 'nothing left'}")
    return time.monotonic() - began


async def _left(town: Town, followers: list[Subscriber]) -> list[str]:
    told = (await town.http.get("/notifications")).json()["notifications"]
    waiting = [one for one in told if one["state"] == "WAITING"]
    connection = await asyncpg.connect(town.cluster.url)
    try:
        open_payments = await connection.fetchval(
            f"SELECT count(*) FROM payments WHERE state IN ({_OPEN}) OR inquiry_wanted"
        )
        pressing = await connection.fetchval(
            "SELECT count(*) FROM inquiries WHERE phase IN ('PRESSING', 'ORPHAN')"
        )
        last = await connection.fetchval("SELECT event_id FROM events ORDER BY sequence DESC")
    finally:
        await connection.close()
    found = {
        "notifications": len(waiting),
        "open payments": open_payments,
        "pressing inquiries": pressing,
        "subscribers behind": sum(
            last not in one.told[-1:] for one in followers if not one.filters
        ),
    }
    return [f"{count} {what}" for what, count in found.items() if count]


async def history(town: Town, load: Load, followers: list[Subscriber]) -> History:
    """All that is known of the run."""
    connection = await asyncpg.connect(town.cluster.url)
    try:
        log = await connection.fetch(LOG_AFTER, 0)
        facts = await connection.fetch("SELECT * FROM facts")
        payments = await connection.fetch("SELECT * FROM payments")
        stored = await connection.fetch(
            "SELECT notification_id, fact_kind, fact_id, fact_outcome,"
            " outcome = 'QUARANTINED' AND reason = 'outside_window' AS is_held_back, body_sha256"
            " FROM notifications WHERE fact_id IS NOT NULL"
        )
    finally:
        await connection.close()
    told = (await town.http.get("/notifications")).json()["notifications"]
    of_other_amounts = {
        hashlib.sha256(encoded(one["notification"])).hexdigest()
        for one in told
        if one["spoilt"] == "OTHER_AMOUNT"
    }
    at_antom = (await town.http.get("/payments")).json()["payments"]
    return History(
        log=[logged(row) for row in log],
        facts=[
            StoredFact(
                (row["kind"], row["fact_id"], row["outcome"]),
                row["event_id"],
                row["payment_request_id"],
                row["payment_id"],
            )
            for row in facts
        ],
        payments=[
            StoredPayment(
                row["payment_request_id"],
                row["payment_id"],
                row["state"],
                row["version"],
                row["currency_code"],
                row["minor_units"],
                row["captured_minor_units"],
                row["inquiry_wanted"],
                row["last_sequence"],
                row["merchant_account"],
            )
            for row in payments
        ],
        notifications={row[0]: tuple(row)[1:4] for row in stored},
        held_back=frozenset(tuple(row)[1:4] for row in stored if row["is_held_back"]),
        of_other_amounts=frozenset(
            row["notification_id"] for row in stored if row["body_sha256"] in of_other_amounts
        ),
        antom=[_at_antom(one, load.submitted) for one in at_antom],
        accepted=frozenset(_key(one) for one in told if one["state"] == "ACKNOWLEDGED"),
        told=frozenset(_key(one) for one in told),
        taken_forged=_taken_forged(told),
        refused=frozenset(("default", name) for name in load.refused),
        acknowledged=load.acknowledged,
        subscribers=[one.received() for one in followers],
        outputs=await asyncio.to_thread(town.outputs),
        secrets=town.secrets() | _secrets_of(load),
    )


async def verdict(town: Town, load: Load, followers: list[Subscriber]) -> list[str]:
    """Whatever does not hold at the end of a run."""
    found = await history(town, load, followers)
    wrong = [str(one) for one in await asyncio.to_thread(violations, found)]
    order = {event.event_id: event.sequence for event in found.log}
    for one in followers:
        first = [order.get(event_id, 0) for event_id in dict.fromkeys(one.told)]
        if first != [event.sequence for event in found.log if one.wants(event)]:
            wrong.append(f"I4: the client of {one.name} gave out something else than the log")
    wrong += await asyncio.to_thread(complaints, found.outputs, found.secrets)
    wrong += [f"I6: the caller of {name} got no answer, and gave up" for name in load.given_up]
    return [*wrong, *(f"unexpected: {what}" for what in load.unexpected)]


def logged(row: Any) -> LoggedEvent:
    """A row of `LOG_AFTER`."""
    body = json.loads(row["body"])
    return LoggedEvent(
        sequence=row["sequence"],
        event_id=row["event_id"],
        payment_request_id=row["payment_request_id"],
        version=row["payment_version"],
        type=row["type"],
        state_before=body["state_before"],
        state=row["state"],
        source=body["source"],
        shown=views.of_log(body),
        merchant_account=row["merchant_account"],
        capture_id=body["capture_id"],
        notification_id=body["notification_id"],
    )


def _secrets_of(load: Load) -> dict[str, str]:
    sessions = {f"session {number}": data for number, data in enumerate(load.sessions)}
    return sessions | {"a buyer's e-mail address": BUYER}


def _taken_forged(told: list[dict[str, Any]]) -> list[str]:
    """Deliveries that were acknowledged with a signature of something else."""
    return [
        f"notification {one['number']} of {one['paymentRequestId']}"
        for one in told
        for attempt in one["attempts"]
        if attempt["spoilt"] == "BADLY_SIGNED" and attempt["fault"] is None
    ]


def _at_antom(one: dict[str, Any], submitted: Collection[str]) -> AntomPayment:
    taken = [c for c in one["captures"] if c["resultCode"] == "SUCCESS"]
    return AntomPayment(
        payment_request_id=one["paymentRequestId"],
        payment_id=one["paymentId"],
        status=one["paymentStatus"],
        currency_code=one["paymentAmount"]["currency"],
        minor_units=int(one["paymentAmount"]["value"]),
        captured_minor_units=sum(int(c["captureAmount"]["value"]) for c in taken),
        expects_capture=one["authExpiryTime"] is not None,
        is_submitted=one["paymentRequestId"] in submitted,
        sessions=len(one["paymentSessionIds"]),
        is_paid=one["paymentResultCode"] == "SUCCESS",
        captures={c["captureId"]: _outcome(c["resultCode"]) for c in one["captures"]},
    )


def _outcome(result_code: str | None) -> str:
    """How a capture ended."""
    if result_code is None:
        return "PROCESSING"
    return "SUCCEEDED" if result_code == "SUCCESS" else "FAILED"


def _key(one: dict[str, Any]) -> FactKey:
    fact = parse_notification(json.dumps(one["notification"]).encode(), merchant_account="default")
    return fact.kind.value, fact.fact_id, fact.outcome.value
