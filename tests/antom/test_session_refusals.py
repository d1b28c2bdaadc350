"""What Antom would certainly refuse is refused before it leaves, by our field paths."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from antom.session_requests import (
    CARD_REQUEST,
    GOODS,
    NOW,
    VISA,
    body_of,
    faults_in,
    ordered,
    with_goods,
    with_method,
)
from antom_payments.antom.messages.checks import MAX_VIOLATIONS
from antom_payments.money import Money
from antom_payments.session import (
    Address,
    Buyer,
    CardMetadata,
    Env,
    Goods,
    PaymentMethod,
    SessionRequest,
    Shipping,
    UserName,
)

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
            replace(with_method(payment_method_type="JKOPAY"), payment_amount=Money("TWD", 150)),
            "payment_amount.minor_units",
            "multiple of 100 in TWD with JKOPAY",
        ),
        (
            replace(with_method(payment_method_type="OCTOPUS"), payment_amount=Money("HKD", 15)),
            "payment_amount.minor_units",
            "multiple of 10 in HKD",
        ),
        (ordered(reference_order_id=""), "order.reference_order_id", "is required"),
        (ordered(reference_order_id="o 1"), "order.reference_order_id", "visible ASCII"),
        (ordered(order_description=""), "order.order_description", "is required"),
        (ordered(order_description="x" * 257), "order.order_description", "at most 256"),
        (ordered(order_description="a\x00b"), "order.order_description", "control characters"),
        (ordered(order_amount=None), "order.order_amount", "is required"),
        (ordered(order_amount=Money("SGD", 0)), "order.order_amount.minor_units", "greater than"),
        (ordered(order_amount=Money("", 1)), "order.order_amount.currency_code", "three capital"),
        (ordered(buyer=None), "order.buyer.reference_buyer_id", "required for CARD"),
        (ordered(buyer=Buyer()), "order.buyer.reference_buyer_id", "required for CARD"),
        (
            ordered(buyer=Buyer(reference_buyer_id="x" * 65)),
            "order.buyer.reference_buyer_id",
            "at most 64",
        ),
        (
            ordered(buyer=Buyer("b", UserName("x" * 33, last_name="L"))),
            "order.buyer.buyer_name.first_name",
            "at most 32",
        ),
        (
            ordered(buyer=Buyer("b", UserName("F", "x" * 33, "L"))),
            "order.buyer.buyer_name.middle_name",
            "at most 32",
        ),
        (
            ordered(buyer=Buyer("b", UserName("F", last_name="x" * 33))),
            "order.buyer.buyer_name.last_name",
            "at most 32",
        ),
        (
            ordered(buyer=Buyer("b", UserName("F", "", "L", "x" * 129))),
            "order.buyer.buyer_name.full_name",
            "at most 128",
        ),
        (
            ordered(buyer=Buyer("b", buyer_phone_no="1" * 25)),
            "order.buyer.buyer_phone_no",
            "at most 24",
        ),
        (ordered(buyer=Buyer("b", buyer_email="x" * 65)), "order.buyer.buyer_email", "at most 64"),
        (ordered(goods=(GOODS,) * 101), "order.goods", "at most 100"),
        (with_goods(reference_goods_id=""), "order.goods[0].reference_goods_id", "is required"),
        (with_goods(reference_goods_id="x" * 65), "order.goods[0].reference_goods_id", "most 64"),
        (with_goods(goods_name=""), "order.goods[0].goods_name", "is required"),
        (with_goods(goods_name="x" * 257), "order.goods[0].goods_name", "at most 256"),
        (with_goods(goods_category="x" * 65), "order.goods[0].goods_category", "at most 64"),
        (
            with_goods(goods_unit_amount=Money("SGD", 0)),
            "order.goods[0].goods_unit_amount.minor_units",
            "greater than zero",
        ),
        (with_goods(goods_quantity=-1), "order.goods[0].goods_quantity", "at least 1"),
        (with_goods(goods_url="shop"), "order.goods[0].goods_url", "absolute http"),
        (
            with_goods(delivery_method_type="x" * 33),
            "order.goods[0].delivery_method_type",
            "must be PHYSICAL or DIGITAL",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address())),
            "order.shipping.shipping_address.region",
            "is required",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address(region="sg"))),
            "order.shipping.shipping_address.region",
            "ISO 3166-1",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address("SG", state="x" * 9))),
            "order.shipping.shipping_address.state",
            "at most 8",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address("SG", city="x" * 33))),
            "order.shipping.shipping_address.city",
            "at most 32",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address("SG", address1="x" * 257))),
            "order.shipping.shipping_address.address1",
            "at most 256",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address("SG", address2="x" * 257))),
            "order.shipping.shipping_address.address2",
            "at most 256",
        ),
        (
            ordered(shipping=Shipping(shipping_address=Address("SG", zip_code="1" * 33))),
            "order.shipping.shipping_address.zip_code",
            "at most 32",
        ),
        (
            ordered(shipping=Shipping(shipping_name=UserName("x" * 33, last_name="L"))),
            "order.shipping.shipping_name.first_name",
            "at most 32",
        ),
        (
            ordered(shipping=Shipping(shipping_carrier="x" * 129)),
            "order.shipping.shipping_carrier",
            "at most 128",
        ),
        (
            ordered(shipping=Shipping(shipping_phone_no="1" * 17)),
            "order.shipping.shipping_phone_no",
            "at most 16",
        ),
        (
            ordered(shipping=Shipping(ship_to_email="x" * 65)),
            "order.shipping.ship_to_email",
            "at most 64",
        ),
        (with_method(payment_method_type=""), "payment_method.payment_method_type", "is required"),
        (with_method(payment_method_type="X" * 65), "payment_method.payment_method_type", "64"),
        (with_method(payment_method_id="x" * 2049), "payment_method.payment_method_id", "2048"),
        (
            with_method(card=CardMetadata(payment_method_region="GLOBALS")),
            "payment_method.card.payment_method_region",
            "two capital letters",
        ),
        (
            with_method(card=CardMetadata(selected_card_brand="x" * 65)),
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
    violations = faults_in(request_)
    assert list(violations) == [field]
    assert said in violations[field]


def test_the_bounds_themselves_are_taken() -> None:
    request = replace(
        ordered(
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
    assert len(body_of(request)["order"]["goods"]) == 100
    soon = replace(CARD_REQUEST, payment_session_expiry_time=NOW + timedelta(seconds=1))
    assert body_of(soon)["paymentSessionExpiryTime"] == "2026-03-02T09:30:01Z"


def test_a_wallet_needs_no_buyer_and_no_authorisation() -> None:
    wallet = replace(
        ordered(buyer=None),
        payment_method=PaymentMethod(payment_method_type="ALIPAY_CN"),
        is_authorization=None,
    )
    assert body_of(wallet)["paymentMethod"] == {"paymentMethodType": "ALIPAY_CN"}


def test_a_policy_may_allow_cards_without_authorisation() -> None:
    request = replace(CARD_REQUEST, is_authorization=False)
    sent = body_of(request, require_authorization_for_card=False)
    assert sent["paymentFactor"] == {"isAuthorization": False}


def test_all_faults_are_told_at_once_and_none_quotes_what_was_sent() -> None:
    secret = "Secret Name " + VISA
    request = replace(
        ordered(order_description=secret, goods=(Goods(),) * 3),
        payment_request_id="",
        payment_redirect_url="",
    )
    violations = faults_in(request)
    assert {"payment_request_id", "payment_redirect_url", "order.goods[2].goods_name"} <= set(
        violations
    )
    assert not any("Secret" in said or VISA in said for said in violations.values())


def test_the_faults_told_are_bounded() -> None:
    assert len(faults_in(ordered(goods=(Goods(),) * 100))) == MAX_VIOLATIONS
