"""What a front end is told to do next: for every event code, in every state of its payment."""

from __future__ import annotations

from itertools import product

import pytest

from antom_payments.payment import OPEN_STATES, EventType, PaymentState
from antom_payments.sdk_event import NextStep, SdkEventCode, next_step, with_sdk_event
from facts import ABSORBING, LATER, NOW, a_payment

C, N, P = SdkEventCode, NextStep, PaymentState

BEFORE_SUBMITTING = {
    C.SDK_PAYMENT_SUCCESSFUL: N.WAIT_FOR_RESULT,
    C.SDK_PAYMENT_PROCESSING: N.WAIT_FOR_RESULT,
    C.SDK_PAYMENT_FAIL: N.WAIT_FOR_RESULT,
    C.SDK_PAYMENT_CANCEL: N.RETRY_SAME_SESSION,
    C.SDK_PAYMENT_ERROR: N.WAIT_FOR_RESULT,
    C.SDK_FORM_VERIFICATION_FAILED: N.RETRY_SAME_SESSION,
    C.SDK_START_OF_LOADING: N.CONTINUE,
    C.SDK_END_OF_LOADING: N.CONTINUE,
    C.SDK_INTERNAL_ERROR: N.CONTACT_SUPPORT,
    C.SDK_CREATEPAYMENT_PARAMETER_ERROR: N.NEW_SESSION,
    C.SDK_CALL_URL_ERROR: N.RETRY_SAME_SESSION,
    C.SDK_INTEGRATION_ERROR: N.CONTACT_SUPPORT,
    C.SDK_INIT_PARAMETER_ERROR: N.CONTACT_SUPPORT,
    C.SDK_CREATECOMPONENT_ERROR: N.CONTACT_SUPPORT,
    C.SDK_CALL_URL_SUCCESS: N.CONTINUE,
}


@pytest.mark.parametrize("code", list(C))
def test_a_buyer_who_has_not_submitted_goes_on_with_the_session_while_it_lives(code: C) -> None:
    alive = a_payment(P.AWAITING_BUYER, payment_session_expiry_time=LATER)
    expected = BEFORE_SUBMITTING[code]
    assert next_step(alive, code, NOW) is expected
    # At its expiry it is over; before it was confirmed there is none.
    instead = {N.RETRY_SAME_SESSION: N.NEW_SESSION}.get(expected, expected)
    assert next_step(alive, code, LATER) is instead
    assert next_step(a_payment(P.CREATING), code, NOW) is instead


@pytest.mark.parametrize("code", list(C))
def test_a_buyer_who_has_submitted_waits_for_the_result(code: C) -> None:
    expected = BEFORE_SUBMITTING[code]
    if expected in {N.RETRY_SAME_SESSION, N.NEW_SESSION}:
        expected = N.WAIT_FOR_RESULT
    submitted = a_payment(P.PROCESSING, payment_session_expiry_time=LATER)
    assert next_step(submitted, code, NOW) is expected


@pytest.mark.parametrize(("state", "code"), list(product((P.AUTHORIZED, P.SUCCEEDED), C)))
def test_what_is_paid_is_shown_whatever_was_reported(state: P, code: C) -> None:
    assert next_step(a_payment(state), code, NOW) is N.SHOW_RESULT


@pytest.mark.parametrize(("state", "code"), list(product(sorted(ABSORBING), C)))
def test_what_is_over_unpaid_needs_a_new_payment_unless_the_front_end_is_broken(
    state: P, code: C
) -> None:
    is_broken = BEFORE_SUBMITTING[code] is N.CONTACT_SUPPORT
    expected = N.CONTACT_SUPPORT if is_broken else N.NEW_PAYMENT
    assert next_step(a_payment(state), code, NOW) is expected


@pytest.mark.parametrize(("state", "code"), list(product(sorted(OPEN_STATES), C)))
def test_nobody_is_sent_to_pay_anew_while_the_payment_may_succeed(state: P, code: C) -> None:
    for expiry_time in (None, NOW, LATER):
        payment = a_payment(state, payment_session_expiry_time=expiry_time)
        assert next_step(payment, code, NOW) is not N.NEW_PAYMENT


@pytest.mark.parametrize("state", list(P))
def test_a_report_adds_a_version_and_changes_nothing_else(state: P) -> None:
    before = a_payment(state)
    decision = with_sdk_event(before, LATER)
    assert (decision.type, decision.state_before) == (EventType.SDK_EVENT_REPORTED, state)
    assert decision.payment == a_payment(state, version=2, update_time=LATER)
