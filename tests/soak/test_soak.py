"""Writers that hold and die, and one reader: nothing lost, nothing out of order, nothing twice.

`make soak` runs it with 100,000 events; inside `make test` it is smaller. The mutant that numbers
events by a database sequence must fail the same check.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from antom_payments.event_stream import AfterCursor, Earliest, EventStream, Pace, Start
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import DataCipher, new_data_key, open_store
from processes import importing
from soak.history import History
from soak.writers import CAPTURES, EVENTS_PER_PAYMENT, WRITERS, Plan, notes_of

TESTS = Path(__file__).parent.parent
PROGRESS_SECONDS = 5.0
RESUME_EVENTS = 2_000
"""After so many events the reader comes back with its cursor, as a client does."""


@dataclass
class Writers:
    """The writers' process group."""

    process: asyncio.subprocess.Process
    kills: int = 0

    @property
    def are_done(self) -> bool:
        return self.process.returncode is not None

    async def count_kills(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.kills = int(line)


def a_plan(url: str, folder: Path, events: int, **more: object) -> Plan:
    fields: dict[str, object] = {
        "kill_seconds": 1.0,
        "most_kills": sys.maxsize,
        "hold_seconds": 0.01,
        "seed": 20260302,
        "is_naive": False,
    }
    return Plan(
        database_url=url,
        data_key=new_data_key(),
        folder=str(folder),
        payments_per_writer=-(-events // (WRITERS * EVENTS_PER_PAYMENT)),
        **fields | more,
    )


@contextlib.asynccontextmanager
async def writing(plan: Plan) -> AsyncIterator[Writers]:
    """The writers at work; whatever happens, none is left behind."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "soak.writers", plan.to_json()),
        stdout=asyncio.subprocess.PIPE,
        cwd=TESTS,
        env=importing(TESTS),
        start_new_session=True,
    )
    writers = Writers(process)
    counting = asyncio.create_task(writers.count_kills())
    try:
        yield writers
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await counting


def an_event_with_its_number(event: PaymentEvent, _: str) -> bytes:
    return f"{event.sequence} {event.event_id}\n".encode()


def numbers_and_ids(data: bytes) -> list[tuple[int, str]]:
    return [(int(line.split()[0]), line.split()[1]) for line in data.decode().splitlines()]


async def follow(plan: Plan, writers: Writers, history: History) -> None:
    """The reader: one process' event stream, until the writers are done and all is read."""

    def now() -> datetime:
        return datetime.now(UTC)

    cipher = DataCipher(plan.data_key)
    async with open_store(plan.database_url, cipher=cipher, now=now) as store:
        stream = EventStream(
            store.log, encode=an_event_with_its_number, pace=Pace(idle_seconds=0.05)
        )
        tailing = asyncio.create_task(stream.run())
        start: Start = Earliest()
        told = time.monotonic()
        head = 0
        while not head or not history.delivered or history.delivered[-1][0] < head:
            subscription = await stream.subscribe(start, EventFilter())
            until = len(history.delivered) + RESUME_EVENTS
            while len(history.delivered) < until:
                batch = await subscription.next(0.2)
                if batch is not None:
                    history.delivered += numbers_and_ids(batch.data)
                    start = AfterCursor(batch.cursor)
                elif writers.are_done:
                    _, head = await store.log.bounds()
                    break
                if time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    say(f"{len(history.delivered):,} of {plan.events:,}, {writers.kills} kills")
            subscription.close()
        tailing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tailing


async def poll_naively(plan: Plan, writers: Writers, history: History) -> None:
    """The mutant's reader: whatever is above the last number seen."""
    engine = create_async_engine(plan.database_url)
    query = text(
        "SELECT sequence, event_id FROM events WHERE sequence > :last ORDER BY sequence LIMIT 256"
    )
    last, is_over = 0, False
    while not is_over:
        is_over = writers.are_done
        async with engine.connect() as connection:
            found = (await connection.execute(query, {"last": last})).all()
        history.delivered += [(row.sequence, row.event_id) for row in found]
        last = history.delivered[-1][0] if history.delivered else 0
        is_over = is_over and not found
        await asyncio.sleep(0.01)
    await engine.dispose()


async def what_was_committed(plan: Plan, history: History) -> None:
    """Complete the history by the tables and the writers' notes."""
    engine = create_async_engine(plan.database_url)
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT sequence, event_id FROM events"))
        history.committed = [(row.sequence, row.event_id) for row in rows]
    await engine.dispose()
    history.acknowledged = frozenset(
        line[2:]
        for slot in range(WRITERS)
        for line in notes_of(plan.folder, slot).read_text().split("\n")
        if line.startswith("e ")
    )


async def payments_in_order(plan: Plan) -> int:
    """How many payments were taken whole, each fact told by exactly one event."""
    engine = create_async_engine(plan.database_url)
    query = text(
        "SELECT count(*) FROM payments WHERE state = 'SUCCEEDED' AND version = :events "
        "AND captured_minor_units = 100 AND json_array_length(captures) = :captures"
    )
    async with engine.connect() as connection:
        count = (
            await connection.execute(query, {"events": EVENTS_PER_PAYMENT, "captures": CAPTURES})
        ).scalar_one()
    await engine.dispose()
    return int(count)


def say(words: str) -> None:
    print(f"soak: {words}", flush=True)  # noqa: T201 - shown by `make soak`


@pytest.mark.slow
async def test_of_many_writers_that_hold_and_die_nothing_is_lost_reordered_or_repeated(
    postgres_url: str, tmp_path: Path, soak_events: int
) -> None:
    # Each kill costs a restart: the small run has few, so that slow machines are not punished.
    kills = {"kill_seconds": 5.0} if soak_events >= 50_000 else {"most_kills": 5}
    plan = a_plan(postgres_url, tmp_path, soak_events, **kills)
    history = History()
    started = time.monotonic()
    async with writing(plan) as writers:
        await follow(plan, writers, history)
    seconds = time.monotonic() - started
    await what_was_committed(plan, history)
    say(
        f"{len(history.committed):,} events committed by {WRITERS} writers in {seconds:.0f} s, "
        f"{writers.kills} kill -9, {len(history.delivered):,} delivered, "
        f"faults: {history.faults or 'none'}"
    )
    assert history.faults == {}
    assert len(history.committed) == plan.events
    assert {sequence for sequence, _ in history.committed} == set(range(1, plan.events + 1))
    assert await payments_in_order(plan) == WRITERS * plan.payments_per_writer
    assert writers.kills >= 2


@pytest.mark.slow
async def test_numbers_of_a_database_sequence_fail_the_same_check(
    postgres_url: str, tmp_path: Path
) -> None:
    engine = create_async_engine(postgres_url)
    async with engine.begin() as connection:
        # Room for one transaction's events after each number.
        await connection.execute(text("CREATE SEQUENCE naive_sequence INCREMENT 20"))
    await engine.dispose()
    plan = a_plan(postgres_url, tmp_path, 600, most_kills=1, is_naive=True)
    history = History()
    async with writing(plan) as writers:
        await poll_naively(plan, writers, history)
    await what_was_committed(plan, history)
    say(f"the naive log lost {history.lost:,} of {len(history.committed):,} events")
    assert len(history.committed) == plan.events
    assert history.faults.get("lost", 0) > 0
