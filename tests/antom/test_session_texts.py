"""Texts that are never sent: Chinese characters where they break methods, and card numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom.session_requests import (
    CARD_REQUEST,
    HYUNDAI,
    VISA,
    body_of,
    faults_in,
    ordered,
    with_goods,
    with_method,
)
from antom_payments.antom.messages.checks import holds_card_number, is_card_number
from antom_payments.session import (
    Buyer,
    SessionRequest,
    UserName,
)

CHINESE = "订单"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ordered(order_description=f"Tee {CHINESE}"), "order.order_description"),
        (with_goods(reference_goods_id=CHINESE), "order.goods[0].reference_goods_id"),
        (with_goods(goods_name=CHINESE), "order.goods[0].goods_name"),
        (with_goods(goods_category="茶"), "order.goods[0].goods_category"),
        (with_goods(goods_name="\U00020bb7"), "order.goods[0].goods_name"),
    ],
)
def test_chinese_characters_are_refused_unless_switched_off(
    request_: SessionRequest, field: str
) -> None:
    violations = faults_in(request_)
    assert list(violations) == [field]
    assert "Chinese characters" in violations[field]
    assert CHINESE not in violations[field]
    assert body_of(request_, refuse_chinese=False)


def test_chinese_characters_in_ids_are_refused_in_any_case() -> None:
    for policy in ({}, {"refuse_chinese": False}):
        assert "payment_request_id" in faults_in(
            replace(CARD_REQUEST, payment_request_id=CHINESE), **policy
        )
        assert "order.reference_order_id" in faults_in(
            ordered(reference_order_id=CHINESE), **policy
        )


@pytest.mark.parametrize(
    "name", ["Café", "Ünïcödé", "Чай", "ชา", "ティー", "차", "🍵", "Thé \u2013 “x”"]
)
def test_other_scripts_are_fine(name: str) -> None:
    assert body_of(with_goods(goods_name=name))["order"]["goods"][0]["goodsName"] == name


def test_a_buyers_chinese_name_is_nobodys_business() -> None:
    assert body_of(ordered(buyer=Buyer("b", UserName("王小明", last_name="王小明"))))


CARD_NUMBERS = [
    *(VISA, HYUNDAI, "5162774114974622", "378282246310005", "6011111111111117"),
    *("4054 6957 2310 0768", "4054-6957-2310-0768", "4222222222222", "6304000000000000000"),
]


@pytest.mark.parametrize("number", CARD_NUMBERS)
def test_a_card_number_is_never_taken(number: str) -> None:
    path = "payment_method.payment_method_id"
    violations = faults_in(with_method(payment_method_id=number))
    assert violations == {path: "must be a token, never a card number"}
    for text in (number, f"paid with {number}", f"{number} 12/27 123", f"PAN:{number}."):
        violations = faults_in(ordered(order_description=text))
        assert violations == {"order.order_description": "must not hold a card number"}
        assert "goods_name" in str(faults_in(with_goods(goods_name=text)))


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
    assert body_of(ordered(order_description=text))
    assert body_of(with_method(payment_method_id=text))


@given(st.text(alphabet="0123456789 -./ab", max_size=40))
def test_looking_for_card_numbers_never_fails(text: str) -> None:
    if is_card_number(text) and text[:1] in {"3", "4", "5", "6", "9"} and "." not in text:
        assert holds_card_number(text.replace(" ", "").replace("-", ""))
