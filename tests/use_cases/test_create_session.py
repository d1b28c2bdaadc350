"""CreateSession: the plain way, repetitions, crashes, and callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from antom_payments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    OutcomeUnknown,
    PaymentRequestIdReused,
    SessionInFlight,
)
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState
from antom_payments.service import (
    SessionAnswer,
)
from antom_payments.session import PaymentMethod
from clock import START
from scripted_antom import (
    AUTHORIZED,
    INQUIRY,
    SESSION,
    Held,
    inquired,
    session,
    unknown,
)
from stored import erased, rows
from use_cases.till import (
    LEASE_SECONDS,
    POLICY,
    REQUEST,
    Till,
    break_writes,
)

# Sessions: the plain way, and repetitions


async def test_a_session_is_created_and_stored(till: Till) -> None:
    till.antom.will(SESSION, session())
    answer = await till.create()
    assert answer.session
    assert answer.session.payment_session_data == "data of session-1"
    assert answer.payment.state is PaymentState.AWAITING_BUYER
    assert answer.payment.metadata == {"basket": "7"}
    assert answer.payment == await till.stored()
    assert await till.news() == [EventType.SESSION_CREATED]
    [asked] = till.antom.asked
    assert asked.body["paymentRequestId"] == "pay-1"
    assert asked.body["paymentNotifyUrl"] == POLICY.notify_url
    assert "basket" not in asked.raw.decode()


async def test_the_intent_is_stored_before_antom_is_called(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    intent = await till.stored()
    assert intent
    assert intent.state is PaymentState.CREATING
    assert await till.news() == []
    answer.go_on.set()
    await creating


async def test_what_antom_would_refuse_is_neither_stored_nor_sent(sqlite_till: Till) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await sqlite_till.create(payment_redirect_url="")
    assert [one.field for one in refusal.value.violations] == ["payment_redirect_url"]
    assert await sqlite_till.stored() is None
    assert sqlite_till.antom.asked == []


async def test_a_repetition_gets_the_stored_session_and_asks_nobody(till: Till) -> None:
    till.antom.will(SESSION, session())
    first = await till.create()
    again = await till.create(payment_redirect_url="https://shop.example/other", metadata={})
    assert again == first
    assert len(till.antom.asked) == 1


async def test_a_repetition_after_the_sessions_end_gets_a_fresh_one(till: Till) -> None:
    till.antom.will(SESSION, session(), session("session-2", expiry="2026-03-02T12:00:00Z"))
    await till.create()
    till.clock.advance(3600)
    answer = await till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-2"
    assert await till.news() == [EventType.SESSION_CREATED, EventType.SESSION_RENEWED]
    first, second = till.antom.asked
    assert first.raw == second.raw


async def test_a_fresh_session_ends_when_the_repetition_says_and_is_otherwise_as_first_asked(
    sqlite_till: Till,
) -> None:
    sqlite_till.antom.will(SESSION, session(expiry="2026-03-02T09:40:00Z"), session("session-2"))
    await sqlite_till.create(payment_session_expiry_time=START + timedelta(minutes=10))
    sqlite_till.clock.advance(700)
    await sqlite_till.create(
        payment_session_expiry_time=START + timedelta(minutes=30), locale="en_US"
    )
    first, second = (question.body for question in sqlite_till.antom.asked)
    assert second.pop("paymentSessionExpiryTime") == "2026-03-02T10:00:00Z"
    assert first.pop("paymentSessionExpiryTime") == "2026-03-02T09:40:00Z"
    assert second == first


async def test_a_payment_that_is_authorized_gets_no_session_and_antom_is_not_asked(
    till: Till,
) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    authorized = await till.read(fresh=True)
    assert authorized.state is PaymentState.AUTHORIZED
    till.antom.asked.clear()
    for seconds in (0, 7200):
        till.clock.advance(seconds)
        assert await till.create() == SessionAnswer(authorized, None)
    assert till.antom.asked == []


async def test_a_repetition_after_its_own_expiry_gets_a_fresh_session_that_says_none(
    till: Till,
) -> None:
    expiry = START + timedelta(minutes=10)
    till.antom.will(
        SESSION,
        session(expiry="2026-03-02T09:40:00Z"),
        session("session-2", expiry="2026-03-02T11:00:00Z"),
    )
    await till.create(payment_session_expiry_time=expiry)
    till.clock.advance(700)
    answer = await till.create(payment_session_expiry_time=expiry)
    assert answer.session
    assert answer.session.payment_session_id == "session-2"
    first, second = (question.body for question in till.antom.asked)
    assert first.pop("paymentSessionExpiryTime") == "2026-03-02T09:40:00Z"
    assert second == first


async def test_a_repetition_after_its_own_expiry_gets_a_final_payment(sqlite_till: Till) -> None:
    expiry = START + timedelta(minutes=10)
    sqlite_till.antom.will(SESSION, session(expiry="2026-03-02T09:40:00Z"))
    sqlite_till.antom.will(INQUIRY, inquired("FAIL", paymentResultCode="ORDER_IS_CLOSED"))
    await sqlite_till.create(payment_session_expiry_time=expiry)
    failed = await sqlite_till.read(fresh=True)
    assert failed.state is PaymentState.FAILED
    sqlite_till.clock.advance(700)
    answer = await sqlite_till.create(payment_session_expiry_time=expiry)
    assert answer == SessionAnswer(failed, None)


async def test_an_expiry_that_has_passed_is_refused_in_a_first_request(sqlite_till: Till) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await sqlite_till.create(payment_session_expiry_time=START - timedelta(minutes=1))
    assert [one.field for one in refusal.value.violations] == ["payment_session_expiry_time"]
    assert await sqlite_till.stored() is None


async def test_after_an_unknown_outcome_the_same_bytes_are_sent_while_their_expiry_holds(
    sqlite_till: Till,
) -> None:
    sqlite_till.antom.will(SESSION, unknown())
    with pytest.raises(OutcomeUnknown):
        await sqlite_till.create(payment_session_expiry_time=START + timedelta(minutes=10))
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.clock.advance(60)
    await sqlite_till.create(payment_session_expiry_time=START + timedelta(minutes=30))
    assert len({question.raw for question in sqlite_till.antom.asked}) == 1


async def test_a_session_is_fresh_after_the_first_requests_private_data_was_erased(
    till: Till,
) -> None:
    till.antom.will(SESSION, session(), session("session-2", expiry="2026-03-02T15:00:00Z"))
    await till.create()
    till.clock.advance(3 * 3600)
    assert await erased(till.store) == 1
    answer = await till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-2"
    assert await till.create() == answer
    assert len(till.antom.asked) == 2


@pytest.mark.parametrize(
    ("differing", "change"),
    [
        ("payment_amount", {"payment_amount": Money("SGD", 4201)}),
        ("payment_amount", {"payment_amount": Money("USD", 4200)}),
        ("payment_method_type", {"payment_method": PaymentMethod(payment_method_type="GCASH")}),
        ("capture_mode", {"capture_mode": "MANUAL"}),
        ("reference_order_id", {"order": replace(REQUEST.order, reference_order_id="order-2")}),
    ],
)
async def test_an_id_belongs_to_one_payment(
    sqlite_till: Till, differing: str, change: dict[str, Any]
) -> None:
    sqlite_till.antom.will(SESSION, session())
    await sqlite_till.create()
    with pytest.raises(PaymentRequestIdReused) as refusal:
        await sqlite_till.create(**change)
    assert refusal.value.differing == differing
    assert len(sqlite_till.antom.asked) == 1


async def test_of_two_calls_at_the_same_instant_one_asks_antom(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    calls = [asyncio.create_task(till.create()) for _ in range(2)]
    done, [waiting] = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    [late] = done
    in_flight = late.exception()
    assert isinstance(in_flight, SessionInFlight)
    assert in_flight.retry_after_seconds == LEASE_SECONDS
    answer.go_on.set()
    assert (await waiting).session
    assert len(till.antom.asked) == 1


@pytest.mark.parametrize("is_renewal", [False, True], ids=["new", "renewal"])
async def test_of_fifty_calls_at_once_one_asks_antom_and_all_end_in_its_session(
    till: Till, *, is_renewal: bool
) -> None:
    answer = Held(session("session-2", expiry="2026-03-02T12:00:00Z"))
    till.antom.will(SESSION, session(), answer) if is_renewal else till.antom.will(SESSION, answer)
    if is_renewal:
        await till.create()
        till.clock.advance(3600)
        till.antom.asked.clear()
    calls = [asyncio.create_task(till.create()) for _ in range(50)]
    waiting = set(calls)
    while len(waiting) > 1:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    answer.go_on.set()
    [asking] = waiting
    first = await asking
    assert first.session
    assert first.session.payment_session_id == "session-2"
    for call in calls:
        if call is not asking:
            in_flight = call.exception()
            assert isinstance(in_flight, SessionInFlight)
            assert 0 < in_flight.retry_after_seconds <= LEASE_SECONDS
    assert await asyncio.gather(*[till.create() for _ in range(50)]) == [first] * 50
    assert len(till.antom.asked) == 1
    assert len(await till.news()) == 1 + is_renewal


# Crashes, and callers that leave


async def test_after_a_crash_under_the_call_a_repetition_ends_in_one_session(
    till: Till, till_on: Callable[..., Till]
) -> None:
    till.antom.will(SESSION, Held(session("never told")), session())
    crashing = asyncio.create_task(till.create())
    await till.antom.was_asked()
    for call in till.service._calls:
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crashing

    restarted = till_on(till.store)
    with pytest.raises(SessionInFlight) as in_flight:
        await restarted.create()
    assert in_flight.value.retry_after_seconds == LEASE_SECONDS
    till.clock.advance(LEASE_SECONDS + 1)
    answer = await restarted.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-1"
    assert await till.news() == [EventType.SESSION_CREATED]
    assert len(await rows(till.store, "SELECT 1 FROM payments")) == 1
    first, second = till.antom.asked
    assert first.raw == second.raw


async def test_a_call_lasts_as_long_as_its_caller_waits_and_can_be_repeated_at_once(
    sqlite_till: Till,
) -> None:
    sqlite_till.antom.will(SESSION, Held(session("too late")), session())
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        await sqlite_till.create(budget_seconds=0.2)
    await sqlite_till.service.drain()
    answer = await sqlite_till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-1"
    assert len(sqlite_till.antom.asked) == 2


async def test_an_answer_that_came_in_time_is_stored_though_its_caller_left(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create(budget_seconds=0.5))
    await till.antom.was_asked()
    _, mend = break_writes(till.store)
    answer.go_on.set()
    with pytest.raises(DeadlineExceeded):
        await creating
    mend()
    await till.service.drain()
    assert (await till.create()).session
    assert await till.news() == [EventType.SESSION_CREATED]
    assert len(till.antom.asked) == 1


async def test_a_call_goes_on_when_its_caller_cancels(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    answer.go_on.set()
    await till.service.drain()
    assert (await till.create()).session
    assert len(till.antom.asked) == 1


async def test_a_caller_that_leaves_at_once_leaves_no_lease_behind(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session())
    creating = asyncio.create_task(sqlite_till.create())
    await asyncio.sleep(0)  # it has begun, and waits for the database
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await sqlite_till.service.drain()
    assert (await sqlite_till.create()).session
    assert len(sqlite_till.antom.asked) == 1
