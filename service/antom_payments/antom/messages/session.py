"""createPaymentSession: the request as Antom wants it, and its answer (antom-api 3.1, 3.2).

What Antom would certainly refuse is refused here first, by the field paths of our contract: the
caller learns at once which field, and Antom's answer to a mistake is not "PARAM_ILLEGAL".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from antom_payments.antom.messages.checks import Checks, holds_card_number
from antom_payments.antom.messages.reading import JsonObject, parse_time
from antom_payments.antom.messages.rules import card_region, check_object, many
from antom_payments.antom.messages.shape import amount_fields, object_fields, said, time_text
from antom_payments.session import Buyer, Env, Session, SessionRequest

CARD = "CARD"
HOSTED_PAGE = "CHECKOUT_PAYMENT"
"""The product scene in which the buyer is sent to Antom's page, and may choose the method there."""
MAX_SESSION_LIFE = timedelta(hours=1)
MAX_PAYMENT_LIFE = timedelta(hours=48)
"""A bank transfer's, the longest that Antom names (antom-api 6.5)."""
MAX_LISTED = 100
MAX_METADATA_ENTRIES, MAX_METADATA_KEY, MAX_METADATA_VALUE = 20, 64, 512


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How a merchant's sessions are asked for.

    Attributes:
        notify_url: where Antom sends notifications of payments that name no other receiver.
        refuse_chinese: refuse Chinese characters in the ids, the description and the goods, as
            Antom's guide advises (they break QRIS and Mastercard).
        require_authorization_for_card: refuse CARD without `is_authorization`: Antom's guide asks
            for it, and only then is authorised told from paid.
    """

    notify_url: str = ""
    refuse_chinese: bool = True
    require_authorization_for_card: bool = True


def session_body(request: SessionRequest, *, policy: SessionPolicy, now: datetime) -> bytes:
    """The exact bytes to send for ``request``: compact UTF-8 JSON, the same for the same request.

    Raises:
        InvalidRequest: Antom would certainly refuse it.
    """
    _check(request, policy, now)
    notify_url = request.payment_notify_url or policy.notify_url
    fields = said(
        productCode="CASHIER_PAYMENT",
        paymentRequestId=request.payment_request_id,
        order=object_fields(request.order),
        paymentAmount=amount_fields(request.payment_amount),
        paymentMethod=object_fields(request.payment_method),
        paymentFactor=said(
            isAuthorization=request.is_authorization, captureMode=request.capture_mode
        ),
        paymentRedirectUrl=request.payment_redirect_url,
        paymentNotifyUrl=notify_url,
        settlementStrategy=said(settlementCurrency=request.settlement_currency),
        paymentSessionExpiryTime=time_text(request.payment_session_expiry_time),
        paymentExpiryTime=time_text(request.payment_expiry_time),
        env=object_fields(request.env),
        merchantRegion=request.merchant_region,
        userRegion=request.user_region,
        locale=request.locale,
        productScene=request.product_scene,
        creditPayPlan=object_fields(request.credit_pay_plan),
        enableInstallmentCollection=request.enable_installment_collection,
        allowedPaymentMethodRegions=list(request.allowed_payment_method_regions),
        availablePaymentMethod=object_fields(request.available_payment_method),
        savedPaymentMethods=[object_fields(one) for one in request.saved_payment_methods],
        metadata=request.antom_metadata,
        customizedInfo=object_fields(request.customized_info),
        paymentQuote=object_fields(request.payment_quote),
        processingAmount=amount_fields(request.processing_amount),
        merchantAccountId=request.merchant_account_id,
    )
    return _encoded(fields)


def with_expiry_of(kept: bytes, current: bytes, *, now: datetime) -> bytes:
    """The bytes that were kept for a payment; an expiry in them that has passed is replaced.

    Everything else is as first asked, and all of it while the first expiries hold: a repetition
    after an unknown outcome must be the same request. Antom would refuse an expiry that has passed.

    Args:
        kept: bytes of `session_body` from the payment's first request.
        current: bytes of `session_body` from the repetition.
        now: the wall clock, aware.
    """
    if kept == current:
        return kept
    first, now_asked = json.loads(kept), json.loads(current)
    passed = [
        name
        for name in ("paymentSessionExpiryTime", "paymentExpiryTime")
        if (expiry := parse_time(first.get(name) or "")) and expiry <= now
    ]
    if not passed:
        return kept
    return _encoded(said(**(first | {name: now_asked.get(name) for name in passed})))


def parse_session(message: JsonObject) -> Session:
    """The session in a verified answer with result S.

    Raises:
        NotUnderstood: what the front end needs is missing: the data, unless Antom's page takes its
            place, or the id.
    """
    normal_url = message.text("normalUrl", limit=1 << 20)
    read_data = message.text if normal_url else message.required_text
    return Session(
        payment_session_data=read_data("paymentSessionData", limit=1 << 20),
        payment_session_id=message.required_text("paymentSessionId", limit=4096),
        payment_session_expiry_time=message.time("paymentSessionExpiryTime"),
        normal_url=normal_url,
    )


def _encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _check(request: SessionRequest, policy: SessionPolicy, now: datetime) -> None:
    """Raise InvalidRequest with everything that Antom would certainly refuse."""
    checks = Checks(refuse_chinese=policy.refuse_chinese)
    checks.identifier("payment_request_id", request.payment_request_id, required=True)
    checks.without_chinese("payment_request_id", request.payment_request_id)
    method_type = request.payment_method_type
    checks.money("payment_amount", request.payment_amount, payment_method_type=method_type)
    check_object("order", request.order, checks)
    _check_payment_method(request, policy, checks)
    checks.url("payment_redirect_url", request.payment_redirect_url, required=True)
    checks.url("payment_notify_url", request.payment_notify_url)
    checks.currency("settlement_strategy.settlement_currency", request.settlement_currency)
    _check_times(request, now, checks)
    _check_env("env", request.env, checks)
    _check_env("order.env", request.order.env, checks)
    check_object("env", request.env, checks)
    checks.region("merchant_region", request.merchant_region)
    checks.region("user_region", request.user_region)
    if request.locale != "automatic":  # a value of its own, longer than the others may be
        checks.text("locale", request.locale, 8)
    _check_choice(request, checks)
    check_object("payment_quote", request.payment_quote, checks)
    check_object("processing_amount", request.processing_amount, checks)
    check_object("customized_info", request.customized_info, checks)
    checks.json_text("antom_metadata", request.antom_metadata, 2048)
    checks.text("merchant_account_id", request.merchant_account_id, 32)
    _check_metadata(request, checks)
    checks.conclude()


def _check_payment_method(request: SessionRequest, policy: SessionPolicy, checks: Checks) -> None:
    if request.payment_method is None and request.product_scene != HOSTED_PAGE:
        checks.fail("payment_method", f"is required unless product_scene is {HOSTED_PAGE}")
    check_object("payment_method", request.payment_method, checks)
    checks.one_of("payment_factor.capture_mode", request.capture_mode, "AUTOMATIC", "MANUAL")
    buyer = request.order.buyer or Buyer()
    if request.payment_method_type == CARD:
        if policy.require_authorization_for_card and request.is_authorization is not True:
            checks.fail("payment_factor.is_authorization", "must be true for CARD")
        if not buyer.reference_buyer_id:
            checks.fail("order.buyer.reference_buyer_id", "is required for CARD")
    if request.payment_method_type == "STCPAY" and not buyer.buyer_phone_no_contry_code:
        checks.fail("order.buyer.buyer_phone_no_contry_code", "is required for STCPAY")


def _check_choice(request: SessionRequest, checks: Checks) -> None:
    """Check what the buyer may choose from, and where."""
    checks.one_of("product_scene", request.product_scene, HOSTED_PAGE, "ELEMENT_PAYMENT")
    check_object("credit_pay_plan", request.credit_pay_plan, checks)
    regions = request.allowed_payment_method_regions
    for path, listed in (
        ("allowed_payment_method_regions", regions),
        ("saved_payment_methods", request.saved_payment_methods),
    ):
        many(MAX_LISTED)(checks, path, listed)
    for index, region in enumerate(regions[:MAX_LISTED]):
        path = f"allowed_payment_method_regions[{index}]"
        checks.text(path, region, 6, required=True)
        card_region(checks, path, region)
    check_object("available_payment_method", request.available_payment_method, checks)
    check_object("saved_payment_methods", request.saved_payment_methods, checks)


def _check_times(request: SessionRequest, now: datetime, checks: Checks) -> None:
    expiry_time = request.payment_session_expiry_time
    if expiry_time is not None and not now < expiry_time <= now + MAX_SESSION_LIFE:
        checks.fail("payment_session_expiry_time", "must be within the next hour")
    expiry_time = request.payment_expiry_time
    if expiry_time is not None and not now < expiry_time <= now + MAX_PAYMENT_LIFE:
        checks.fail("payment_expiry_time", "must be within the next 48 hours")


def _check_env(path: str, env: Env | None, checks: Checks) -> None:
    if env is not None and env.os_type and env.terminal_type == "WEB":
        checks.fail(f"{path}.os_type", "must not be set for WEB")


def _check_metadata(request: SessionRequest, checks: Checks) -> None:
    """Check the caller's own data: never sent to Antom, but stored and shown in every event."""
    if len(request.metadata) > MAX_METADATA_ENTRIES:
        checks.fail("metadata", f"must have at most {MAX_METADATA_ENTRIES} entries")
    for key, value in request.metadata.items():
        if 0 < len(key) <= MAX_METADATA_KEY and key.isprintable() and not holds_card_number(key):
            checks.text(f"metadata[{key}]", value, MAX_METADATA_VALUE, prose=True)
        else:
            # Not named: a key may be as personal as a value.
            checks.fail(
                "metadata", f"keys must be 1 to {MAX_METADATA_KEY} characters, never a card number"
            )
