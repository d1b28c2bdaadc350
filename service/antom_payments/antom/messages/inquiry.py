"""inquiryPayment: the question, and Antom's answer as facts (antom-api 3.3, 3.12)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from antom_payments.antom.messages.reading import JsonObject
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.payment import Source

ORDER_NOT_EXIST = "ORDER_NOT_EXIST"
"""The one failure of an inquiry that is an answer: Antom knows no such payment (yet)."""

_PAYMENT_OUTCOMES = {
    "SUCCESS": Outcome.SUCCEEDED,
    "FAIL": Outcome.FAILED,
    "PROCESSING": Outcome.PROCESSING,
    "PENDING": Outcome.PENDING,
    "CANCELLED": Outcome.CANCELLED,
}
# A cancelled capture took nothing and comes to nothing: that is a failed one.
_CAPTURE_OUTCOMES = {
    "SUCCESS": Outcome.SUCCEEDED,
    "FAIL": Outcome.FAILED,
    "CANCELLED": Outcome.FAILED,
    "PROCESSING": Outcome.PROCESSING,
    "PENDING": Outcome.PROCESSING,
}


@dataclass(frozen=True, slots=True)
class InquiryAnswer:
    """What Antom says about a payment. `exists` False: it knows none with these ids (yet)."""

    exists: bool
    time: datetime | None
    """When Antom gave it, by Antom's clock, in whole seconds and signed; None when it is unreadable
    (antom-api 1.4): then nothing that depends on time is concluded."""
    result_code: str = ""
    """Of the payment (`paymentResultCode`), or ORDER_NOT_EXIST."""
    payment_status: str = ""
    """Antom's `paymentStatus`; an unknown one gives no payment fact."""
    payment_id: str = ""
    payment_request_id: str = ""
    """Whose payment it is; empty when Antom does not say."""
    facts: tuple[Fact, ...] = ()
    """The payment's, when its status is one we know, and one for each capture."""


def inquiry_body(*, payment_request_id: str = "", payment_id: str = "") -> bytes:
    """The exact bytes of an inquiry by either id; Antom prefers `paymentId` when given both.

    Raises:
        ValueError: both are empty.
    """
    ids = {"paymentRequestId": payment_request_id, "paymentId": payment_id}
    asked = {name: value for name, value in ids.items() if value}
    if not asked:
        raise ValueError("an inquiry needs payment_request_id or payment_id")
    return json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode()


def is_about(message: JsonObject, *, payment_request_id: str = "", payment_id: str = "") -> bool:
    """Whether an answer names what was asked for, and nothing else.

    An answer is signed but not bound to its question: the ids it names are the only tie.
    """
    pairs = (
        (payment_request_id, message.text("paymentRequestId")),
        (payment_id, message.text("paymentId")),
    )
    told = [(asked, named) for asked, named in pairs if asked and named]
    return bool(told) and all(asked == named for asked, named in told)


def parse_inquiry(
    message: JsonObject,
    *,
    time: datetime | None,
    merchant_account: str,
    payment_request_id: str = "",
) -> InquiryAnswer:
    """What a verified answer with result S says.

    Args:
        message: the answer.
        time: when Antom gave it.
        merchant_account: whose client id asked.
        payment_request_id: what was asked for, for an answer that does not repeat it.

    Raises:
        NotUnderstood: a field that matters cannot be read; then nothing is concluded.
    """
    payment_status = message.text("paymentStatus")
    payment = _payment(message, merchant_account, payment_request_id)
    captures = tuple(_captures(message))
    if captures or message.has("authExpiryTime", "authExpirytime"):
        payment = replace(payment, capture_expected=True)
    outcome = _PAYMENT_OUTCOMES.get(payment_status)
    told = () if outcome is None else (replace(payment, outcome=outcome),)
    return InquiryAnswer(
        exists=True,
        time=time,
        result_code=payment.result_code,
        payment_status=payment_status,
        payment_id=payment.payment_id,
        payment_request_id=payment.payment_request_id or "",
        facts=told + tuple(_capture_facts(captures, payment)),
    )


def _payment(message: JsonObject, merchant_account: str, asked_for: str) -> Fact:
    """The payment fact of an answer, but for its outcome."""
    payment_id = message.text("paymentId")
    payment_request_id = message.text("paymentRequestId") or asked_for
    return Fact(
        merchant_account=merchant_account,
        kind=FactKind.PAYMENT,
        outcome=Outcome.PROCESSING,
        payment_id=payment_id,
        # While Antom names no paymentId of its own, the merchant's id tells payments apart.
        fact_id=payment_id or payment_request_id,
        source=Source.INQUIRY,
        amount=message.money("paymentAmount"),
        payment_request_id=payment_request_id or None,
        result_code=message.code("paymentResultCode"),
        antom_time=message.time("paymentTime"),
        payment_create_time=message.time("paymentCreateTime"),
        payment_time=message.time("paymentTime"),
        auth_expiry_time=message.time("authExpiryTime", "authExpirytime"),
    )


def _captures(message: JsonObject) -> Iterator[JsonObject]:
    """The captures in `transactions`, which is null or absent before the first (antom-api 3.12)."""
    for transaction in message.objects("transactions"):
        if transaction.text("transactionType", "transationType") == "CAPTURE":
            yield transaction


def _capture_facts(captures: Iterable[JsonObject], payment: Fact) -> Iterator[Fact]:
    """One fact for each capture whose status we know."""
    for capture in captures:
        outcome = _CAPTURE_OUTCOMES.get(capture.text("transactionStatus"))
        if outcome is None or (outcome is Outcome.PROCESSING and not capture.has("transactionId")):
            continue  # nothing is known yet, or nothing to know it by
        result = capture.object("transactionResult")
        yield Fact(
            merchant_account=payment.merchant_account,
            kind=FactKind.CAPTURE,
            outcome=outcome,
            payment_id=payment.payment_id,
            fact_id=capture.required_text("transactionId"),
            source=Source.INQUIRY,
            amount=capture.money("transactionAmount"),
            payment_request_id=payment.payment_request_id,
            request_id=capture.text("transactionRequestId"),
            result_code=result.code("resultCode") if result else "",
            antom_time=capture.time("transactionTime"),
            capture_expected=True,
        )
