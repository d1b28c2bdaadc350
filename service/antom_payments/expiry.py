"""When a payment has lapsed unpaid. Pure, and the only place that concludes EXPIRED.

Our clock never concludes alone (design 7): the time must have passed by ours *and* by Antom's, and
Antom, asked after it, must say that nothing came of the payment. What it says then is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from antom_payments.decision import may_have_lapsed
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.payment import Payment, PaymentState, Source

CLOSING_TIME = timedelta(minutes=14)
"""How long after the session's expiry Antom closes an unpaid order, by default (antom-api 6.5)."""

_MARGIN = timedelta(minutes=2)
"""By our clock, which may be ahead a little, and for Antom to make up its mind."""

_LAPSED_CODES = frozenset({"ORDER_IS_CLOSED", "PROCESS_FAIL"})
"""How a closed, unpaid order fails, by Antom's table and its sample (antom-api 5.3)."""


def expiry_due(payment: Payment, closing: timedelta = CLOSING_TIME) -> datetime:
    """From when on, by our clock, an inquiry may conclude that ``payment`` has lapsed."""
    return payment.session_end + closing + _MARGIN


def expired(
    payment: Payment,
    *,
    exists: bool,
    facts: Sequence[Fact],
    now: datetime,
    answer_time: datetime | None,
    closing: timedelta = CLOSING_TIME,
) -> Fact | None:
    """The fact that ``payment`` has lapsed, to be applied in place of ``facts``; else None.

    A failure counts as lapsed while no news of the buyer was told; a decline, a cancellation, and
    the failure of a payment under way are what Antom calls them.

    Args:
        payment: as it was stored when Antom was asked; the store looks again under its lock.
        exists: whether Antom knows the payment; False for ORDER_NOT_EXIST.
        facts: what the signed answer told.
        now: when the inquiry was *sent*, aware UTC: the answer may be as old.
        answer_time: when Antom answered, by its own clock and signed; None when it did not say. A
            clock of ours that is ahead must not end what a buyer can still pay.
        closing: how long after the session's expiry Antom closes unpaid orders.
    """
    if now < expiry_due(payment, closing):
        return None
    if answer_time is None or answer_time < payment.session_end + closing:
        return None
    lapsed = _failure(payment, facts) if exists else _not_placed(payment)
    if lapsed is None or not may_have_lapsed(payment, lapsed.payment_id, answer_time):
        return None
    return replace(lapsed, antom_time=answer_time)


def _not_placed(payment: Payment) -> Fact:
    """Antom knows no such order, though it would have closed one by now."""
    return Fact(
        merchant_account=payment.merchant_account,
        kind=FactKind.PAYMENT,
        outcome=Outcome.EXPIRED,
        payment_id="",
        fact_id=payment.payment_request_id,
        source=Source.INQUIRY,
        amount=None,
        payment_request_id=payment.payment_request_id,
        result_code="ORDER_NOT_EXIST",
    )


def _failure(payment: Payment, facts: Sequence[Fact]) -> Fact | None:
    """Antom closed the order, and nobody ever paid it."""
    if len(facts) != 1 or payment.state is PaymentState.PROCESSING:
        return None
    [told] = facts
    is_closed = told.outcome is Outcome.FAILED and told.result_code in _LAPSED_CODES
    return replace(told, outcome=Outcome.EXPIRED) if is_closed else None
