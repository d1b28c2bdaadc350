"""Session requests as callers send them."""

from __future__ import annotations

import uuid
from typing import Any

from antom_payments.v1 import order_pb2, payment_pb2
from antom_payments.v1 import payment_service_pb2 as pb


def new_id() -> str:
    """An id that no other test uses: the emulator is shared."""
    return f"order-{uuid.uuid4().hex[:12]}"


def card_session(payment_request_id: str = "", **changes: Any) -> pb.CreateSessionRequest:
    """A card payment of SGD 12.50, authorised first."""
    amount = payment_pb2.Money(currency_code="SGD", minor_units=1250)
    payment_request_id = payment_request_id or new_id()
    fields: dict[str, Any] = {
        "payment_request_id": payment_request_id,
        "payment_amount": amount,
        "order": order_pb2.Order(
            reference_order_id=f"ref-{payment_request_id}",
            order_description="Two cups",
            order_amount=amount,
            buyer=order_pb2.Buyer(reference_buyer_id="buyer-1", buyer_email="ada@example.com"),
        ),
        "payment_method": order_pb2.PaymentMethod(payment_method_type="CARD"),
        "payment_factor": order_pb2.PaymentFactor(
            is_authorization=True, capture_mode=payment_pb2.CAPTURE_MODE_AUTOMATIC
        ),
        "payment_redirect_url": "https://shop.example/return",
        "metadata": {"cart": "7"},
    }
    return pb.CreateSessionRequest(**fields | changes)
