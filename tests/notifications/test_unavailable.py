"""What cannot be taken now: 503, so that Antom sends it again; nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from sqlalchemy import Connection, event, exc, text
from sqlalchemy.engine import Engine

from antom_payments.errors import StoreOverloaded, StoreUnavailable
from notifications.sidecars import (
    Held,
    assert_acknowledged,
    assert_unavailable,
    engine_of,
    events_of,
    sample,
    stored,
)
from notifications.wire import Wire, request
from store.transactions import Transactions

OUTAGE = exc.OperationalError("COMMIT", None, Exception("disk full"))

pytestmark = pytest.mark.usefixtures("payment")


async def test_a_commit_that_fails_is_answered_503_and_leaves_nothing(sidecar, store, database_url):
    def fail(_: Connection) -> None:
        raise exc.OperationalError("COMMIT", None, Exception("disk full"))

    event.listen(Engine, "commit", fail)
    try:
        assert_unavailable(await sidecar.notify(sample("03")))
    finally:
        event.remove(Engine, "commit", fail)
    assert len(await events_of(store)) == 1
    assert await stored(database_url) == []
    assert_acknowledged(await sidecar.notify(sample("03")))
    assert len(await events_of(store)) == 2
    assert sidecar.metrics.outcomes() == {"error/store_unavailable": 1, "accepted": 1}


async def test_a_database_that_is_stuck_is_answered_503_in_time(
    service, store, start_sidecar, database_url
):
    lock = {
        "sqlite": "BEGIN IMMEDIATE",
        "postgresql": "LOCK TABLE payments IN ACCESS EXCLUSIVE MODE",
    }
    engine = engine_of(database_url)
    async with start_sidecar(service, deadline_seconds=0.3) as sidecar:
        async with engine.connect() as connection:
            await connection.execute(text(lock[engine.dialect.name]))
            assert_unavailable(await sidecar.notify(sample("03")))
            assert sidecar.metrics.outcomes() == {"error/deadline": 1}
        await engine.dispose()
        await sidecar.app.drain()
    assert len(await events_of(store)) == 2, "what had begun was committed late"
    async with start_sidecar(service) as sidecar:
        assert_acknowledged(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {"duplicate": 1}
    assert len(await events_of(store)) == 2


class Failing:
    """A service that fails in a way of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def apply_notification(self, *_: object) -> None:
        raise self.error


async def test_a_database_that_is_down_is_answered_503(start_sidecar):
    async with start_sidecar(Failing(StoreUnavailable())) as sidecar:
        assert_unavailable(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {"error/store_unavailable": 1}


async def test_a_bug_is_answered_503_and_says_nothing(start_sidecar, caplog, capfd):
    error = RuntimeError("card 4111 1111 1111 1111 of ann@example.com")
    with caplog.at_level(logging.DEBUG):
        async with start_sidecar(Failing(error)) as sidecar:
            answer = await sidecar.notify(sample("03"))
            assert_unavailable(answer)
            assert sidecar.metrics.outcomes() == {"error/unexpected": 1}
    [line] = [r for r in caplog.records if "'outcome': 'error'" in str(r.msg)]
    assert "RuntimeError" in str(line.msg)
    said = caplog.text + "".join(str(r.msg) for r in caplog.records) + "".join(capfd.readouterr())
    assert not re.search(r"4111\D?1111", said), "more digits than a time may happen to have"
    assert "ann@" not in said


async def test_too_many_at_once_are_answered_503_before_any_work(service, start_sidecar):
    held = Held(service)
    async with start_sidecar(held, max_in_flight=2) as sidecar:
        first = [asyncio.create_task(sidecar.notify(sample(name))) for name in ("03", "06")]
        for _ in first:
            await held.begun.acquire()
        assert_unavailable(await sidecar.notify(sample("03")))
        held.go_on.set()
        for answer in await asyncio.gather(*first):
            assert_acknowledged(answer)
        assert_acknowledged(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {
            "overloaded": 1,
            "accepted": 1,
            "orphaned": 1,
            "duplicate": 1,
        }


async def test_draining_answers_503_and_closes_while_what_is_under_way_is_answered(
    service, store, start_sidecar
):
    held = Held(service)
    async with start_sidecar(held) as sidecar:
        under_way = asyncio.create_task(sidecar.notify(sample("03")))
        await held.begun.acquire()
        drained = asyncio.create_task(sidecar.app.drain())
        async with await Wire.connect(sidecar.port) as wire:
            wire.send(request(sample("03"), headers=sidecar.antom.headers(sample("03"))))
            answer = await wire.answer()
            assert_unavailable(answer)
            assert answer.headers["connection"] == "close"
            assert await wire.is_closed()
        held.go_on.set()
        assert_acknowledged(await under_way)
        await drained
        assert sidecar.metrics.outcomes() == {"draining": 1, "accepted": 1}
    assert len(await events_of(store)) == 2


async def test_copies_share_the_commit_and_fail_with_it(sidecar, store, database_url):
    transactions = Transactions(store)
    transactions.hold()
    first = asyncio.create_task(sidecar.notify(sample("06")))
    await transactions.is_under_way()
    before = transactions.count
    transactions.failures += [OUTAGE, OUTAGE]
    copies = [asyncio.create_task(sidecar.notify(sample("03"))) for _ in range(3)]
    await sidecar.app_has_under_way(4)
    transactions.go_on()
    for answer in await asyncio.gather(first, *copies):
        assert_unavailable(answer)
    assert transactions.count == before + 1
    assert await stored(database_url) == []


async def test_more_than_the_database_takes_is_answered_503_before_any_work(start_sidecar):
    async with start_sidecar(Failing(StoreOverloaded("store_writes"))) as sidecar:
        assert_unavailable(await sidecar.notify(sample("03")))
        assert sidecar.metrics.outcomes() == {"overloaded/store_writes": 1}
