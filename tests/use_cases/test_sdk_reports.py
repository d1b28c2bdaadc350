"""A front end's report brings the truth sooner, and is never taken for it."""

from __future__ import annotations

import pytest

from antom_payments.caller import EVERYONE
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.reconcile import Reconciler
from antom_payments.sdk_event import NextStep, SdkEvent, SdkEventCode
from scripted_antom import AUTHORIZED, INQUIRY, NOT_SUBMITTED, SESSION, session
from stored import whole_log
from use_cases.till import THE_PAYMENT, Till, reconciler

SUCCESSFUL = SdkEvent(SdkEventCode.SDK_PAYMENT_SUCCESSFUL)


@pytest.fixture
def reconcile(till: Till, listening) -> Reconciler:  # type: ignore[no-untyped-def]
    return reconciler(till, listening[1])


async def test_a_reported_success_is_found_at_once_and_by_antoms_word(
    till: Till, reconcile: Reconciler
) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    assert await reconcile.run_due() == 0
    payment, step = await till.service.report_sdk_event(EVERYONE, THE_PAYMENT, SUCCESSFUL)
    assert (payment.state, step) == (PaymentState.AWAITING_BUYER, NextStep.WAIT_FOR_RESULT)
    assert await reconcile.run_due() == 1
    _, hint, found = await whole_log(till.store)
    assert (hint.type, hint.source) == (EventType.SDK_EVENT_REPORTED, Source.API)
    assert (found.type, found.source) == (EventType.PAYMENT_AUTHORIZED, Source.INQUIRY)
    _, step = await till.service.report_sdk_event(EVERYONE, THE_PAYMENT, SUCCESSFUL)
    assert step is NextStep.SHOW_RESULT


async def test_a_success_that_antom_does_not_know_of_stays_a_hint(
    till: Till, reconcile: Reconciler
) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    await till.create()
    await till.service.report_sdk_event(EVERYONE, THE_PAYMENT, SUCCESSFUL)
    assert await reconcile.run_due() == 1
    assert (await till.read()).state is PaymentState.AWAITING_BUYER
    # And it is routine again: nothing presses any more.
    till.clock.advance(10)
    assert await reconcile.run_due() == 0
