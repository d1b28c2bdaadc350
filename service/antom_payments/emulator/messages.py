"""Antom's JSON: answers and notifications, as in its documentation's samples."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from antom_payments.emulator import results
from antom_payments.emulator.cards import Card
from antom_payments.emulator.payments import Capture, Payment, PaymentStatus, Session
from antom_payments.emulator.results import Result
from antom_payments.emulator.times import time_text, zulu_text

Message = dict[str, Any]

# Reserved by RFC 6761: they lead nowhere, whoever follows them.
_CHALLENGE_URL = "https://acs.invalid/challenge"
_HOSTED_PAGE_URL = "https://checkout.invalid/session"


def encoded(message: Message) -> bytes:
    """The bytes that are signed and sent; compact, as Antom's are."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def session_created(session: Session, *, is_hosted: bool) -> Message:
    """The answer of createPaymentSession; it names no `paymentId` (antom-api 3.2)."""
    page = {"normalUrl": f"{_HOSTED_PAGE_URL}?{urlencode({'id': session.session_id})}"}
    return (page if is_hosted else {}) | {
        "paymentSessionData": session.session_data,
        "paymentSessionExpiryTime": zulu_text(session.expiry_time),
        "paymentSessionId": session.session_id,
        "result": results.SESSION_CREATED.json(),
    }


def payment_inquired(payment: Payment, status: PaymentStatus) -> Message:
    """The answer of inquiryPayment (antom-api 3.3); `result` is the call's, not the payment's."""
    answer: Message = {
        "result": results.INQUIRY_ANSWERED.json(),
        "paymentStatus": status,
        "paymentRequestId": payment.payment_request_id,
        "paymentId": payment.payment_id,
        "paymentAmount": payment.amount.json_form(),
        "paymentCreateTime": time_text(payment.submit_time or payment.create_time),
    }
    if result := _payment_result(payment, status):
        answer |= {"paymentResultCode": result.code, "paymentResultMessage": result.message}
    if status is PaymentStatus.PROCESSING:
        answer["redirectActionForm"] = {
            "actionFormType": "RedirectActionForm",
            "method": "GET",
            "redirectUrl": _CHALLENGE_URL,
        }
    paid = status in {PaymentStatus.SUCCESS, PaymentStatus.CANCELLED}
    if paid and payment.payment_time:
        answer["paymentTime"] = time_text(payment.payment_time)
    if payment.auth_expiry_time and status is not PaymentStatus.CANCELLED:
        answer["authExpiryTime"] = time_text(payment.auth_expiry_time)
    answer["transactions"] = [_transaction(one) for one in payment.captures] or None
    return answer | _about_the_method(payment)


def payment_result(payment: Payment, result: Result) -> Message:
    """PAYMENT_RESULT: paid (a card: authorised) or failed, for good (antom-api 4.2)."""
    notification = _payment_notification(payment, "PAYMENT_RESULT", result)
    if payment.payment_time:
        notification["paymentTime"] = time_text(payment.payment_time)
    return notification | _about_the_method(payment)


def payment_pending(payment: Payment) -> Message:
    """PAYMENT_PENDING: the buyer has paid, the result is still to come."""
    return _payment_notification(payment, "PAYMENT_PENDING", results.PAID)


def capture_result(payment: Payment, capture: Capture, result: Result) -> Message:
    """CAPTURE_RESULT; it names no `paymentRequestId` (antom-api 4.3)."""
    notification: Message = {
        "captureAmount": capture.amount.json_form(),
        "notifyType": "CAPTURE_RESULT",
        "captureId": capture.capture_id,
        "captureRequestId": capture.capture_request_id,
        "paymentId": payment.payment_id,
        "result": result.json(),
    }
    if capture.capture_time:
        notification["captureTime"] = time_text(capture.capture_time)
    return notification


def of_another_amount(payment: Payment, notification: Message) -> Message:
    """The notification with ten times the payment's amount, also where it tells of a capture."""
    name = "captureAmount" if "captureAmount" in notification else "paymentAmount"
    amount = payment.amount.json_form()
    return notification | {name: amount | {"value": f"{amount['value']}0"}}


def _payment_notification(payment: Payment, notify_type: str, result: Result) -> Message:
    return {
        "notifyType": notify_type,
        "result": result.json(),
        "paymentRequestId": payment.payment_request_id,
        "paymentId": payment.payment_id,
        "paymentAmount": payment.amount.json_form(),
        "paymentCreateTime": time_text(payment.submit_time or payment.create_time),
    }


def _payment_result(payment: Payment, status: PaymentStatus) -> Result | None:
    """The payment's own result; the PENDING sample has none."""
    match status:
        case PaymentStatus.PROCESSING:
            return results.PAYMENT_IN_PROCESS
        case PaymentStatus.PENDING:
            return None
        case PaymentStatus.CANCELLED:
            return results.CANCELLED
        case PaymentStatus.SUCCESS | PaymentStatus.FAIL:
            return payment.result


def _about_the_method(payment: Payment) -> Message:
    """What depends on how the buyer paid, and the merchant's own metadata."""
    told: Message = {}
    if payment.card and payment.status in {PaymentStatus.SUCCESS, PaymentStatus.FAIL}:
        told["paymentResultInfo"] = _card_info(payment, payment.card)
    if payment.payment_method_type not in {"", "CARD"}:
        told["pspCustomerInfo"] = {
            "pspName": payment.payment_method_type,
            "pspCustomerId": f"psp-{payment.payment_id[-10:]}",
        }
    if payment.payment_method_type and not payment.request.payment_method_type:
        told["paymentMethodType"] = payment.payment_method_type
    if payment.request.metadata:
        told["metadata"] = payment.request.metadata
    return told


def _card_info(payment: Payment, card: Card) -> Message:
    info: Message = {
        "cardNo": card.masked,
        "cardBrand": card.brand,
        "issuingCountry": card.issuing_country,
        "funding": "CREDIT",
        "paymentMethodRegion": card.region,
        "cardCategory": "CONSUMER",
        "avsResultRaw": "A",
        "cvvResultRaw": "Y",
    }
    if payment.status is PaymentStatus.SUCCESS:
        info |= {
            "cardToken": payment.card_token,
            "networkTransactionId": payment.payment_id[-10:],
            "threeDSResult": {
                "threeDSVersion": "2.1.0",
                "eci": "05",
                "cavv": "AAkBCVSAkwAAAABkcCCQdAAAAAA=",
                "dsTransactionId": f"e39d744b-0000-4000-8000-{payment.payment_id[-12:]}",
            },
        }
    return info


def _transaction(capture: Capture) -> Message:
    result = capture.result or results.CAPTURE_IN_PROCESS
    transaction: Message = {
        "transactionType": "CAPTURE",
        "transactionStatus": {"S": "SUCCESS", "F": "FAIL"}.get(result.status, "PROCESSING"),
        "transactionRequestId": capture.capture_request_id,
        "transactionAmount": capture.amount.json_form(),
        "transactionId": capture.capture_id,
        "transactionResult": result.json(),
    }
    if capture.capture_time:
        transaction["transactionTime"] = time_text(capture.capture_time)
    return transaction
