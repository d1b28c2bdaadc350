"""Sixteen writer processes with random hold times, killed with -9 now and then, and started again.

Run as a program, with a `Plan` as JSON. It ends with 0 when every writer has told all its news.
What a writer knows to be committed, it notes in a file after the commit: a kill in between makes it
tell the same again, as Antom would.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import Connection, event, text

from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import PaymentState
from antom_payments.store import DataCipher, Member, PaymentStore, PoolOptions, open_store
from facts import a_capture, a_notification, a_payment, a_payment_fact
from stored import REQUEST, SESSION

WRITERS = 16
CAPTURES = 20
EVENTS_PER_PAYMENT = 1 + 3 + CAPTURES  # session, processing, pending, success, captures
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """What a run does; the same seed gives the same news, holds and victims."""

    database_url: str
    data_key: str
    folder: str
    payments_per_writer: int
    kill_seconds: float
    """Time between two kills."""
    most_kills: int
    hold_seconds: float
    """Longest time that a writer keeps its transaction open before it commits."""
    seed: int
    is_naive: bool
    """Whether sequences come from a database sequence: the mutant that must lose events."""

    @property
    def events(self) -> int:
        return WRITERS * self.payments_per_writer * EVENTS_PER_PAYMENT

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def notes_of(folder: str, slot: int) -> Path:
    """Where a writer notes what is committed: `e EVENT_ID` and `p PAYMENT` lines."""
    return Path(folder) / f"writer-{slot}"


# One writer


def news_of(slot: int, payment: int) -> list[Fact]:
    """All that Antom tells of one payment: it is captured in twenty parts."""
    payment_id = f"P-{slot}-{payment}"
    facts = [
        a_payment_fact(
            outcome,
            payment_id=payment_id,
            fact_id=payment_id,
            payment_request_id=f"order-{slot}-{payment}",
        )
        for outcome in (Outcome.PROCESSING, Outcome.PENDING, Outcome.SUCCEEDED)
    ]
    part = Money("EUR", 100 // CAPTURES)
    captures = [a_capture(capture_id=f"{payment_id}-C-{n}", amount=part) for n in range(CAPTURES)]
    return facts + [replace(capture, payment_id=payment_id) for capture in captures]


async def tell_all(store: PaymentStore, plan: Plan, slot: int, notes: int) -> None:
    """Tell the payments of ``slot`` that are not noted as told."""
    dice = random.Random(f"{plan.seed} {slot} {os.getpid()}")
    noted = notes_of(plan.folder, slot).read_text().split("\n")
    first = sum(line.startswith("p ") for line in noted)
    session = replace(SESSION, payment_session_expiry_time=datetime(2100, 1, 1, tzinfo=UTC))
    for payment in range(first, plan.payments_per_writer):
        intent = a_payment(
            PaymentState.CREATING, version=0, payment_request_id=f"order-{slot}-{payment}"
        )
        claim = await store.begin_session(intent, REQUEST, lease_seconds=0)
        if claim.lease_token:
            await store.confirm_session(claim, session)
        news = news_of(slot, payment)
        dice.shuffle(news)
        while news:
            members = [
                Member(news.pop(), a_notification())
                for _ in range(min(len(news), dice.randint(1, 12)))
            ]
            answers = await store.apply(members)
            told = [answer.event.event_id for answer in answers if answer.event]
            os.write(notes, "".join(f"e {event_id}\n" for event_id in told).encode())
        os.write(notes, f"p {payment}\n".encode())


def hold_before_commit(store: PaymentStore, plan: Plan, dice: random.Random) -> None:
    """Keep transactions open for a while: the log's lock is held, and numbers are given out."""

    def hold(_: Connection) -> None:
        time.sleep(dice.uniform(0, plan.hold_seconds))

    event.listen(store._database.engine.sync_engine, "commit", hold)


async def _next_of_a_database_sequence(
    connection: Any, now: Callable[[], datetime]
) -> tuple[int, datetime]:
    """The mutant: what most implementations do, a `bigserial` whose numbers precede the commit."""
    last = await connection.execute(text("SELECT nextval('naive_sequence')"))
    return last.scalar_one(), now()


async def write(plan: Plan, slot: int, notes: int) -> None:
    """One writer, until all its payments are told."""

    def now() -> datetime:
        return datetime.now(UTC)

    pool = PoolOptions(size=1, timeout_seconds=60)
    cipher = DataCipher(plan.data_key)
    async with open_store(plan.database_url, cipher=cipher, now=now, pool=pool) as store:
        hold_before_commit(store, plan, random.Random(f"{plan.seed} {slot} {os.getpid()} hold"))
        await tell_all(store, plan, slot, notes)


def run_writer(plan: Plan, slot: int) -> None:
    """The life of a writer process. Never returns: it was forked."""
    notes = os.open(notes_of(plan.folder, slot), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    status = 1
    try:
        if plan.is_naive:
            with mock.patch("antom_payments.store.log._lock_end", _next_of_a_database_sequence):
                asyncio.run(write(plan, slot, notes))
        else:
            asyncio.run(write(plan, slot, notes))
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


# All of them


def start(plan: Plan, slot: int) -> int:
    """Fork a writer; the pid. Everything is imported already, so that a restart costs little."""
    pid = os.fork()
    if pid == 0:
        run_writer(plan, slot)
    return pid


def ended() -> Iterator[tuple[int, int]]:
    """The writers that ended since the last look, with their wait status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def main(plan: Plan) -> int:
    """Keep the writers going, kill one now and then, until all are done; the exit status."""
    dice = random.Random(plan.seed)
    for slot in range(WRITERS):
        notes_of(plan.folder, slot).touch()
    writers = {start(plan, slot): slot for slot in range(WRITERS)}
    next_kill = time.monotonic() + plan.kill_seconds
    kills = 0
    while writers:
        for pid, status in ended():
            slot = writers.pop(pid)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                writers[start(plan, slot)] = slot
            elif status:
                return 1
        if writers and kills < plan.most_kills and time.monotonic() >= next_kill:
            os.kill(dice.choice(list(writers)), signal.SIGKILL)
            kills += 1
            next_kill = time.monotonic() + plan.kill_seconds
            print(kills, flush=True)  # noqa: T201 - read by the test
        time.sleep(POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(Plan(**json.loads(sys.argv[1]))))
