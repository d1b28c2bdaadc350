"""One payment, one answer or one net that goes wrong keeps no other from being examined."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import event

from antom_payments import reconcile as reconcile_module
from antom_payments.antom import AntomClient
from antom_payments.errors import StoreUnavailable
from antom_payments.fact import Outcome
from antom_payments.reconcile import ReconcileOptions, Reconciler
from antom_payments.service import Merchant
from antom_payments.store import PaymentStore
from facts import a_payment_fact
from readings import readings
from scripted_antom import (
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    ScriptedAntom,
    inquired,
    session,
)
from stored import execute, notified, rows
from use_cases.till import CALL_BUDGET_SECONDS, POLICY, SGD_42, Till


@pytest.fixture
async def waiting(sqlite_till: Till, antom: ScriptedAntom) -> Till:
    """Four buyers were handed a session, and it is time to ask about all of them."""
    antom.will(SESSION, session())
    antom.will(INQUIRY, NOT_SUBMITTED)
    for n in range(4):
        await sqlite_till.create(payment_request_id=f"pay-{n}")
        sqlite_till.clock.advance(1)
    antom.asked.clear()
    sqlite_till.clock.advance(60)
    return sqlite_till


def reconciler(till: Till, client: AntomClient, *, at_once: int = 16) -> Reconciler:
    return Reconciler(
        till.store,
        till.service.inquirer,
        {"default": Merchant("default", client, POLICY)},
        now=till.clock.now,
        call_budget_seconds=CALL_BUDGET_SECONDS,
        options=ReconcileOptions(look_seconds=0.01, at_once=at_once),
    )


@contextlib.asynccontextmanager
async def running(reconcile: Reconciler) -> AsyncIterator[None]:
    task = asyncio.create_task(reconcile.run())
    try:
        # Sooner than an inquiry that hangs is given up.
        async with asyncio.timeout(CALL_BUDGET_SECONDS / 2):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def without_nets(store: PaymentStore) -> Iterator[asyncio.Event]:
    """Let the sweep's statement take too long, as on a large table; what tells of a trial."""
    tried = asyncio.Event()
    engine = store._database.engine.sync_engine

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM payments" in statement and "EXISTS" in statement:
            tried.set()
            raise OSError("canceling statement due to statement timeout")

    event.listen(engine, "before_cursor_execute", fail)
    try:
        yield tried
    finally:
        event.remove(engine, "before_cursor_execute", fail)


async def test_nets_that_cannot_be_drawn_keep_nothing_that_is_due_from_being_asked(
    waiting: Till, listening: tuple[ScriptedAntom, AntomClient]
) -> None:
    antom, client = listening
    with without_nets(waiting.store) as tried:
        async with running(reconciler(waiting, client)):
            await tried.wait()
            await antom.was_asked(4)


async def test_when_was_last_counted_stands_still_while_nets_cannot_be_drawn(
    waiting: Till,
    listening: tuple[ScriptedAntom, AntomClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reconcile = reconciler(waiting, listening[1])
    with readings(monkeypatch) as read:
        read.of("gauge", reconcile_module, "_last_counted")
        await reconcile.sweep()
        counted = waiting.clock.now().timestamp()
        waiting.clock.advance(600)
        with without_nets(waiting.store), pytest.raises(StoreUnavailable):
            await reconcile.sweep()
        assert read.counts("_last_counted") == {(): counted}
        await reconcile.sweep()
        assert read.counts("_last_counted") == {(): counted + 600}


async def test_an_inquiry_that_hangs_keeps_its_own_place_only(
    waiting: Till, listening: tuple[ScriptedAntom, AntomClient]
) -> None:
    antom, client = listening
    antom.will(INQUIRY, Held(NOT_SUBMITTED), NOT_SUBMITTED)
    async with running(reconciler(waiting, client, at_once=2)):
        await antom.was_asked(4)
    asked = [question.body["paymentRequestId"] for question in antom.asked]
    assert sorted(asked) == [f"pay-{n}" for n in range(4)]


async def test_a_payment_whose_answer_cannot_be_applied_is_asked_again_later_like_any_other(
    waiting: Till,
    listening: tuple[ScriptedAntom, AntomClient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    antom, client = listening
    fact = a_payment_fact(
        Outcome.PROCESSING,
        payment_request_id="pay-0",
        payment_id="P-pay-0",
        fact_id="P-pay-0",
        amount=SGD_42,
    )
    await waiting.store.apply([notified(fact)])
    await execute(waiting.store, "UPDATE facts SET body = '{}'")
    antom.will(INQUIRY, inquired("PROCESSING"))
    reconcile = reconciler(waiting, client)
    waiting.clock.advance(60)
    assert await reconcile.run_due() == 4
    assert await rows(waiting.store, "SELECT * FROM inquiries WHERE lease_token IS NOT NULL") == []
    states = await rows(waiting.store, "SELECT DISTINCT state FROM payments")
    assert [row.state for row in states] == ["PROCESSING"]
    assert "inquiry_failed" in caplog.text


async def test_what_an_upgrade_left_unexamined_is_begun_in_one_go(
    sqlite_till: Till, listening: tuple[ScriptedAntom, AntomClient]
) -> None:
    """A live database has more open payments than one transaction of the net begins."""
    antom, client = listening
    antom.forget()
    antom.will(SESSION, session())
    antom.will(INQUIRY, NOT_SUBMITTED)
    store = sqlite_till.store
    await sqlite_till.create()
    columns = [row.name for row in await rows(store, "PRAGMA table_info(payments)")]
    copied = ", ".join({"payment_request_id": "'copy-' || value"}.get(one, one) for one in columns)
    many = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 1200)"
    await execute(store, f"INSERT INTO payments {many} SELECT {copied} FROM payments, n")
    async with running(reconciler(sqlite_till, client)):
        while len(await rows(store, "SELECT * FROM inquiries")) < 1201:
            await store.log.wait(0.01)
