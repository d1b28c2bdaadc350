"""Reading payments, stored and fresh."""

from __future__ import annotations

import asyncio

import pytest

from antom_payments import service as service_module
from antom_payments.errors import (
    OutcomeUnknown,
    PaymentNotFound,
)
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.service import (
    PaymentKey,
)
from scripted_antom import (
    AUTHORIZED,
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    inquired,
    refused,
    session,
    unknown,
)
from stored import whole_log
from use_cases.till import (
    PATIENCE,
    Till,
)


async def test_a_payment_is_found_by_each_of_its_ids(till: Till) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    payment = await till.read(fresh=True)
    for key in (
        PaymentKey("default", payment_request_id="pay-1"),
        PaymentKey(payment_id="P-pay-1"),
        PaymentKey(reference_order_id="order-1"),
    ):
        assert await till.read(key) == payment


@pytest.mark.parametrize(
    "key",
    [
        PaymentKey(payment_request_id="pay-2"),
        PaymentKey(payment_id="P-pay-2"),
        PaymentKey(reference_order_id="order-2"),
    ],
)
async def test_an_unknown_payment_is_not_found_and_nobody_is_asked(
    sqlite_till: Till, key: PaymentKey
) -> None:
    with pytest.raises(PaymentNotFound):
        await sqlite_till.read(key, fresh=True)
    assert sqlite_till.antom.asked == []


async def test_a_fresh_read_stores_what_antom_says(till: Till) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    payment = await till.read(fresh=True)
    assert payment.state is PaymentState.AUTHORIZED
    assert payment == await till.stored()
    _, told = await whole_log(till.store)
    assert (told.type, told.source) == (EventType.PAYMENT_AUTHORIZED, Source.INQUIRY)


async def test_a_fresh_read_of_what_nobody_submitted_changes_nothing(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, NOT_SUBMITTED)
    created = await sqlite_till.create()
    assert await sqlite_till.read(fresh=True) == created.payment
    assert await sqlite_till.news() == [EventType.SESSION_CREATED]


@pytest.mark.parametrize("code", ["ACCESS_DENIED", "PARAM_ILLEGAL"])
async def test_an_inquiry_that_antom_refuses_says_nothing_about_the_payment(
    sqlite_till: Till, code: str
) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, refused(code))
    created = await sqlite_till.create()
    with pytest.raises(OutcomeUnknown) as doubt:
        await sqlite_till.read(fresh=True)
    assert doubt.value.result_code == code
    assert await sqlite_till.read() == created.payment
    assert await sqlite_till.news() == [EventType.SESSION_CREATED]


async def test_a_fresh_read_that_is_told_another_amount_concludes_nothing_and_alerts(
    till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, inquired(minor_units=1, authExpiryTime="2026-03-09T09:30:00Z"))
    await till.create()
    payment = await till.read(fresh=True)
    assert payment.state is PaymentState.AWAITING_BUYER
    assert await till.news() == [EventType.SESSION_CREATED, EventType.AMOUNT_MISMATCH]
    [alert] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "contradiction" in str(alert.msg)


async def test_callers_of_the_same_second_share_one_inquiry(
    sqlite_till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, AUTHORIZED)
    await sqlite_till.create()
    monkeypatch.setattr(service_module, "_SHARED_INQUIRY_SECONDS", PATIENCE)
    together = await asyncio.gather(*(sqlite_till.read(fresh=True) for _ in range(5)))
    together.append(await sqlite_till.read(fresh=True))
    assert {payment.state for payment in together} == {PaymentState.AUTHORIZED}
    assert sqlite_till.antom.operations == [SESSION, INQUIRY]
    monkeypatch.setattr(service_module, "_SHARED_INQUIRY_SECONDS", 0.0)
    await sqlite_till.read(fresh=True)
    assert sqlite_till.antom.operations == [SESSION, INQUIRY, INQUIRY]


async def test_all_who_share_an_inquiry_share_its_failure(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, unknown())
    await sqlite_till.create()
    failures = await asyncio.gather(
        *(sqlite_till.read(fresh=True) for _ in range(3)), return_exceptions=True
    )
    assert [type(failure) for failure in failures] == [OutcomeUnknown] * 3


async def test_a_reader_who_leaves_does_not_stop_the_inquiry_of_the_others(
    sqlite_till: Till,
) -> None:
    answer = Held(AUTHORIZED)
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, answer)
    await sqlite_till.create()
    leaving, staying = (asyncio.create_task(sqlite_till.read(fresh=True)) for _ in range(2))
    await sqlite_till.antom.was_asked(2)
    leaving.cancel()
    answer.go_on.set()
    assert (await staying).state is PaymentState.AUTHORIZED
