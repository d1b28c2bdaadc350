"""Events: who hears of them."""

from __future__ import annotations

import pytest

from antom_payments.payment import FINAL_STATES, EventType, Payment, PaymentState, Source
from antom_payments.payment_event import EventFilter, PaymentEvent
from facts import a_payment


def _an_event(payment: Payment, type_: EventType = EventType.PAYMENT_AUTHORIZED) -> PaymentEvent:
    return PaymentEvent("e-1", type_, payment, payment.state, Source.NOTIFICATION)


@pytest.mark.parametrize(
    ("event_filter", "admitted"),
    [
        (EventFilter(), True),
        (EventFilter(merchant_accounts=frozenset({"default"})), True),
        (EventFilter(merchant_accounts=frozenset({"other"})), False),
        (EventFilter(merchant_accounts=frozenset()), False),
        (EventFilter(payment_request_ids=frozenset({"order-1-attempt-1"})), True),
        (EventFilter(payment_request_ids=frozenset({"order-2"})), False),
        (EventFilter(types=frozenset({EventType.PAYMENT_AUTHORIZED})), True),
        (EventFilter(types=frozenset({EventType.CAPTURE_FAILED})), False),
        (EventFilter(final_states_only=True), False),
    ],
)
def test_a_filter_admits_what_meets_all_that_it_asks(
    event_filter: EventFilter, admitted: bool
) -> None:
    assert event_filter.admits(_an_event(a_payment(PaymentState.AUTHORIZED))) is admitted


def test_final_states_only_admits_every_final_state() -> None:
    wanted = EventFilter(final_states_only=True)
    admitted = {s for s in PaymentState if wanted.admits(_an_event(a_payment(s)))}
    assert admitted == FINAL_STATES
