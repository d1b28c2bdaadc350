"""A run's history, read at its end from the database, from Antom's books and from what was seen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from antom_payments.antom.messages import parse_notification
from chaos.load import Load
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
    while left:
        if time.monotonic() - began > QUIET_SECONDS:
            raise TimeoutError(f"not quiet: {', '.join(left)}")
        town.pass_time(step)
        step = min(step * 1.5, _LONGEST_STEP_SECONDS)
        await town.settle()
        await asyncio.sleep(0.5)
        left = await _left(town, followers)
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
        log = await connection.fetch(
            "SELECT sequence, event_id, payment_request_id, payment_version, type, state,"
            " merchant_account, body->>'state_before' AS state_before, body->>'source' AS source,"
            " body->>'capture_id' AS capture_id"
            " FROM events ORDER BY sequence"
        )
        facts = await connection.fetch("SELECT * FROM facts")
        payments = await connection.fetch("SELECT * FROM payments")
        # News that is too old is acknowledged and held back: only an inquiry makes it a fact.
        held_back = await connection.fetch(
            "SELECT fact_kind, fact_id, fact_outcome FROM notifications"
            " WHERE outcome = 'QUARANTINED' AND fact_kind IS NOT NULL"
        )
    finally:
        await connection.close()
    told = (await town.http.get("/notifications")).json()["notifications"]
    at_antom = (await town.http.get("/payments")).json()["payments"]
    return History(
        log=[_event(row) for row in log],
        facts=[
            StoredFact(
                (row["kind"], row["fact_id"], row["outcome"]),
                row["event_id"],
                row["payment_request_id"],
            )
            for row in facts
        ],
        payments=[
            StoredPayment(
                row["payment_request_id"],
                row["payment_id"],
                row["state"],
                row["version"],
                row["minor_units"],
                row["captured_minor_units"],
            )
            for row in payments
        ],
        antom=[_at_antom(one) for one in at_antom],
        accepted=frozenset(_key(one) for one in told if one["state"] == "ACKNOWLEDGED")
        - {tuple(row) for row in held_back},
        told=frozenset(_key(one) for one in told),
        acknowledged=load.acknowledged,
        subscribers=[one.received() for one in followers],
        outputs=await asyncio.to_thread(town.outputs),
        secrets=town.secrets(),
    )


async def verdict(town: Town, load: Load, followers: list[Subscriber]) -> list[str]:
    """Whatever does not hold at the end of a run."""
    found = await history(town, load, followers)
    wrong = [str(one) for one in await asyncio.to_thread(violations, found)]
    order = {event.event_id: event.sequence for event in found.log}
    for one in followers:
        if one.ending is not None:
            wrong.append(f"I4: {one.name} ended: {one.ending!r}")
        first = [order.get(event_id, 0) for event_id in dict.fromkeys(one.told)]
        if first != [event.sequence for event in found.log if one.wants(event)]:
            wrong.append(f"I4: the client of {one.name} gave out something else than the log")
    return [*wrong, *(f"unexpected: {what}" for what in load.unexpected)]


def _event(row: Any) -> LoggedEvent:
    return LoggedEvent(
        sequence=row["sequence"],
        event_id=row["event_id"],
        payment_request_id=row["payment_request_id"],
        version=row["payment_version"],
        type=row["type"],
        state_before=row["state_before"],
        state=row["state"],
        source=row["source"],
        merchant_account=row["merchant_account"],
        capture_id=row["capture_id"],
    )


def _at_antom(one: dict[str, Any]) -> AntomPayment:
    taken = [c for c in one["captures"] if c["resultCode"] == "SUCCESS"]
    return AntomPayment(
        payment_request_id=one["paymentRequestId"],
        payment_id=one["paymentId"],
        status=one["paymentStatus"],
        minor_units=int(one["paymentAmount"]["value"]),
        captured_minor_units=sum(int(c["captureAmount"]["value"]) for c in taken),
        expects_capture=one["authExpiryTime"] is not None,
    )


def _key(one: dict[str, Any]) -> FactKey:
    fact = parse_notification(json.dumps(one["notification"]).encode(), merchant_account="default")
    return fact.kind.value, fact.fact_id, fact.outcome.value
