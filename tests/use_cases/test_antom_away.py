"""An Antom that does not answer is left alone; what needs no Antom goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from antom_payments.antom import BreakerOptions
from antom_payments.errors import (
    AntomRefused,
    AntomUnavailable,
    OutcomeUnknown,
    PaymentRequestIdReused,
)
from antom_payments.money import Money
from antom_payments.payment import PaymentState
from antom_payments.store import PaymentStore
from scripted_antom import (
    INQUIRY,
    SESSION,
    ScriptedAntom,
    antom_client,
    cut,
    inquired,
    refused,
    session,
)
from use_cases.till import Till

TOUCHY = BreakerOptions(failures=1)
LONGEST_WAIT = 5.0


class Seconds:
    """The breakers' clock."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def touchy(
    store: PaymentStore, till_on: Callable[..., Till], antom: ScriptedAntom, seconds: Seconds
) -> AsyncIterator[Till]:
    """A service that leaves Antom alone after one silence."""
    async with antom_client(antom.origin, breaker=TOUCHY, monotonic=seconds) as client:
        till = till_on(store, client)
        yield till
        await till.service.drain()


async def away(till: Till) -> None:
    """Antom stops answering, and the service notices by a payment of its own."""
    till.antom.will(SESSION, cut)
    till.antom.will(INQUIRY, cut)
    with pytest.raises(OutcomeUnknown):
        await till.create(payment_request_id="unlucky")
    till.antom.asked.clear()


async def test_a_new_payment_is_neither_stored_nor_sent_while_antom_is_left_alone(
    touchy: Till, seconds: Seconds
) -> None:
    await away(touchy)
    with pytest.raises(AntomUnavailable) as refusal:
        await touchy.create()
    assert refusal.value.retry_after_seconds is not None
    assert 0 < refusal.value.retry_after_seconds <= LONGEST_WAIT
    assert await touchy.stored() is None
    assert touchy.antom.asked == []
    seconds.now += refusal.value.retry_after_seconds
    touchy.antom.will(SESSION, session())
    assert (await touchy.create()).session


async def test_what_is_stored_is_told_while_antom_is_left_alone(touchy: Till) -> None:
    touchy.antom.will(SESSION, session(), refused())
    live = await touchy.create()
    with pytest.raises(AntomRefused):
        await touchy.create(payment_request_id="refused")
    await away(touchy)
    assert await touchy.create() == live
    over = await touchy.create(payment_request_id="refused")
    assert (over.session, over.payment.state) == (None, PaymentState.FAILED)
    assert await touchy.read() == live.payment
    with pytest.raises(PaymentRequestIdReused):
        await touchy.create(payment_amount=Money("SGD", 1))
    assert touchy.antom.asked == []


async def test_a_known_payment_that_needs_antom_fails_fast_and_holds_no_lease(
    touchy: Till, seconds: Seconds
) -> None:
    await away(touchy)
    for _ in range(2):
        with pytest.raises(AntomUnavailable):
            await touchy.create(payment_request_id="unlucky")
    assert touchy.antom.asked == []
    seconds.now += LONGEST_WAIT
    touchy.antom.will(SESSION, session())
    assert (await touchy.create(payment_request_id="unlucky")).session


async def test_a_fresh_read_fails_fast_and_a_stored_one_does_not(
    touchy: Till, seconds: Seconds
) -> None:
    touchy.antom.will(SESSION, session())
    created = await touchy.create()
    touchy.antom.will(INQUIRY, cut)
    with pytest.raises(OutcomeUnknown):
        await touchy.read(fresh=True)
    touchy.antom.asked.clear()
    touchy.service._inquiries.clear()  # of the same second
    with pytest.raises(AntomUnavailable) as refusal:
        await touchy.read(fresh=True)
    assert refusal.value.retry_after_seconds
    assert await touchy.read() == created.payment
    assert touchy.antom.asked == []
    seconds.now += LONGEST_WAIT
    touchy.service._inquiries.clear()
    touchy.antom.will(INQUIRY, inquired("PROCESSING"))
    assert (await touchy.read(fresh=True)).state is PaymentState.PROCESSING
