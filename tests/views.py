"""A payment as the checker of our runs compares it, from wherever it was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antom_payments import payment
from antom_payments.v1 import payment_pb2
from invariants import Shown

_PREFIX = "PAYMENT_STATE_"


def of_message(shown: payment_pb2.Payment) -> Shown:
    """As it came over the wire."""
    return Shown(
        payment_request_id=shown.payment_request_id,
        version=shown.version,
        state=payment_pb2.PaymentState.Name(shown.state).removeprefix(_PREFIX),
        payment_id=shown.payment_id,
        currency_code=shown.amount.currency_code,
        minor_units=shown.amount.minor_units,
        captured_minor_units=shown.captured_amount.minor_units,
        merchant_account=shown.merchant_account,
    )


def of_answer(shown: payment.Payment) -> Shown:
    """As the service answers, before it becomes a message."""
    return Shown(
        payment_request_id=shown.payment_request_id,
        version=shown.version,
        state=shown.state,
        payment_id=shown.payment_id or "",
        currency_code=shown.amount.currency_code,
        minor_units=shown.amount.minor_units,
        captured_minor_units=shown.captured_minor_units,
        merchant_account=shown.merchant_account,
    )


def of_log(body: Mapping[str, Any]) -> Shown:
    """As an event's `body` has it."""
    shown = body["payment"]
    return Shown(
        payment_request_id=shown["payment_request_id"],
        version=shown["version"],
        state=shown["state"],
        payment_id=shown["payment_id"] or "",
        currency_code=shown["currency_code"],
        minor_units=shown["minor_units"],
        captured_minor_units=shown["captured_minor_units"],
        merchant_account=shown["merchant_account"],
    )
