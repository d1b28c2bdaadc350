"""createPaymentSession: what is illegal, what repeating gives, how sessions and orders end."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from emulator.conftest import Started
from emulator.world import (
    LIVE_ID,
    OTHER_ID,
    Json,
    Merchant,
    Receiver,
    sample,
    session_request,
    wallet_request,
)

MISSING = object()
HOUR, CLOSING = 3600, 14 * 60


def changed(path: str, value: Any) -> Json:
    """A good request with one field set, or taken away."""
    request = copy.deepcopy(session_request())
    *parents, name = path.split(".")
    place = request
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is MISSING:
        del place[name]
    else:
        place[name] = value
    return request


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("productCode", MISSING),
        ("productCode", "IN_STORE_PAYMENT"),
        ("paymentRequestId", MISSING),
        ("paymentRequestId", ""),
        ("paymentRequestId", "x" * 65),
        ("paymentRequestId", 1),
        ("order", MISSING),
        ("order.referenceOrderId", MISSING),
        ("order.referenceOrderId", "x" * 65),
        ("order.orderDescription", MISSING),
        ("order.orderDescription", "x" * 257),
        ("order.orderAmount", MISSING),
        ("order.buyer.referenceBuyerId", MISSING),
        ("order.buyer.buyerEmail", "x" * 65),
        ("order.buyer.buyerName", {"fullName": "A B"}),
        ("order.buyer.buyerRegistrationTime", "yesterday"),
        ("order.goods", {"goodsName": "not a list"}),
        ("order.goods", [{"goodsName": "without an id"}]),
        ("order.goods", [{"referenceGoodsId": "1", "goodsName": "x", "goodsQuantity": "0"}]),
        ("order.shipping", {"shippingAddress": {"city": "without a region"}}),
        ("paymentAmount", MISSING),
        ("paymentAmount.currency", "sgd"),
        ("paymentAmount.value", "0"),
        ("paymentAmount.value", "-1"),
        ("paymentAmount.value", "42.00"),
        ("paymentAmount.value", 42.0),
        ("paymentAmount.value", "042"),
        ("paymentAmount.value", "1" * 17),
        ("paymentAmount", {"currency": "IDR", "value": "4250"}),
        ("paymentMethod", MISSING),
        ("paymentMethod.paymentMethodType", MISSING),
        ("paymentMethod.paymentMethodId", "x" * 2049),
        ("paymentFactor.isAuthorization", "yes"),
        ("paymentFactor.captureMode", "LATER"),
        ("paymentRedirectUrl", MISSING),
        ("paymentRedirectUrl", "shop.example/return"),
        ("paymentNotifyUrl", "notify"),
        ("paymentNotifyUrl", "https://pay.example/" + "x" * 2048),
        ("settlementStrategy.settlementCurrency", "dollars"),
        ("productScene", "POPUP"),
        ("locale", "x" * 9),
        ("metadata", {"an": "object"}),
    ],
)
async def test_what_antom_documents_as_illegal_is_refused_and_named(
    merchant: Merchant, path: str, value: Any
) -> None:
    answer = await merchant.create(changed(path, value))

    assert (answer.code, answer.json["result"]["resultStatus"]) == ("PARAM_ILLEGAL", "F")
    assert answer.signed
    assert path.rpartition(".")[2] in answer.message
    assert len(answer.message) <= 256


@pytest.mark.parametrize(
    "changes",
    [
        {"paymentMethod": {"paymentMethodType": "JKOPAY"}, "currency": "TWD", "value": "150"},
        {"paymentMethod": {"paymentMethodType": "OCTOPUS"}, "currency": "HKD", "value": "15"},
    ],
)
async def test_amounts_follow_the_method_s_steps(merchant: Merchant, changes: Json) -> None:
    amount = {"currency": changes["currency"], "value": changes["value"]}
    request = wallet_request(paymentMethod=changes["paymentMethod"], paymentAmount=amount)

    answer = await merchant.create(request)

    assert answer.code == "PARAM_ILLEGAL"
    assert "multiple" in answer.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paymentFactor.isAuthorization", "true"),
        ("paymentFactor.captureMode", ""),
        ("paymentAmount.value", 4200),
        ("order.goods", [{"referenceGoodsId": "1", "goodsName": "Café", "goodsQuantity": "2"}]),
        ("order.buyer.buyerName", {"firstName": "A", "lastName": "B"}),
        ("settlementStrategy", MISSING),
        ("aFieldOfNextMonth", {"a": [1]}),
        ("paymentNotifyUrl", None),
    ],
)
async def test_what_antom_takes_is_taken(merchant: Merchant, path: str, value: Any) -> None:
    request = changed(path, value) if path != "settlementStrategy" else session_request()

    assert (await merchant.create(request)).code == "SUCCESS"


async def test_values_are_not_quoted_in_what_is_refused(merchant: Merchant) -> None:
    answer = await merchant.create(changed("order.buyer.buyerEmail", "ann@example.com" * 9))

    assert "buyerEmail" in answer.message
    assert "ann@" not in answer.message


async def test_a_session_lives_an_hour_unless_less_is_asked(merchant: Merchant) -> None:
    usual = await merchant.create(session_request("usual"))
    asked = await merchant.create(
        session_request("asked", paymentSessionExpiryTime="2026-03-02T17:45:00+08:00")
    )

    assert usual.json["paymentSessionExpiryTime"] == "2026-03-02T10:30:00Z"
    assert asked.json["paymentSessionExpiryTime"] == "2026-03-02T09:45:00Z"


@pytest.mark.parametrize(
    "time",
    ["2026-03-02T09:30:00Z", "2026-03-02T10:30:01Z", "2026-03-01T09:45:00Z", "2026-03-02T09:45"],
)
async def test_an_expiry_that_is_past_or_beyond_an_hour_is_illegal(
    merchant: Merchant, time: str
) -> None:
    answer = await merchant.create(session_request(paymentSessionExpiryTime=time))

    assert answer.code == "PARAM_ILLEGAL"
    assert "paymentSessionExpiryTime" in answer.message


async def test_repeating_an_unpaid_session_gives_new_session_data_of_the_same_payment(
    merchant: Merchant,
) -> None:
    first = await merchant.create(session_request())
    again = await merchant.create(session_request())

    assert again.code == "SUCCESS"
    assert again.json["paymentSessionData"] != first.json["paymentSessionData"]
    (payment,) = (await merchant.http.get("/emulator/payments")).json()["payments"]
    assert payment["paymentSessionIds"] == [
        first.json["paymentSessionId"],
        again.json["paymentSessionId"],
    ]


async def test_either_session_of_a_payment_can_be_submitted_but_only_one_pays(
    merchant: Merchant,
) -> None:
    first = (await merchant.create(session_request())).json["paymentSessionId"]
    again = (await merchant.create(session_request())).json["paymentSessionId"]

    assert (await merchant.buyer(first, action="approve")).status_code == 200
    refused = await merchant.buyer(again, action="approve")

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "PAYMENT_FINISHED"


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"paymentAmount": {"currency": "SGD", "value": "4201"}}, "paymentAmount"),
        ({"paymentAmount": {"currency": "USD", "value": "4200"}}, "paymentAmount"),
        ({"paymentMethod": {"paymentMethodType": "GCASH"}}, "paymentMethodType"),
        (
            {"paymentMethod": {"paymentMethodType": "CARD", "paymentMethodId": "token"}},
            "paymentMethodId",
        ),
    ],
)
async def test_repeating_with_other_key_fields_is_inconsistent(
    merchant: Merchant, changes: Json, differing: str
) -> None:
    await merchant.create(session_request())

    answer = await merchant.create(session_request(**changes))

    assert (answer.code, answer.json["result"]["resultStatus"]) == ("REPEAT_REQ_INCONSISTENT", "F")
    assert differing in answer.message
    (payment,) = (await merchant.http.get("/emulator/payments")).json()["payments"]
    assert payment["paymentAmount"] == {"currency": "SGD", "value": "4200"}


@pytest.mark.parametrize("action", ["approve", "decline"])
async def test_the_id_of_a_payment_that_ended_is_used_up(merchant: Merchant, action: str) -> None:
    await merchant.create(session_request())
    await merchant.buyer(action=action)

    answer = await merchant.create(session_request())

    assert (answer.code, answer.json["result"]["resultStatus"]) == ("ORDER_IS_CLOSED", "F")


async def test_the_same_id_of_another_client_is_another_payment(merchant: Merchant) -> None:
    other = merchant.signed_as(OTHER_ID)
    await merchant.create(session_request())
    session = await other.create(session_request(paymentAmount={"currency": "USD", "value": "100"}))

    ambiguous = await merchant.buyer(action="approve")
    await merchant.buyer(session.json["paymentSessionId"], action="approve")

    assert ambiguous.json()["error"]["code"] == "PAYMENT_AMBIGUOUS"
    assert (await other.inquire())["paymentAmount"] == {"currency": "USD", "value": "100"}
    assert (await merchant.inquire())["result"]["resultCode"] == "ORDER_NOT_EXIST"


async def test_a_payment_id_of_another_client_does_not_exist(merchant: Merchant) -> None:
    await merchant.create(session_request())
    payment_id = (await merchant.buyer(action="approve")).json()["paymentId"]
    body = {"paymentId": payment_id}

    own = await merchant.call("/ams/sandbox/api/v1/payments/inquiryPayment", body)
    foreign = await merchant.signed_as(LIVE_ID).call("/ams/api/v1/payments/inquiryPayment", body)

    assert own.code == "SUCCESS"
    assert foreign.code == "ORDER_NOT_EXIST"


async def test_an_expired_session_cannot_be_submitted_until_it_is_renewed(
    merchant: Merchant,
) -> None:
    await merchant.create(session_request())
    await merchant.advance(HOUR)

    late = await merchant.buyer(action="approve")
    renewed = await merchant.create(session_request())
    on_time = await merchant.buyer(action="approve")

    assert late.json()["error"]["code"] == "SESSION_EXPIRED"
    assert renewed.json["paymentSessionExpiryTime"] == "2026-03-02T11:30:00Z"
    assert on_time.json()["paymentStatus"] == "SUCCESS"


async def test_a_session_nobody_submits_is_closed_fourteen_minutes_after_its_expiry(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(session_request())
    await merchant.advance(HOUR + CLOSING - 1)
    before = await merchant.inquire()

    await merchant.advance(1)
    after = await merchant.inquire()

    assert before["result"]["resultCode"] == "ORDER_NOT_EXIST"
    assert (after["paymentStatus"], after["paymentResultCode"]) == ("FAIL", "ORDER_IS_CLOSED")
    (notified,) = receiver.got
    expected = sample("notifyPayment_failed_order_closed")
    assert notified.json["result"] == expected["result"]
    assert notified.json.keys() == expected.keys()
    assert (await merchant.create(session_request())).code == "ORDER_IS_CLOSED"


async def test_renewing_a_session_moves_the_closing(merchant: Merchant) -> None:
    await merchant.create(session_request())
    await merchant.advance(HOUR)
    await merchant.create(session_request())

    await merchant.advance(HOUR)
    open_still = await merchant.inquire()
    await merchant.advance(CLOSING)
    closed = await merchant.inquire()

    assert open_still["result"]["resultCode"] == "ORDER_NOT_EXIST"
    assert closed["paymentStatus"] == "FAIL"


async def test_a_paid_order_is_not_closed(merchant: Merchant, receiver: Receiver) -> None:
    await merchant.create(wallet_request())
    await merchant.buyer(action="approve")

    await merchant.advance(2 * HOUR)

    assert (await merchant.inquire())["paymentStatus"] == "SUCCESS"
    assert receiver.types == ["PAYMENT_RESULT"]


async def test_the_closing_time_is_an_option(started: Started) -> None:
    async with started(closing_seconds=5.0) as merchant:
        await merchant.create(session_request())
        await merchant.advance(HOUR + 5)

        assert (await merchant.inquire())["paymentStatus"] == "FAIL"
