"""Session requests as Antom's JSON, and what is refused before it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from antom.golden import MODELLED, SEED, compact, sample
from antom.session_requests import (
    CARD_REQUEST,
    NOW,
    SGD_42,
    body_of,
    ordered,
    with_goods,
    with_method,
)
from antom_payments.antom.messages import (
    NotUnderstood,
    SessionPolicy,
    parse_session,
    read_message,
    session_body,
    with_expiry_of,
)
from antom_payments.money import Money
from antom_payments.session import (
    Address,
    Buyer,
    CardMetadata,
    Env,
    Goods,
    Order,
    PaymentMethod,
    Session,
    SessionRequest,
    Shipping,
    UserName,
)


def test_the_seeds_request_comes_out_as_its_sample() -> None:
    """It has no phone and no e-mail address: recommended for CARD, not required."""
    assert body_of(CARD_REQUEST) == sample(SEED / "01_createPaymentSession_request.json")


def _modelled(name: str, **more: Any) -> None:
    expected = sample(MODELLED / f"createPaymentSession_request_{name}.json")
    amount = Money(expected["paymentAmount"]["currency"], int(expected["paymentAmount"]["value"]))
    request = SessionRequest(
        payment_request_id="order-1001-pay-1",
        payment_amount=amount,
        order=Order(
            reference_order_id="order-1001",
            order_description="Two tickets",
            order_amount=amount,
            buyer=Buyer(reference_buyer_id="buyer-7", buyer_email="buyer@example.com"),
        ),
        payment_redirect_url="https://shop.example/return",
        settlement_currency="SGD",
        is_authorization=True,
        **({"payment_method": PaymentMethod(payment_method_type="CARD")} | more),
    )
    # The configured notify URL stands in where the request names none.
    assert body_of(request, notify_url="https://pay.example/antom/notify") == expected


def test_the_modelled_requests_come_out_as_their_samples() -> None:
    _modelled("card_manual_capture", capture_mode="MANUAL")
    _modelled(
        "card_token",
        payment_method=PaymentMethod(
            payment_method_type="CARD", payment_method_id="card-token-0001"
        ),
    )
    _modelled("jpy_zero_decimal")


def test_the_bytes_are_compact_utf8_and_the_same_each_time() -> None:
    request = with_goods(goods_name="Café")
    body = session_body(request, policy=SessionPolicy(), now=NOW)
    assert body == compact(json.loads(body))
    assert "Café".encode() in body
    assert body == session_body(request, policy=SessionPolicy(), now=NOW)


def test_every_field_reaches_antom_under_its_name() -> None:
    request = SessionRequest(
        payment_request_id="p-1",
        payment_amount=SGD_42,
        order=Order(
            reference_order_id="o-1",
            order_description="Two tickets",
            order_amount=Money("SGD", 4000),
            buyer=Buyer(
                reference_buyer_id="b-1",
                buyer_name=UserName("Ada", "K", "Lovelace", "Ada K Lovelace"),
                buyer_phone_no="+6561234567",
                buyer_email="ada@example.com",
                buyer_registration_time=datetime(
                    2020, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))
                ),
            ),
            goods=(
                Goods(
                    reference_goods_id="g-1",
                    goods_name="Ticket",
                    goods_category="travel/rail",
                    goods_unit_amount=Money("SGD", 2100),
                    goods_quantity=2,
                    goods_url="https://shop.example/g-1",
                    delivery_method_type="DIGITAL",
                ),
            ),
            shipping=Shipping(
                shipping_name=UserName(full_name="Ada K Lovelace"),
                shipping_address=Address("SG", "SG", "Singapore", "1 Road", "Unit 2", "049318"),
                shipping_carrier="Post",
                shipping_phone_no="+6561234567",
                ship_to_email="ada@example.com",
            ),
        ),
        payment_method=PaymentMethod(
            payment_method_type="CARD",
            payment_method_id="card-token-0001",
            card=CardMetadata(
                is_3ds_authentication=False,
                enable_authentication_upgrade=True,
                payment_method_region="GLOBAL",
                is_card_on_file=True,
                selected_card_brand="VISA",
            ),
        ),
        payment_redirect_url="https://shop.example/return",
        payment_notify_url="https://pay.example/notify",
        is_authorization=True,
        capture_mode="AUTOMATIC",
        settlement_currency="USD",
        payment_session_expiry_time=NOW + timedelta(minutes=30),
        env=Env("MINI_APP", "IOS", "203.0.113.7", "Mozilla/5.0", "device-1"),
        merchant_region="SG",
        user_region="MY",
        locale="en_US",
        metadata={"never": "sent"},
    )
    name = {"firstName": "Ada", "middleName": "K", "lastName": "Lovelace"}
    assert body_of(request) == {
        "productCode": "CASHIER_PAYMENT",
        "paymentRequestId": "p-1",
        "order": {
            "referenceOrderId": "o-1",
            "orderDescription": "Two tickets",
            "orderAmount": {"currency": "SGD", "value": "4000"},
            "buyer": {
                "referenceBuyerId": "b-1",
                "buyerName": name | {"fullName": "Ada K Lovelace"},
                "buyerPhoneNo": "+6561234567",
                "buyerEmail": "ada@example.com",
                "buyerRegistrationTime": "2020-01-01T00:00:00Z",
            },
            "goods": [
                {
                    "referenceGoodsId": "g-1",
                    "goodsName": "Ticket",
                    "goodsCategory": "travel/rail",
                    "goodsUnitAmount": {"currency": "SGD", "value": "2100"},
                    "goodsQuantity": "2",
                    "goodsUrl": "https://shop.example/g-1",
                    "deliveryMethodType": "DIGITAL",
                }
            ],
            "shipping": {
                "shippingName": {"fullName": "Ada K Lovelace"},
                "shippingAddress": {
                    "region": "SG",
                    "state": "SG",
                    "city": "Singapore",
                    "address1": "1 Road",
                    "address2": "Unit 2",
                    "zipCode": "049318",
                },
                "shippingCarrier": "Post",
                "shippingPhoneNo": "+6561234567",
                "shipToEmail": "ada@example.com",
            },
        },
        "paymentAmount": {"currency": "SGD", "value": "4200"},
        "paymentMethod": {
            "paymentMethodType": "CARD",
            "paymentMethodId": "card-token-0001",
            "paymentMethodMetaData": {
                "is3DSAuthentication": False,
                "enableAuthenticationUpgrade": True,
                "paymentMethodRegion": "GLOBAL",
                "isCardOnFile": True,
                "selectedCardBrand": "VISA",
            },
        },
        "paymentFactor": {"isAuthorization": True, "captureMode": "AUTOMATIC"},
        "paymentRedirectUrl": "https://shop.example/return",
        "paymentNotifyUrl": "https://pay.example/notify",
        "settlementStrategy": {"settlementCurrency": "USD"},
        "paymentSessionExpiryTime": "2026-03-02T10:00:00Z",
        "env": {
            "terminalType": "MINI_APP",
            "osType": "IOS",
            "clientIp": "203.0.113.7",
            "userAgent": "Mozilla/5.0",
            "deviceTokenId": "device-1",
        },
        "merchantRegion": "SG",
        "userRegion": "MY",
        "locale": "en_US",
    }


def test_false_is_said_and_what_was_not_said_is_not_sent() -> None:
    wallet = replace(with_method(payment_method_type="GCASH"), is_authorization=False)
    assert body_of(wallet)["paymentFactor"] == {"isAuthorization": False}
    assert "paymentFactor" not in body_of(replace(wallet, is_authorization=None))
    assert "paymentNotifyUrl" not in body_of(replace(wallet, payment_notify_url=""))


def test_a_repetition_is_as_first_asked_but_for_when_the_session_ends() -> None:
    def asked(description: str, minutes: int | None) -> bytes:
        request = replace(
            ordered(order_description=description),
            payment_session_expiry_time=NOW + timedelta(minutes=minutes) if minutes else None,
        )
        return session_body(request, policy=SessionPolicy(), now=NOW)

    later = NOW + timedelta(minutes=20)
    first = asked("first", 10)
    assert with_expiry_of(first, asked("second", 30), now=later) == asked("first", 30)
    assert with_expiry_of(first, asked("second", None), now=later) == asked("first", None)
    # While the first expiry holds, or there is none, the repetition is the same to the byte.
    assert with_expiry_of(first, asked("second", 30), now=NOW) is first
    forever = asked("first", None)
    assert with_expiry_of(forever, asked("second", 30), now=later) is forever


def test_the_seeds_answer_is_a_session() -> None:
    message = read_message((SEED / "02_createPaymentSession_response.json").read_bytes())
    assert parse_session(message) == Session(
        payment_session_data=sample(SEED / "02_createPaymentSession_response.json")[
            "paymentSessionData"
        ],
        payment_session_id="UNvjVWnWPXJA4BgW+vfjsQj7PbOraafHY19X+6EqMz6Ikyj9FPVUOpv+DjiIZqMe",
        payment_session_expiry_time=datetime(2023, 4, 6, 3, 28, 49, tzinfo=UTC),
    )


def test_a_hosted_pages_url_is_read_and_a_lost_expiry_is_not_fatal() -> None:
    answer = {
        "paymentSessionData": "data",
        "paymentSessionId": "id",
        "normalUrl": "https://pay.example",
        "paymentSessionExpiryTime": "soon",
    }
    assert parse_session(read_message(compact(answer))) == Session(
        payment_session_data="data", payment_session_id="id", normal_url="https://pay.example"
    )


@pytest.mark.parametrize("field", ["paymentSessionData", "paymentSessionId"])
def test_a_session_without_what_the_front_end_needs_is_not_understood(field: str) -> None:
    answer = {"paymentSessionData": "data", "paymentSessionId": "id"} | {field: None}
    with pytest.raises(NotUnderstood, match=f"missing:{field}"):
        parse_session(read_message(compact(answer)))
