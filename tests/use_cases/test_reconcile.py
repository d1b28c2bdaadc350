"""The truth is found out by asking, whatever became of answers and notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from antom_payments.antom import AntomClient
from antom_payments.errors import OutcomeUnknown
from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.reconcile import Reconciler
from antom_payments.store import DataCipher, Rate, open_store
from scripted_antom import (
    AUTHORIZED,
    INQUIRY,
    SESSION,
    Held,
    ScriptedAntom,
    cut,
    inquired,
    refused,
    session,
)
from stored import execute, notified, rows, whole_log
from use_cases.till import (
    END_SECONDS,
    LAPSE_SECONDS,
    PATIENCE,
    Till,
    break_writes,
    captures,
    paid,
    pass_time,
    payment_news,
    reconciler,
)


async def test_charged_into_a_dead_connection_and_never_notified_is_found_in_the_first_step(
    till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    antom.will(SESSION, cut)
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    with pytest.raises(OutcomeUnknown):
        await till.create()
    await pass_time(till, reconcile, 40)
    events = await whole_log(till.store)
    assert [event.type for event in events] == [
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    assert {event.source for event in events} == {Source.INQUIRY}
    found = await till.stored()
    assert found
    assert found.state is PaymentState.SUCCEEDED


@pytest.mark.parametrize("paid_after", [5, 75, 400, 3500])
async def test_a_payment_without_notification_is_found_within_the_cadences_step(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler, paid_after: int
) -> None:
    till = at_the_till
    steps = [30, 90, 210, 510, END_SECONDS]
    next_step = next(step for step in steps if step > paid_after)
    await pass_time(till, reconcile, paid_after, step=5)
    assert await till.news() == [EventType.SESSION_CREATED]
    antom.will(INQUIRY, inquired())
    await pass_time(till, reconcile, next_step + 10 - paid_after, step=5)
    assert EventType.PAYMENT_AUTHORIZED in await till.news()


async def test_two_replicas_inquire_each_payment_once(
    till: Till,
    listening: tuple[ScriptedAntom, AntomClient],
    till_on: Callable[..., Till],
    database_url: str,
    cipher: DataCipher,
) -> None:
    antom, client = listening
    antom.will(SESSION, session())
    antom.will(INQUIRY, AUTHORIZED)
    for n in range(10):
        await till.create(payment_request_id=f"pay-{n}")
    antom.asked.clear()
    till.clock.advance(40)
    async with open_store(database_url, cipher=cipher, now=till.clock.now) as store:
        pair = [reconciler(one, client, at_once=3) for one in (till, till_on(store))]
        while sum(await asyncio.gather(*(one.run_due() for one in pair))):
            pass
    asked = sorted(question.body["paymentRequestId"] for question in antom.asked)
    assert asked == sorted(f"pay-{n}" for n in range(10))
    states = await rows(till.store, "SELECT DISTINCT state FROM payments")
    assert [row.state for row in states] == ["AUTHORIZED"]


async def test_a_payment_cancelled_in_the_dashboard_after_success_becomes_cancelled(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    await pass_time(till, reconcile, 40)
    antom.will(INQUIRY, inquired("CANCELLED"))
    await pass_time(till, reconcile, 700)
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.CANCELLED
    assert (await till.news())[-1] is EventType.PAYMENT_CANCELLED


async def test_a_failed_capture_is_told_and_a_later_successful_one_too(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    antom.will(INQUIRY, paid(("C-1", "FAIL")))
    await pass_time(till, reconcile, 40)
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.AUTHORIZED
    antom.will(INQUIRY, paid(("C-1", "FAIL"), ("C-2", "SUCCESS")))
    await pass_time(till, reconcile, 3700, step=600)
    assert await till.news() == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_FAILED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.SUCCEEDED


async def test_a_capture_is_followed_to_its_end_at_antoms_pace(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    await till.store.apply([notified(payment_news())])
    antom.will(INQUIRY, paid(("C-1", "PROCESSING")), paid(("C-1", "SUCCESS")))
    await pass_time(till, reconcile, 12, step=1)
    assert (await till.news())[-2:] == [
        EventType.CAPTURE_PROCESSING,
        EventType.CAPTURE_SUCCEEDED,
    ]


async def test_news_of_another_amount_is_asked_about_at_once_and_corrected(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    await till.store.apply([notified(payment_news(amount=Money("SGD", 1)))])
    antom.will(INQUIRY, AUTHORIZED)
    await pass_time(till, reconcile, 10, step=1)
    assert await till.news() == [
        EventType.SESSION_CREATED,
        EventType.AMOUNT_MISMATCH,
        EventType.PAYMENT_AUTHORIZED,
    ]


async def test_a_contradiction_that_antom_confirms_corrects_the_state(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    outcomes = (Outcome.FAILED, Outcome.SUCCEEDED)
    await till.store.apply([notified(payment_news(outcome)) for outcome in outcomes])
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    await pass_time(till, reconcile, 10, step=1)
    news = await till.news()
    assert news[1:4] == [
        EventType.PAYMENT_FAILED,
        EventType.CONTRADICTION,
        EventType.PAYMENT_CORRECTED,
    ]
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.SUCCEEDED


async def test_an_answer_outlives_an_outage_of_the_database(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    late = Held(paid(("C-1", "SUCCESS")))
    antom.will(INQUIRY, late)
    till.clock.advance(40)
    looking = asyncio.create_task(reconcile.run_due())
    await antom.was_asked()
    noticed, mend = break_writes(till.store)
    late.go_on.set()
    async with asyncio.timeout(PATIENCE):
        await noticed.wait()
        mend()
        await looking
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.SUCCEEDED
    assert len(antom.asked) == 1


async def test_what_a_dead_replica_was_asking_is_asked_by_another(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    till.clock.advance(40)
    options: dict[str, Any] = {"limit": 9, "rate": Rate(), "lease_seconds": 25}
    assert len(await till.store.claim_inquiries("default", **options)) == 1
    assert await reconcile.run_due() == 0
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    till.clock.advance(25)
    assert await reconcile.run_due() == 1
    assert (await till.news())[-1] is EventType.CAPTURE_SUCCEEDED


async def test_the_same_answer_again_makes_no_event(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    await pass_time(till, reconcile, 8 * 24 * 3600, step=3600)
    assert len(antom.asked) > 8
    assert await till.news() == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]


async def test_a_fresh_read_has_an_open_payment_asked_about_again_soon(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    antom.will(INQUIRY, inquired("PROCESSING"), paid(("C-1", "SUCCESS")))
    await till.read(fresh=True)
    await pass_time(till, reconcile, 3, step=1)
    assert (await till.news())[-1] is EventType.CAPTURE_SUCCEEDED


async def test_the_reconciler_runs_by_itself_and_survives_outages(
    at_the_till: Till, antom: ScriptedAntom, listening: tuple[ScriptedAntom, AntomClient]
) -> None:
    till = at_the_till
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    await execute(till.store, "DELETE FROM inquiries")  # the net finds it
    noticed, mend = break_writes(till.store)
    restless = reconciler(till, listening[1], look_seconds=0.01)
    running = asyncio.create_task(restless.run())
    async with asyncio.timeout(PATIENCE):
        await noticed.wait()
        mend()
        while EventType.CAPTURE_SUCCEEDED not in await till.news():
            till.clock.advance(5)
            await till.store.log.wait(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_question_that_antom_refuses_concludes_nothing(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    antom.will(INQUIRY, refused("PARAM_ILLEGAL"))
    await pass_time(till, reconcile, LAPSE_SECONDS + 600, step=600)
    assert await till.news() == [EventType.SESSION_CREATED]


@pytest.mark.parametrize("never", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
async def test_times_that_mean_never_do_not_hide_what_became_of_the_payment(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler, never: str
) -> None:
    till = at_the_till
    antom.will(
        INQUIRY,
        inquired(
            paymentTime=never, authExpiryTime=never, transactions=captures(("C-1", "SUCCESS"))
        ),
    )
    await pass_time(till, reconcile, 40)
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.SUCCEEDED
