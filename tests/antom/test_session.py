"""Session requests as Antom's JSON, and what is refused before it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom.golden import MODELLED, SEED, compact, sample
from antom_payments.antom.messages import (
    NotUnderstood,
    SessionPolicy,
    parse_session,
    read_message,
    session_body,
    with_expiry_of,
)
from antom_payments.antom.messages.checks import MAX_VIOLATIONS, holds_card_number, is_card_number
from antom_payments.errors import InvalidRequest
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

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SGD_42 = Money("SGD", 4200)
VISA, HYUNDAI = "4054695723100768", "9490220011669217"

CARD_REQUEST = SessionRequest(
    payment_request_id="paymentRequestId01",
    payment_amount=SGD_42,
    order=Order(
        reference_order_id="referenceOrderId01",
        order_description="antom sdk test order",
        order_amount=SGD_42,
        buyer=Buyer(reference_buyer_id="yourBuyerId"),
    ),
    payment_method=PaymentMethod(payment_method_type="CARD"),
    payment_redirect_url="https://www.yourMerchantWeb.com",
    payment_notify_url="https://www.yourNotifyUrl",
    is_authorization=True,
)
GOODS = Goods(reference_goods_id="g-1", goods_name="Ticket")


def _sent(request: SessionRequest, **policy: Any) -> Any:
    return json.loads(session_body(request, policy=SessionPolicy(**policy), now=NOW))


def _violations(request: SessionRequest, **policy: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        session_body(request, policy=SessionPolicy(**policy), now=NOW)
    return {violation.field: violation.description for violation in refused.value.violations}


def _ordered(**order: Any) -> SessionRequest:
    return replace(CARD_REQUEST, order=replace(CARD_REQUEST.order, **order))


def _with_goods(**goods: Any) -> SessionRequest:
    return _ordered(goods=(replace(GOODS, **goods),))


def _with_method(**method: Any) -> SessionRequest:
    return replace(CARD_REQUEST, payment_method=replace(CARD_REQUEST.payment_method, **method))


def test_the_seeds_request_comes_out_as_its_sample() -> None:
    """It has no phone and no e-mail address: recommended for CARD, not required."""
    assert _sent(CARD_REQUEST) == sample(SEED / "01_createPaymentSession_request.json")


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
    assert _sent(request, notify_url="https://pay.example/antom/notify") == expected


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
    request = _with_goods(goods_name="Café")
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
    assert _sent(request) == {
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
    wallet = replace(_with_method(payment_method_type="GCASH"), is_authorization=False)
    assert _sent(wallet)["paymentFactor"] == {"isAuthorization": False}
    assert "paymentFactor" not in _sent(replace(wallet, is_authorization=None))
    assert "paymentNotifyUrl" not in _sent(replace(wallet, payment_notify_url=""))


def test_a_repetition_is_as_first_asked_but_for_when_the_session_ends() -> None:
    def asked(description: str, minutes: int | None) -> bytes:
        request = replace(
            _ordered(order_description=description),
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


LONG = "x" * 3000


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        (replace(CARD_REQUEST, payment_request_id=""), "payment_request_id", "is required"),
        (replace(CARD_REQUEST, payment_request_id="x" * 65), "payment_request_id", "at most 64"),
        (replace(CARD_REQUEST, payment_request_id="a b"), "payment_request_id", "visible ASCII"),
        (replace(CARD_REQUEST, payment_request_id="é"), "payment_request_id", "visible ASCII"),
        (replace(CARD_REQUEST, payment_request_id="a\u200bb"), "payment_request_id", "visible"),
        (replace(CARD_REQUEST, payment_request_id="a\nb"), "payment_request_id", "visible ASCII"),
        (
            replace(CARD_REQUEST, payment_amount=Money("SGD", 0)),
            "payment_amount.minor_units",
            "must be greater than zero",
        ),
        (
            replace(CARD_REQUEST, payment_amount=Money("SGD", -1)),
            "payment_amount.minor_units",
            "must be greater than zero",
        ),
        (
            replace(CARD_REQUEST, payment_amount=Money("sgd", 1)),
            "payment_amount.currency_code",
            "three capital letters",
        ),
        (
            replace(CARD_REQUEST, payment_amount=Money("SGD", 10**15)),
            "payment_amount.minor_units",
            "at most",
        ),
        (
            replace(CARD_REQUEST, payment_amount=Money("IDR", 150)),
            "payment_amount.minor_units",
            "multiple of 100 in IDR",
        ),
        (
            replace(_with_method(payment_method_type="JKOPAY"), payment_amount=Money("TWD", 150)),
            "payment_amount.minor_units",
            "multiple of 100 in TWD with JKOPAY",
        ),
        (
            replace(_with_method(payment_method_type="OCTOPUS"), payment_amount=Money("HKD", 15)),
            "payment_amount.minor_units",
            "multiple of 10 in HKD",
        ),
        (_ordered(reference_order_id=""), "order.reference_order_id", "is required"),
        (_ordered(reference_order_id="o 1"), "order.reference_order_id", "visible ASCII"),
        (_ordered(order_description=""), "order.order_description", "is required"),
        (_ordered(order_description="x" * 257), "order.order_description", "at most 256"),
        (_ordered(order_description="a\x00b"), "order.order_description", "control characters"),
        (_ordered(order_amount=None), "order.order_amount", "is required"),
        (_ordered(order_amount=Money("SGD", 0)), "order.order_amount.minor_units", "greater than"),
        (_ordered(order_amount=Money("", 1)), "order.order_amount.currency_code", "three capital"),
        (_ordered(buyer=None), "order.buyer.reference_buyer_id", "required for CARD"),
        (_ordered(buyer=Buyer()), "order.buyer.reference_buyer_id", "required for CARD"),
        (
            _ordered(buyer=Buyer(reference_buyer_id="x" * 65)),
            "order.buyer.reference_buyer_id",
            "at most 64",
        ),
        (_ordered(buyer=Buyer("b", UserName("x" * 33))), "order.buyer.buyer_name.first_name", "32"),
        (
            _ordered(buyer=Buyer("b", UserName(middle_name="x" * 33))),
            "order.buyer.buyer_name.middle_name",
            "at most 32",
        ),
        (
            _ordered(buyer=Buyer("b", UserName(last_name="x" * 33))),
            "order.buyer.buyer_name.last_name",
            "at most 32",
        ),
        (
            _ordered(buyer=Buyer("b", UserName(full_name="x" * 129))),
            "order.buyer.buyer_name.full_name",
            "at most 128",
        ),
        (
            _ordered(buyer=Buyer("b", buyer_phone_no="1" * 25)),
            "order.buyer.buyer_phone_no",
            "at most 24",
        ),
        (_ordered(buyer=Buyer("b", buyer_email="x" * 65)), "order.buyer.buyer_email", "at most 64"),
        (_ordered(goods=(GOODS,) * 101), "order.goods", "at most 100"),
        (_with_goods(reference_goods_id=""), "order.goods[0].reference_goods_id", "is required"),
        (_with_goods(reference_goods_id="x" * 65), "order.goods[0].reference_goods_id", "most 64"),
        (_with_goods(goods_name=""), "order.goods[0].goods_name", "is required"),
        (_with_goods(goods_name="x" * 257), "order.goods[0].goods_name", "at most 256"),
        (_with_goods(goods_category="x" * 65), "order.goods[0].goods_category", "at most 64"),
        (
            _with_goods(goods_unit_amount=Money("SGD", 0)),
            "order.goods[0].goods_unit_amount.minor_units",
            "greater than zero",
        ),
        (_with_goods(goods_quantity=-1), "order.goods[0].goods_quantity", "at least 1"),
        (_with_goods(goods_url="shop"), "order.goods[0].goods_url", "absolute http"),
        (
            _with_goods(delivery_method_type="x" * 33),
            "order.goods[0].delivery_method_type",
            "at most 32",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address())),
            "order.shipping.shipping_address.region",
            "is required",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address(region="sg"))),
            "order.shipping.shipping_address.region",
            "ISO 3166-1",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address("SG", state="x" * 9))),
            "order.shipping.shipping_address.state",
            "at most 8",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address("SG", city="x" * 33))),
            "order.shipping.shipping_address.city",
            "at most 32",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address("SG", address1="x" * 257))),
            "order.shipping.shipping_address.address1",
            "at most 256",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address("SG", address2="x" * 257))),
            "order.shipping.shipping_address.address2",
            "at most 256",
        ),
        (
            _ordered(shipping=Shipping(shipping_address=Address("SG", zip_code="1" * 33))),
            "order.shipping.shipping_address.zip_code",
            "at most 32",
        ),
        (
            _ordered(shipping=Shipping(shipping_name=UserName("x" * 33))),
            "order.shipping.shipping_name.first_name",
            "at most 32",
        ),
        (
            _ordered(shipping=Shipping(shipping_carrier="x" * 129)),
            "order.shipping.shipping_carrier",
            "at most 128",
        ),
        (
            _ordered(shipping=Shipping(shipping_phone_no="1" * 17)),
            "order.shipping.shipping_phone_no",
            "at most 16",
        ),
        (
            _ordered(shipping=Shipping(ship_to_email="x" * 65)),
            "order.shipping.ship_to_email",
            "at most 64",
        ),
        (_with_method(payment_method_type=""), "payment_method.payment_method_type", "is required"),
        (_with_method(payment_method_type="X" * 65), "payment_method.payment_method_type", "64"),
        (_with_method(payment_method_id="x" * 2049), "payment_method.payment_method_id", "2048"),
        (
            _with_method(card=CardMetadata(payment_method_region="GLOBALS")),
            "payment_method.card.payment_method_region",
            "at most 6",
        ),
        (
            _with_method(card=CardMetadata(selected_card_brand="x" * 65)),
            "payment_method.card.selected_card_brand",
            "at most 64",
        ),
        (
            replace(CARD_REQUEST, is_authorization=None),
            "payment_factor.is_authorization",
            "true for CARD",
        ),
        (
            replace(CARD_REQUEST, is_authorization=False),
            "payment_factor.is_authorization",
            "true for CARD",
        ),
        (
            replace(CARD_REQUEST, capture_mode="LATER"),
            "payment_factor.capture_mode",
            "AUTOMATIC or MANUAL",
        ),
        (replace(CARD_REQUEST, payment_redirect_url=""), "payment_redirect_url", "is required"),
        (replace(CARD_REQUEST, payment_redirect_url="/x"), "payment_redirect_url", "absolute"),
        (
            replace(CARD_REQUEST, payment_redirect_url="https://"),
            "payment_redirect_url",
            "absolute",
        ),
        (
            replace(CARD_REQUEST, payment_redirect_url="ftp://shop.example"),
            "payment_redirect_url",
            "absolute http",
        ),
        (
            replace(CARD_REQUEST, payment_redirect_url="https://shop.example/a b"),
            "payment_redirect_url",
            "absolute http",
        ),
        (
            replace(CARD_REQUEST, payment_redirect_url="https://shop.example:99999"),
            "payment_redirect_url",
            "absolute http",
        ),
        (
            replace(CARD_REQUEST, payment_redirect_url="javascript:alert(1)"),
            "payment_redirect_url",
            "absolute http",
        ),
        (
            replace(CARD_REQUEST, payment_redirect_url=f"https://{LONG}"),
            "payment_redirect_url",
            "at most 2048",
        ),
        (replace(CARD_REQUEST, payment_notify_url="x"), "payment_notify_url", "absolute http"),
        (
            replace(CARD_REQUEST, settlement_currency="usd"),
            "settlement_strategy.settlement_currency",
            "three capital letters",
        ),
        (
            replace(CARD_REQUEST, payment_session_expiry_time=NOW),
            "payment_session_expiry_time",
            "within the next hour",
        ),
        (
            replace(CARD_REQUEST, payment_session_expiry_time=NOW + timedelta(seconds=3601)),
            "payment_session_expiry_time",
            "within the next hour",
        ),
        (replace(CARD_REQUEST, env=Env(terminal_type="TV")), "env.terminal_type", "WEB or WAP"),
        (replace(CARD_REQUEST, env=Env(os_type="OS/2")), "env.os_type", "IOS or ANDROID"),
        (replace(CARD_REQUEST, env=Env("WEB", "IOS")), "env.os_type", "not be set for WEB"),
        (replace(CARD_REQUEST, env=Env(client_ip="1" * 65)), "env.client_ip", "at most 64"),
        (replace(CARD_REQUEST, env=Env(user_agent="x" * 1025)), "env.user_agent", "at most 1024"),
        (
            replace(CARD_REQUEST, env=Env(device_token_id="x" * 65)),
            "env.device_token_id",
            "at most 64",
        ),
        (replace(CARD_REQUEST, merchant_region="sg"), "merchant_region", "ISO 3166-1"),
        (replace(CARD_REQUEST, user_region="SGP"), "user_region", "ISO 3166-1"),
        (replace(CARD_REQUEST, locale="en_US_xxx"), "locale", "at most 8"),
        (
            replace(CARD_REQUEST, metadata={str(i): "x" for i in range(21)}),
            "metadata",
            "at most 20 entries",
        ),
        (replace(CARD_REQUEST, metadata={"": "x"}), "metadata", "1 to 64 characters"),
        (replace(CARD_REQUEST, metadata={"k" * 65: "x"}), "metadata", "1 to 64 characters"),
        (replace(CARD_REQUEST, metadata={VISA: "x"}), "metadata", "never a card number"),
        (replace(CARD_REQUEST, metadata={"k": "x" * 513}), "metadata[k]", "at most 512"),
        (replace(CARD_REQUEST, metadata={"k": "a\x00"}), "metadata[k]", "control characters"),
        (replace(CARD_REQUEST, metadata={"k": f"pan {VISA}"}), "metadata[k]", "card number"),
    ],
)
def test_what_antom_would_refuse_is_refused_by_our_field_path(
    request_: SessionRequest, field: str, said: str
) -> None:
    violations = _violations(request_)
    assert list(violations) == [field]
    assert said in violations[field]


def test_the_bounds_themselves_are_taken() -> None:
    request = replace(
        _ordered(
            reference_order_id="o" * 64,
            order_description="d" * 256,
            goods=(replace(GOODS, goods_name="n" * 256),) * 100,
        ),
        payment_request_id="!" + "~" * 63,
        payment_amount=Money("IDR", 100),
        payment_session_expiry_time=NOW + timedelta(hours=1),
        payment_redirect_url="https://shop.example/" + "x" * (2048 - 21),
        metadata={str(index).zfill(64): "v" * 512 for index in range(20)},
    )
    assert len(_sent(request)["order"]["goods"]) == 100
    soon = replace(CARD_REQUEST, payment_session_expiry_time=NOW + timedelta(seconds=1))
    assert _sent(soon)["paymentSessionExpiryTime"] == "2026-03-02T09:30:01Z"


def test_a_wallet_needs_no_buyer_and_no_authorisation() -> None:
    wallet = replace(
        _ordered(buyer=None),
        payment_method=PaymentMethod(payment_method_type="ALIPAY_CN"),
        is_authorization=None,
    )
    assert _sent(wallet)["paymentMethod"] == {"paymentMethodType": "ALIPAY_CN"}


def test_a_policy_may_allow_cards_without_authorisation() -> None:
    request = replace(CARD_REQUEST, is_authorization=False)
    sent = _sent(request, require_authorization_for_card=False)
    assert sent["paymentFactor"] == {"isAuthorization": False}


CHINESE = "订单"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_ordered(order_description=f"Tee {CHINESE}"), "order.order_description"),
        (_with_goods(reference_goods_id=CHINESE), "order.goods[0].reference_goods_id"),
        (_with_goods(goods_name=CHINESE), "order.goods[0].goods_name"),
        (_with_goods(goods_category="茶"), "order.goods[0].goods_category"),
        (_with_goods(goods_name="\U00020bb7"), "order.goods[0].goods_name"),
    ],
)
def test_chinese_characters_are_refused_unless_switched_off(
    request_: SessionRequest, field: str
) -> None:
    violations = _violations(request_)
    assert list(violations) == [field]
    assert "Chinese characters" in violations[field]
    assert CHINESE not in violations[field]
    assert _sent(request_, refuse_chinese=False)


def test_chinese_characters_in_ids_are_refused_in_any_case() -> None:
    for policy in ({}, {"refuse_chinese": False}):
        assert "payment_request_id" in _violations(
            replace(CARD_REQUEST, payment_request_id=CHINESE), **policy
        )
        assert "order.reference_order_id" in _violations(
            _ordered(reference_order_id=CHINESE), **policy
        )


@pytest.mark.parametrize(
    "name", ["Café", "Ünïcödé", "Чай", "ชา", "ティー", "차", "🍵", "Thé \u2013 “x”"]
)
def test_other_scripts_are_fine(name: str) -> None:
    assert _sent(_with_goods(goods_name=name))["order"]["goods"][0]["goodsName"] == name


def test_a_buyers_chinese_name_is_nobodys_business() -> None:
    assert _sent(_ordered(buyer=Buyer("b", UserName(full_name="王小明"))))


CARD_NUMBERS = [
    *(VISA, HYUNDAI, "5162774114974622", "378282246310005", "6011111111111117"),
    *("4054 6957 2310 0768", "4054-6957-2310-0768", "4222222222222", "6304000000000000000"),
]


@pytest.mark.parametrize("number", CARD_NUMBERS)
def test_a_card_number_is_never_taken(number: str) -> None:
    path = "payment_method.payment_method_id"
    violations = _violations(_with_method(payment_method_id=number))
    assert violations == {path: "must be a token, never a card number"}
    for text in (number, f"paid with {number}", f"{number} 12/27 123", f"PAN:{number}."):
        violations = _violations(_ordered(order_description=text))
        assert violations == {"order.order_description": "must not hold a card number"}
        assert "goods_name" in str(_violations(_with_goods(goods_name=text)))


@pytest.mark.parametrize(
    "text",
    [
        "4054695723100769",  # fails Luhn
        "20260102194010890100188000000000001",  # Antom's own ids are longer
        "1767323046000",  # a clock's
        "2026010212345678",  # a day and a number
        "tel +65 6123 4567",
        "card-token-0001",
    ],
)
def test_other_numbers_are_fine(text: str) -> None:
    assert _sent(_ordered(order_description=text))
    assert _sent(_with_method(payment_method_id=text))


@given(st.text(alphabet="0123456789 -./ab", max_size=40))
def test_looking_for_card_numbers_never_fails(text: str) -> None:
    if is_card_number(text) and text[:1] in {"3", "4", "5", "6", "9"} and "." not in text:
        assert holds_card_number(text.replace(" ", "").replace("-", ""))


def test_all_faults_are_told_at_once_and_none_quotes_what_was_sent() -> None:
    secret = "Secret Name " + VISA
    request = replace(
        _ordered(order_description=secret, goods=(Goods(),) * 3),
        payment_request_id="",
        payment_redirect_url="",
    )
    violations = _violations(request)
    assert {"payment_request_id", "payment_redirect_url", "order.goods[2].goods_name"} <= set(
        violations
    )
    assert not any("Secret" in said or VISA in said for said in violations.values())


def test_the_faults_told_are_bounded() -> None:
    assert len(_violations(_ordered(goods=(Goods(),) * 100))) == MAX_VIOLATIONS


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
