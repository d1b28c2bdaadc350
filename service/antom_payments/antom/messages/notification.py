"""Antom's notifications as facts (antom-api 4)."""

from __future__ import annotations

import re

from antom_payments.antom.messages.reading import (
    JsonObject,
    NotUnderstood,
    ResultStatus,
    read_message,
)
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.payment import Source

# A card's S is "authorised": whether that is paid depends on the capture (antom-api 4.2, 6.2).
_PAYMENT_RESULT = {
    ResultStatus.SUCCESS: Outcome.SUCCEEDED,
    ResultStatus.FAILED: Outcome.FAILED,
    ResultStatus.UNKNOWN: Outcome.PROCESSING,
}
# "The buyer has paid, the final result is still to come". A failure of it is not documented.
_PAYMENT_PENDING = {
    ResultStatus.SUCCESS: Outcome.PENDING,
    ResultStatus.UNKNOWN: Outcome.PENDING,
}
_PAYMENT_OUTCOMES = {"PAYMENT_RESULT": _PAYMENT_RESULT, "PAYMENT_PENDING": _PAYMENT_PENDING}

# Notifications without a notifyType are told by a field that only they have (antom-api 4.5).
_TYPES_WITHOUT_NAME = {
    "vaultingRequestId": "VAULTING",
    "disputeNotificationType": "DISPUTE",
    "authorizationNotifyType": "AUTHORIZATION",
}
_TYPE = re.compile(r"[A-Z0-9_]{1,40}")


def parse_notification(body: bytes, *, merchant_account: str) -> Fact:
    """The fact that a verified notification tells.

    Amounts are not judged here: the domain compares them with the payment's.

    Args:
        body: the verified bytes.
        merchant_account: whose client id the notification is addressed to.

    Raises:
        NotUnderstood: it cannot be read, or its type is not one of PAYMENT_RESULT, PAYMENT_PENDING
            and CAPTURE_RESULT (then the reason is ``unsupported_type:…``).
    """
    message = read_message(body)
    notify_type = message.text("notifyType", limit=1024)
    if notify_type in _PAYMENT_OUTCOMES:
        return _payment_fact(message, notify_type, merchant_account)
    if notify_type == "CAPTURE_RESULT":
        return _capture_fact(message, merchant_account)
    raise NotUnderstood(f"unsupported_type:{_type_shown(message, notify_type)}")


def _payment_fact(message: JsonObject, notify_type: str, merchant_account: str) -> Fact:
    result = message.result()
    outcome = _PAYMENT_OUTCOMES[notify_type].get(result.status)
    if outcome is None:
        raise NotUnderstood(f"unsupported_status:{notify_type}.{result.status}")
    payment_id = message.required_text("paymentId")
    has_authorization = message.has("authExpiryTime", "authExpirytime")
    return Fact(
        merchant_account=merchant_account,
        kind=FactKind.PAYMENT,
        outcome=outcome,
        payment_id=payment_id,
        fact_id=payment_id,
        source=Source.NOTIFICATION,
        amount=message.money("paymentAmount"),
        payment_request_id=message.required_text("paymentRequestId"),
        result_code=result.code,
        antom_time=message.time("paymentTime"),
        payment_create_time=message.time("paymentCreateTime"),
        payment_time=message.time("paymentTime"),
        auth_expiry_time=message.time("authExpiryTime", "authExpirytime"),
        capture_expected=True if has_authorization else None,
    )


def _capture_fact(message: JsonObject, merchant_account: str) -> Fact:
    """The fact of a CAPTURE_RESULT, which names the payment by `paymentId` alone."""
    result = message.result()
    return Fact(
        merchant_account=merchant_account,
        kind=FactKind.CAPTURE,
        outcome=_PAYMENT_RESULT[result.status],
        payment_id=message.required_text("paymentId"),
        fact_id=message.required_text("captureId"),
        source=Source.NOTIFICATION,
        amount=message.money("captureAmount"),
        # The seed's text mentions one, its samples have none (antom-api 4.3).
        payment_request_id=message.text("paymentRequestId") or None,
        request_id=message.text("captureRequestId"),
        result_code=result.code,
        antom_time=message.time("captureTime"),
    )


def _type_shown(message: JsonObject, notify_type: str) -> str:
    """The type as it may stand in logs and metrics, whatever the sender wrote."""
    if _TYPE.fullmatch(notify_type):
        return notify_type
    if notify_type:
        return "OTHER"
    return next((name for field, name in _TYPES_WITHOUT_NAME.items() if message.has(field)), "NONE")
