"""States: one table of legal steps, and what sessions do to a payment."""

from __future__ import annotations

from antom_payments.payment import (
    FINAL_STATES,
    STEPS,
    EventType,
    PaymentState,
    with_refusal,
    with_session,
)
from facts import ABSORBING, LATER, NOW, OPEN, a_payment

# The table


def test_the_table_knows_every_kind_of_news_that_is_not_an_alarm() -> None:
    told_otherwise = {
        EventType.AMOUNT_MISMATCH,
        EventType.CONTRADICTION,
        EventType.PAYMENT_CORRECTED,
    }
    assert set(STEPS) == set(EventType) - told_otherwise


def test_no_step_leads_out_of_failed_cancelled_or_expired() -> None:
    for news, steps in STEPS.items():
        for before, after in steps.items():
            if before in ABSORBING:
                assert after is before, f"{news} revives {before}"


def test_no_step_leads_back_to_an_open_state() -> None:
    order = list(PaymentState)
    for news, steps in STEPS.items():
        for before, after in steps.items():
            if after in OPEN:
                assert before in OPEN, f"{news} reopens {before}"
                assert order.index(after) >= order.index(before), f"{news} goes back"


def test_only_a_success_or_a_capture_leads_to_money() -> None:
    leads = {
        news
        for news, steps in STEPS.items()
        for before, after in steps.items()
        if after in {PaymentState.AUTHORIZED, PaymentState.SUCCEEDED} and after is not before
    }
    assert leads == {
        EventType.PAYMENT_AUTHORIZED,
        EventType.PAYMENT_SUCCEEDED,
        EventType.CAPTURE_SUCCEEDED,
    }


def test_every_state_but_the_first_is_reached() -> None:
    reached = {
        after for steps in STEPS.values() for before, after in steps.items() if before is not after
    }
    assert reached == set(PaymentState) - {PaymentState.CREATING}


def test_final_states_are_those_that_subscribers_wait_for() -> None:
    assert {PaymentState.SUCCEEDED} | ABSORBING == FINAL_STATES
    assert not PaymentState.AUTHORIZED.is_final


# Sessions


def test_a_confirmed_session_waits_for_the_buyer() -> None:
    decision = with_session(a_payment(PaymentState.CREATING, version=0), LATER, NOW)
    assert decision.type is EventType.SESSION_CREATED
    assert decision.payment.state is PaymentState.AWAITING_BUYER
    assert decision.payment.version == 1
    assert decision.payment.payment_session_expiry_time == LATER


def test_a_second_session_renews_the_first_and_moves_nothing() -> None:
    for state in PaymentState:
        payment = a_payment(state, payment_session_expiry_time=NOW)
        decision = with_session(payment, LATER, NOW)
        assert decision.type is EventType.SESSION_RENEWED
        assert decision.payment.state is (
            PaymentState.AWAITING_BUYER if state is PaymentState.CREATING else state
        )


def test_a_buyer_faster_than_antoms_answer_keeps_what_was_reached() -> None:
    for state in set(PaymentState) - {PaymentState.CREATING}:
        assert with_session(a_payment(state), LATER, NOW).payment.state is state


def test_a_refused_session_fails_the_payment() -> None:
    decision = with_refusal(a_payment(PaymentState.CREATING), "PARAM_ILLEGAL", LATER)
    assert decision is not None
    assert decision.type is EventType.SESSION_REFUSED
    assert decision.payment.state is PaymentState.FAILED
    assert decision.payment.result_code == "PARAM_ILLEGAL"


def test_a_refusal_of_a_resend_does_not_fail_a_payment_that_went_on() -> None:
    for state in set(PaymentState) - {PaymentState.CREATING}:
        assert with_refusal(a_payment(state), "REPEAT_REQ_INCONSISTENT", LATER) is None
