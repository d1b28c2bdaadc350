"""Requests for sessions, and what becomes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from antom_payments.antom.messages import (
    SessionPolicy,
    session_body,
)
from antom_payments.errors import InvalidRequest
from antom_payments.money import Money
from antom_payments.session import (
    Buyer,
    Goods,
    Order,
    PaymentMethod,
    SessionRequest,
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


def body_of(request: SessionRequest, **policy: Any) -> Any:
    return json.loads(session_body(request, policy=SessionPolicy(**policy), now=NOW))


def faults_in(request: SessionRequest, **policy: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        session_body(request, policy=SessionPolicy(**policy), now=NOW)
    return {violation.field: violation.description for violation in refused.value.violations}


def ordered(**order: Any) -> SessionRequest:
    return replace(CARD_REQUEST, order=replace(CARD_REQUEST.order, **order))


def with_goods(**goods: Any) -> SessionRequest:
    return ordered(goods=(replace(GOODS, **goods),))


def with_method(**method: Any) -> SessionRequest:
    return replace(CARD_REQUEST, payment_method=replace(CARD_REQUEST.payment_method, **method))
