"""An unpaid order lapses in its time, by Antom's word and clock, and no other does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from antom_payments.payment import EventType, PaymentState
from antom_payments.reconcile import Reconciler
from clock import FrozenClock
from scripted_antom import (
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    ScriptedAntom,
    inquired,
    session,
    unknown,
)
from stored import notified, whole_log
from use_cases.till import (
    END_SECONDS,
    LAPSE_SECONDS,
    PATIENCE,
    Till,
    forget_all,
    paid,
    pass_time,
    payment_news,
)


async def test_a_buyer_who_pays_in_the_last_second_never_ends_expired(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    await pass_time(till, reconcile, END_SECONDS - 1, step=60)
    antom.will(INQUIRY, NOT_SUBMITTED, inquired("PROCESSING"))
    await pass_time(till, reconcile, 17 * 60, step=60)
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.PROCESSING
    antom.will(INQUIRY, paid(("C-1", "SUCCESS")))
    await pass_time(till, reconcile, 10 * 60, step=60)
    assert PaymentState.EXPIRED not in {event.state for event in await whole_log(till.store)}
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.SUCCEEDED


async def test_a_notification_that_overtakes_the_answer_of_the_last_inquiry_wins(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    """The answer "no such order" is on its way when the news of the payment is committed."""
    till = at_the_till
    await pass_time(till, reconcile, LAPSE_SECONDS - 30, step=60)
    antom.asked.clear()
    late = Held(NOT_SUBMITTED)
    antom.will(INQUIRY, late)
    till.clock.advance(60)
    looking = asyncio.create_task(reconcile.run_due())
    await antom.was_asked()
    await till.store.apply([notified(payment_news())])
    late.go_on.set()
    async with asyncio.timeout(PATIENCE):
        await looking
    states = [event.state for event in await whole_log(till.store)]
    assert states[1] is PaymentState.AUTHORIZED
    assert PaymentState.EXPIRED not in states


async def test_an_unpaid_order_expires_when_antom_says_so_after_its_closing_time(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    await pass_time(till, reconcile, LAPSE_SECONDS - 10, step=60)
    assert await till.news() == [EventType.SESSION_CREATED]
    await pass_time(till, reconcile, 20)
    assert await till.news() == [EventType.SESSION_CREATED, EventType.PAYMENT_EXPIRED]
    asked = len(antom.asked)
    await pass_time(till, reconcile, 24 * 3600, step=3600)
    assert len(antom.asked) == asked


async def test_a_server_that_is_ahead_of_antom_expires_nothing_before_its_time(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    true_time = FrozenClock(till.clock.now())
    antom.now = true_time.now
    await pass_time(till, reconcile, LAPSE_SECONDS + 3600, step=600)
    true_time.advance(LAPSE_SECONDS - 180)
    await pass_time(till, reconcile, 600, step=300)
    assert await till.news() == [EventType.SESSION_CREATED]
    true_time.advance(60)
    await pass_time(till, reconcile, 600, step=300)
    assert await till.news() == [EventType.SESSION_CREATED, EventType.PAYMENT_EXPIRED]
    assert (await whole_log(till.store))[-1].antom_time == true_time.now()


@pytest.mark.parametrize("is_there", [False, True], ids=["created after", "created before"])
async def test_that_an_order_lapsed_is_nothing_about_another_that_takes_its_id_after_a_restore(
    at_the_till: Till,
    antom: ScriptedAntom,
    reconcile: Reconciler,
    caplog: pytest.LogCaptureFixture,
    is_there: bool,
) -> None:
    till = at_the_till
    await pass_time(till, reconcile, LAPSE_SECONDS - 30, step=60)
    late = Held(NOT_SUBMITTED)
    ends = till.clock.now() + timedelta(seconds=END_SECONDS)
    antom.will(INQUIRY, late, NOT_SUBMITTED)
    antom.will(SESSION, session(expiry=ends.isoformat()))
    antom.asked.clear()
    till.clock.advance(60)
    looking = asyncio.create_task(reconcile.run_due())
    await antom.was_asked()
    await forget_all(till)
    if is_there:
        await till.create()
    late.go_on.set()
    async with asyncio.timeout(PATIENCE):
        await looking
    await till.create()
    await reconcile.sweep()
    await pass_time(till, reconcile, 120)
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.AWAITING_BUYER
    assert EventType.PAYMENT_EXPIRED not in await till.news()
    assert "inquiry_failed" not in caplog.text


@pytest.mark.parametrize("life", [timedelta(hours=-1), timedelta(hours=1)])
async def test_a_time_of_antom_that_cannot_be_read_expires_nothing_and_is_told(
    at_the_till: Till,
    antom: ScriptedAntom,
    reconcile: Reconciler,
    caplog: pytest.LogCaptureFixture,
    life: timedelta,
) -> None:
    till = at_the_till
    beyond_what_is_written = datetime(9999, 12, 31, tzinfo=UTC)
    antom.now = lambda: beyond_what_is_written
    await pass_time(till, reconcile, LAPSE_SECONDS + life.total_seconds(), step=600)
    assert await till.news() == [EventType.SESSION_CREATED]
    is_over = life > timedelta()
    assert ("antom_response_time_not_understood" in caplog.text) is is_over


async def test_an_order_never_expires_while_antom_does_not_answer(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    till = at_the_till
    antom.will(INQUIRY, unknown())
    await pass_time(till, reconcile, LAPSE_SECONDS + 3600, step=600)
    assert await till.news() == [EventType.SESSION_CREATED]
    antom.will(INQUIRY, NOT_SUBMITTED)
    await pass_time(till, reconcile, 30)
    assert (await till.news())[-1] is EventType.PAYMENT_EXPIRED


async def test_a_session_renewed_while_its_lapse_was_concluded_lapses_in_its_own_time(
    at_the_till: Till, antom: ScriptedAntom, reconcile: Reconciler
) -> None:
    """The answer "no such order" is on its way when the buyer comes back for another session."""
    till = at_the_till
    await pass_time(till, reconcile, LAPSE_SECONDS - 30, step=60)
    antom.asked.clear()
    late = Held(NOT_SUBMITTED)
    antom.will(INQUIRY, late, NOT_SUBMITTED)
    antom.will(SESSION, session("session-2", expiry="2026-03-02T11:30:00Z"))
    till.clock.advance(60)
    looking = asyncio.create_task(reconcile.run_due())
    await antom.was_asked()
    await till.create()
    late.go_on.set()
    async with asyncio.timeout(PATIENCE):
        await looking
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.AWAITING_BUYER
    await pass_time(till, reconcile, 2 * 3600, step=300)
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.EXPIRED
