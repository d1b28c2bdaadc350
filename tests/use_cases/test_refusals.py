"""What Antom refuses, and what it leaves unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from antom_payments.errors import (
    AntomRefused,
    AntomUnavailable,
    AntomUntrusted,
    NewPaymentRequestIdNeeded,
    OutcomeUnknown,
    PaymentNotFound,
)
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.service import (
    SessionAnswer,
)
from scripted_antom import (
    AUTHORIZED,
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    antom_client,
    cut,
    inquired,
    refused,
    scripted_antom,
    session,
    unknown,
)
from stored import notified, whole_log
from use_cases.till import (
    LEASE_SECONDS,
    Till,
    forget_all,
    payment_news,
)


async def test_a_refusal_fails_the_payment_and_later_calls_get_it_without_a_session(
    till: Till,
) -> None:
    till.antom.will(SESSION, refused("PARAM_ILLEGAL"))
    with pytest.raises(AntomRefused) as refusal:
        await till.create()
    assert refusal.value.result_code == "PARAM_ILLEGAL"
    [told] = await whole_log(till.store)
    assert (told.type, told.source) == (EventType.SESSION_REFUSED, Source.API)
    assert told.payment.state is PaymentState.FAILED
    assert told.payment.result_code == "PARAM_ILLEGAL"
    again = await till.create()
    assert again == SessionAnswer(told.payment, None)
    assert till.antom.operations == [SESSION]


async def test_a_refusal_after_an_unknown_outcome_counts_when_inquiry_agrees(till: Till) -> None:
    till.antom.will(SESSION, cut, refused())
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    with pytest.raises(AntomRefused):
        await till.create()
    assert till.antom.operations == [SESSION, SESSION, INQUIRY]
    assert (await till.read()).state is PaymentState.FAILED


async def test_a_refusal_on_a_later_call_counts_when_inquiry_agrees(till: Till) -> None:
    till.antom.will(SESSION, unknown())
    with pytest.raises(OutcomeUnknown):
        await till.create()
    till.antom.forget()
    till.antom.will(SESSION, refused())
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    with pytest.raises(AntomRefused):
        await till.create()
    assert till.antom.operations == [SESSION, INQUIRY]
    assert await till.news() == [EventType.SESSION_REFUSED]


async def test_a_refusal_of_a_payment_that_antom_has_is_only_about_the_repetition(
    till: Till,
) -> None:
    till.antom.will(SESSION, cut, refused())
    till.antom.will(INQUIRY, inquired("PROCESSING"))
    answer = await till.create()
    assert answer.session is None
    assert answer.payment.state is PaymentState.PROCESSING
    assert await till.news() == [EventType.PAYMENT_PROCESSING]
    till.antom.will(SESSION, session())
    assert (await till.create()).session


async def test_a_status_that_nobody_knows_yet_is_no_proof_of_a_refusal(till: Till) -> None:
    till.antom.will(SESSION, cut, refused())
    till.antom.will(INQUIRY, inquired("INVENTED_TOMORROW"))
    answer = await till.create()
    assert answer.payment.state is PaymentState.CREATING
    assert await till.news() == []


async def test_a_refusal_that_cannot_be_checked_leaves_the_outcome_unknown(till: Till) -> None:
    till.antom.will(SESSION, cut, refused("PARAM_ILLEGAL"), session())
    till.antom.will(INQUIRY, unknown())
    with pytest.raises(OutcomeUnknown) as doubt:
        await till.create()
    assert doubt.value.result_code == "PARAM_ILLEGAL"
    assert (await till.read()).state is PaymentState.CREATING
    assert (await till.create()).session


@pytest.mark.parametrize("is_answered", [True, False], ids=["has a session", "is asking"])
async def test_a_refusal_whose_lease_was_lost_is_no_definite_failure(
    till: Till, till_on: Callable[..., Till], *, is_answered: bool
) -> None:
    """Whoever took over may get a session: "use a new id" would make two payments of one."""
    late, other = Held(refused()), Held(session())
    till.antom.will(SESSION, late, other)
    first = asyncio.create_task(till.create())
    await till.antom.was_asked()
    till.clock.advance(LEASE_SECONDS)
    second = asyncio.create_task(till_on(till.store).create())
    await till.antom.was_asked(2)
    if is_answered:
        other.go_on.set()
        await second
    late.go_on.set()
    with pytest.raises(OutcomeUnknown) as doubt:
        await first
    assert doubt.value.result_code == "PARAM_ILLEGAL"
    other.go_on.set()
    assert (await second).session
    assert await till.create() == await second
    assert await till.news() == [EventType.SESSION_CREATED]


async def test_a_refusal_of_a_payment_that_went_on_meanwhile_is_the_payment(till: Till) -> None:
    late = Held(refused())
    till.antom.will(SESSION, late)
    till.antom.will(INQUIRY, AUTHORIZED)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    authorized = await till.read(fresh=True)
    late.go_on.set()
    assert await creating == SessionAnswer(authorized, None)
    assert await till.news() == [EventType.PAYMENT_AUTHORIZED]


async def test_a_renewal_that_is_refused_fails_and_leaves_the_payment_open(till: Till) -> None:
    till.antom.will(SESSION, session(), refused())
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    created = await till.create()
    till.clock.advance(3600)
    for _ in range(2):
        with pytest.raises(AntomRefused):
            await till.create()
    assert await till.stored() == created.payment
    assert await till.news() == [EventType.SESSION_CREATED]


async def test_a_run_of_unknown_outcomes_ends_in_one_session_of_the_same_request(
    till: Till,
) -> None:
    throttled = unknown("REQUEST_TRAFFIC_EXCEED_LIMIT")
    till.antom.will(SESSION, unknown(), throttled, cut, session())
    answer = await till.create()
    assert answer.session
    assert len({question.raw for question in till.antom.asked}) == 1
    assert len(till.antom.asked) == 4
    assert await till.news() == [EventType.SESSION_CREATED]


async def test_an_unknown_outcome_can_be_repeated_at_once(till: Till) -> None:
    till.antom.will(SESSION, unknown())
    with pytest.raises(OutcomeUnknown):
        await till.create()
    assert len(till.antom.asked) > 1
    assert (await till.read()).state is PaymentState.CREATING
    till.antom.will(SESSION, session())
    assert (await till.create()).session


async def test_when_nothing_was_sent_the_call_can_be_repeated_at_once(
    till: Till, till_on: Callable[..., Till]
) -> None:
    async with scripted_antom() as gone:
        origin = gone.origin
    async with antom_client(origin) as nowhere:
        with pytest.raises(AntomUnavailable):
            await till_on(till.store, nowhere).create()
    assert (await till.read()).state is PaymentState.CREATING
    till.antom.will(SESSION, session())
    assert (await till.create()).session


async def test_an_answer_that_is_not_antoms_concludes_nothing(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session("forged", signed=False), session())
    with pytest.raises(AntomUntrusted):
        await sqlite_till.create()
    answer = await sqlite_till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-1"


async def test_an_id_that_antom_used_up_is_told_and_the_payment_stays_open(till: Till) -> None:
    till.antom.will(SESSION, refused("ORDER_IS_CLOSED"))
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    for _ in range(2):
        with pytest.raises(NewPaymentRequestIdNeeded):
            await till.create()
    assert till.antom.operations == [SESSION, INQUIRY, SESSION, INQUIRY]
    assert (await till.read()).state is PaymentState.CREATING
    assert await till.news() == []


async def test_an_id_that_was_paid_before_a_restore_is_found_paid_and_not_used_anew(
    till: Till,
) -> None:
    """Its row is lost; "use a new id" would have the buyer pay twice."""
    till.antom.will(SESSION, refused("ORDER_IS_CLOSED"))
    till.antom.will(INQUIRY, AUTHORIZED)
    answer = await till.create()
    assert answer.session is None
    assert answer.payment.state is PaymentState.AUTHORIZED


async def test_what_waited_for_an_id_has_not_the_last_word_before_antoms_answer(
    till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    """News of another amount came while the id's row was lost: the inquiry tells the true one."""
    await till.store.apply([notified(payment_news(amount=Money("SGD", 42_000)))])
    till.antom.will(SESSION, refused("ORDER_IS_CLOSED"))
    till.antom.will(INQUIRY, AUTHORIZED)
    answer = await till.create()
    assert answer.session is None
    assert answer.payment.state is PaymentState.AUTHORIZED
    events = await whole_log(till.store)
    assert [(event.type, event.source) for event in events] == [
        (EventType.AMOUNT_MISMATCH, Source.NOTIFICATION),
        (EventType.PAYMENT_AUTHORIZED, Source.INQUIRY),
    ]
    stored = await till.stored()
    assert stored
    assert not stored.inquiry_wanted
    [alarm] = [record.msg for record in caplog.records if "contradiction" in str(record.msg)]
    assert isinstance(alarm, dict)
    assert (alarm["event_type"], alarm["source"]) == ("AMOUNT_MISMATCH", "NOTIFICATION")


