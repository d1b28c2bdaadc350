"""States: one table of legal steps, and what sessions do to a payment."""

from __future__ import annotations

from datetime import timedelta

from antom_payments.money import Money
from antom_payments.payment import (
    FINAL_STATES,
    STEPS,
    Capture,
    CaptureState,
    EventType,
    Payment,
    PaymentState,
    step,
    with_refusal,
    with_session,
)
from facts import ABSORBING, LATER, NOW, OPEN, a_payment

# The session's end


def test_a_session_ends_when_antom_said_and_else_an_hour_after_the_intent() -> None:
    told = NOW + timedelta(minutes=7)
    assert a_payment(create_time=NOW, payment_session_expiry_time=told).session_end == told
    assert a_payment(create_time=NOW).session_end == NOW + timedelta(hours=1)


# The table

# Written a second time, by hand, so that no cell changes unnoticed: the state after each news in
# each state of the head; "-" is no legal step.
ALL_STEPS = """
                   CREATING       AWAITING_BUYER PROCESSING AUTHORIZED SUCCEEDED FAILED CANCELLED EXPIRED
SESSION_CREATED    AWAITING_BUYER AWAITING_BUYER PROCESSING AUTHORIZED SUCCEEDED FAILED CANCELLED EXPIRED
SESSION_RENEWED    AWAITING_BUYER AWAITING_BUYER PROCESSING AUTHORIZED SUCCEEDED FAILED CANCELLED EXPIRED
SESSION_REFUSED    FAILED         -              -          -          -         -      -         -
PAYMENT_PROCESSING PROCESSING     PROCESSING     PROCESSING AUTHORIZED SUCCEEDED FAILED CANCELLED -
PAYMENT_PENDING    PROCESSING     PROCESSING     PROCESSING AUTHORIZED SUCCEEDED FAILED CANCELLED -
PAYMENT_AUTHORIZED AUTHORIZED     AUTHORIZED     AUTHORIZED AUTHORIZED SUCCEEDED -      CANCELLED -
PAYMENT_SUCCEEDED  SUCCEEDED      SUCCEEDED      SUCCEEDED  -          SUCCEEDED -      CANCELLED -
PAYMENT_FAILED     FAILED         FAILED         FAILED     -          -         FAILED -         EXPIRED
PAYMENT_CANCELLED  CANCELLED      CANCELLED      CANCELLED  CANCELLED  CANCELLED -      CANCELLED -
PAYMENT_EXPIRED    EXPIRED        EXPIRED        EXPIRED    -          -         FAILED -         EXPIRED
CAPTURE_SUCCEEDED  SUCCEEDED      SUCCEEDED      SUCCEEDED  SUCCEEDED  SUCCEEDED -      -         -
CAPTURE_FAILED     PROCESSING     PROCESSING     PROCESSING AUTHORIZED SUCCEEDED -      CANCELLED -
CAPTURE_PROCESSING PROCESSING     PROCESSING     PROCESSING AUTHORIZED SUCCEEDED -      CANCELLED -
SDK_EVENT_REPORTED CREATING       AWAITING_BUYER PROCESSING AUTHORIZED SUCCEEDED FAILED CANCELLED EXPIRED
"""  # noqa: E501 - a table is read by its columns


def test_the_table_has_these_steps_and_no_others() -> None:
    head, *lines = [line.split() for line in ALL_STEPS.split("\n") if line]
    wanted = {news: dict(zip(head, after, strict=True)) for news, *after in lines}
    assert head == list(PaymentState)
    assert set(STEPS) == set(wanted)
    for news in STEPS:
        for before in PaymentState:
            after = wanted[news][before]
            assert step(before, news) == (None if after == "-" else after), f"{before} {news}"


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


def test_open_is_what_may_still_end_in_any_way() -> None:
    assert {state for state in PaymentState if state.is_open} == OPEN
    assert {state for state in PaymentState if state.is_final} == FINAL_STATES


def test_final_states_are_those_that_subscribers_wait_for() -> None:
    assert {PaymentState.SUCCEEDED} | ABSORBING == FINAL_STATES
    assert not PaymentState.AUTHORIZED.is_final


# A payment

A_NEW_PAYMENT = Payment(
    merchant_account="default",
    payment_request_id="order-1-attempt-1",
    amount=Money("EUR", 100),
    reference_order_id="order-1",
    payment_method_type="CARD",
    capture_mode="",
    capture_expected=None,
    create_time=NOW,
    update_time=NOW,
)


def test_of_a_new_payment_nothing_is_known() -> None:
    new = A_NEW_PAYMENT
    assert new.state is PaymentState.CREATING
    assert (new.version, new.last_sequence) == (0, 0)
    amounts = (new.authorized_minor_units, new.captured_minor_units, new.refunded_minor_units)
    assert amounts == (0, 0, 0)
    assert new.payment_id is None
    assert new.captures == ()
    assert (new.result_code, new.traceparent, new.metadata) == ("", "", {})
    assert new.payment_session_expiry_time is None
    assert (new.payment_create_time, new.payment_time, new.auth_expiry_time) == (None, None, None)
    assert new.inquiry_wanted is False


def test_what_was_taken_is_what_successful_captures_took() -> None:
    captures = tuple(
        Capture(f"C-{n}", "", state, Money("EUR", 10**n)) for n, state in enumerate(CaptureState)
    )
    assert [capture.state for capture in captures] == ["PROCESSING", "SUCCEEDED", "FAILED"]
    assert a_payment(captures=captures).taken_minor_units == 10
    assert a_payment(captures=captures[1:] * 2).taken_minor_units == 20
    assert (captures[0].result_code, captures[0].capture_time) == ("", None)


# Sessions


def test_a_confirmed_session_waits_for_the_buyer() -> None:
    expiry = LATER + timedelta(hours=1)
    decision = with_session(a_payment(PaymentState.CREATING, version=0), expiry, LATER)
    assert decision.type is EventType.SESSION_CREATED
    assert decision.payment.state is PaymentState.AWAITING_BUYER
    assert decision.state_before is PaymentState.CREATING
    assert decision.is_conclusive
    assert decision.reported_amount is None
    assert decision.payment == a_payment(
        PaymentState.AWAITING_BUYER,
        version=1,
        update_time=LATER,
        payment_session_expiry_time=expiry,
    )


def test_a_second_session_renews_the_first_and_moves_nothing() -> None:
    for state in PaymentState:
        payment = a_payment(state, payment_session_expiry_time=NOW)
        decision = with_session(payment, LATER, NOW)
        assert decision.type is EventType.SESSION_RENEWED
        assert decision.state_before is state
        assert decision.payment.version == payment.version + 1
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
    assert decision.state_before is PaymentState.CREATING
    assert decision.payment == a_payment(
        PaymentState.FAILED, version=2, update_time=LATER, result_code="PARAM_ILLEGAL"
    )


def test_a_refusal_of_a_resend_does_not_fail_a_payment_that_went_on() -> None:
    for state in set(PaymentState) - {PaymentState.CREATING}:
        assert with_refusal(a_payment(state), "REPEAT_REQ_INCONSISTENT", LATER) is None
