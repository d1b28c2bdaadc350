"""Merchants, what a caller may see of them, and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from antom_payments.antom import AntomClient
from antom_payments.caller import EVERYONE, Caller
from antom_payments.errors import (
    LimitReached,
    MerchantNotFound,
)
from antom_payments.payment import PaymentState
from antom_payments.service import (
    Merchant,
    PaymentService,
)
from scripted_antom import (
    SESSION,
    Held,
    ScriptedAntom,
    session,
)
from use_cases.till import (
    PATIENCE,
    POLICY,
    REQUEST,
    THE_PAYMENT,
    Till,
)


@pytest.fixture
def two_merchants(
    sqlite_till: Till, listening: tuple[ScriptedAntom, AntomClient]
) -> PaymentService:
    merchants = {name: Merchant(name, listening[1], POLICY) for name in ("books", "music")}
    return PaymentService(sqlite_till.store, merchants, now=sqlite_till.clock.now)


async def test_each_merchant_has_payments_of_its_own(
    sqlite_till: Till, two_merchants: PaymentService
) -> None:
    sqlite_till.antom.will(SESSION, session("of books"), session("of music"))
    for name in ("books", "music"):
        answer = await two_merchants.create_session(
            EVERYONE, replace(REQUEST, merchant_account=name), budget_seconds=PATIENCE
        )
        assert answer.session
        assert answer.session.payment_session_id == f"of {name}"
        assert answer.payment.merchant_account == name
    assert await sqlite_till.stored() is None


async def test_a_caller_touches_its_own_merchants_only(
    sqlite_till: Till, two_merchants: PaymentService
) -> None:
    sqlite_till.antom.will(SESSION, session())
    clerk = Caller("clerk", frozenset({"books"}))
    answer = await two_merchants.create_session(clerk, REQUEST, budget_seconds=PATIENCE)
    assert answer.payment.merchant_account == "books"
    read = await two_merchants.get_payment(clerk, THE_PAYMENT, fresh=False, budget_seconds=1)
    assert read == answer.payment
    for stranger in ("music", "nobody"):
        key = replace(THE_PAYMENT, merchant_account=stranger)
        with pytest.raises(MerchantNotFound, match=stranger):
            await two_merchants.get_payment(clerk, key, fresh=False, budget_seconds=1)
        with pytest.raises(MerchantNotFound, match=stranger):
            two_merchants.scope(clerk, [stranger])


async def test_with_several_merchants_one_must_be_named(two_merchants: PaymentService) -> None:
    with pytest.raises(MerchantNotFound, match="name one"):
        await two_merchants.create_session(EVERYONE, REQUEST, budget_seconds=1)


async def test_a_stream_is_scoped_to_what_its_caller_may_see(
    sqlite_till: Till, two_merchants: PaymentService
) -> None:
    clerk = Caller("clerk", frozenset({"books"}))
    assert two_merchants.scope(EVERYONE, []) is None
    assert two_merchants.scope(EVERYONE, ["books"]) == {"books"}
    assert two_merchants.scope(clerk, []) == {"books"}
    assert two_merchants.scope(Caller("new", frozenset()), []) == frozenset()
    assert sqlite_till.service.scope(EVERYONE, [""]) == {"default"}


async def test_calls_beyond_the_limit_are_turned_away_before_anything_is_stored(
    sqlite_till: Till, till_on: Callable[..., Till]
) -> None:
    sqlite_till.antom.will(SESSION, session())
    await sqlite_till.create()
    small = till_on(sqlite_till.store, antom_in_flight=1)
    answer = Held(session("session-2"))
    sqlite_till.antom.will(SESSION, answer)
    both = [asyncio.create_task(small.create(payment_request_id=f"pay-{n}")) for n in (2, 3)]
    await sqlite_till.antom.was_asked(2)
    assert isinstance(both[1].exception(), LimitReached)
    assert await sqlite_till.store.payment("default", payment_request_id="pay-3") is None
    with pytest.raises(LimitReached) as refusal:
        await small.read(fresh=True)
    assert refusal.value.metadata == {"limit": "antom_in_flight"}
    assert (await small.read()).state is PaymentState.AWAITING_BUYER
    answer.go_on.set()
    assert (await both[0]).session
    await small.service.drain()