async def test_an_id_that_is_another_payment_s_at_antom_needs_a_new_one(till: Till) -> None:
    till.antom.will(SESSION, refused("REPEAT_REQ_INCONSISTENT"))
    till.antom.will(INQUIRY, inquired(minor_units=1))
    with pytest.raises(NewPaymentRequestIdNeeded):
        await till.create()
    assert (await till.read()).state is PaymentState.CREATING


async def test_an_id_whose_order_is_over_gets_the_payment_as_it_ended(till: Till) -> None:
    till.antom.will(SESSION, cut, refused("ORDER_IS_CLOSED"))
    till.antom.will(INQUIRY, inquired("FAIL", paymentResultCode="ORDER_IS_CLOSED"))
    answer = await till.create()
    assert answer.session is None
    assert answer.payment.state is PaymentState.FAILED
    assert answer.payment.result_code == "ORDER_IS_CLOSED"


@pytest.mark.parametrize("told", [session(), refused()], ids=["session", "refusal"])
@pytest.mark.parametrize("before", [(), (cut,)], ids=["first", "resent"])
async def test_an_answer_whose_intent_a_restore_took_away_is_unknown_and_asked_for_again(
    till: Till,
    told: Callable[..., Awaitable[None]],
    before: tuple[Callable[..., Awaitable[None]], ...],
) -> None:
    answer = Held(told)
    till.antom.will(SESSION, *before, answer, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked(len(before) + 1)
    await forget_all(till)
    answer.go_on.set()
    with pytest.raises(OutcomeUnknown):
        await creating
    assert await till.news() == []
    again = await till.create()
    assert (await till.stored()) == again.payment
    assert (await till.news())[0] is EventType.SESSION_CREATED


async def test_a_fresh_read_of_what_a_restore_took_away_finds_nothing(till: Till) -> None:
    till.antom.will(SESSION, session())
    await till.create()
    answer = Held(AUTHORIZED)
    till.antom.will(INQUIRY, answer)
    reading = asyncio.create_task(till.read(fresh=True))
    await till.antom.was_asked()
    await forget_all(till)
    answer.go_on.set()
    with pytest.raises(PaymentNotFound):
        await reading
