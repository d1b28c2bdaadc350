"""Session requests as Antom's JSON, and what is refused before it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from antom.golden import MODELLED, SEED, compact, sample
from antom.session_requests import (
    CARD_REQUEST,
    NOW,
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
    Buyer,
    Order,
    PaymentMethod,
    Session,
    SessionRequest,
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
        **(
            {"payment_method": PaymentMethod(payment_method_type="CARD"), "is_authorization": True}
            | more
        ),
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


def test_the_hosted_page_lets_the_buyer_choose_the_method() -> None:
    _modelled(
        "hosted_checkout",
        payment_method=None,
        is_authorization=None,
        product_scene="CHECKOUT_PAYMENT",
        locale="en_US",
    )


def test_whether_a_capture_follows_is_not_known_where_the_buyer_chooses() -> None:
    hosted = replace(CARD_REQUEST, payment_method=None, product_scene="CHECKOUT_PAYMENT")
    assert hosted.capture_expected is True
    assert replace(hosted, is_authorization=False).capture_expected is False
    assert replace(hosted, is_authorization=None).capture_expected is None
    assert with_method(payment_method_type="GCASH").capture_expected is True
    wallet = replace(with_method(payment_method_type="GCASH"), is_authorization=None)
    assert wallet.capture_expected is False


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
    # The payment's own expiry, too, and each by itself.
    both = replace(
        CARD_REQUEST,
        payment_session_expiry_time=NOW + timedelta(minutes=30),
        payment_expiry_time=NOW + timedelta(minutes=10),
    )
    kept = session_body(both, policy=SessionPolicy(), now=NOW)
    again = session_body(CARD_REQUEST, policy=SessionPolicy(), now=later)
    sent = json.loads(with_expiry_of(kept, again, now=later))
    assert "paymentExpiryTime" not in sent
    assert sent["paymentSessionExpiryTime"] == "2026-03-02T10:00:00Z"
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


def test_a_hosted_page_needs_no_data_for_the_client_sdk() -> None:
    answer = {"paymentSessionId": "id", "normalUrl": "https://pay.example"}
    assert parse_session(read_message(compact(answer))) == Session(
        payment_session_data="", payment_session_id="id", normal_url="https://pay.example"
    )


@pytest.mark.parametrize("field", ["paymentSessionData", "paymentSessionId"])
def test_a_session_without_what_the_front_end_needs_is_not_understood(field: str) -> None:
    answer = {"paymentSessionData": "data", "paymentSessionId": "id"} | {field: None}
    with pytest.raises(NotUnderstood, match=f"missing:{field}"):
        parse_session(read_message(compact(answer)))
