"""createPaymentSession: the request as Antom wants it, and its answer (antom-api 3.1, 3.2).

What Antom would certainly refuse is refused here first, by the field paths of our contract: the
caller learns at once which field, and Antom's answer to a mistake is not "PARAM_ILLEGAL".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from antom_payments.antom.messages.checks import Checks, holds_card_number, is_card_number
from antom_payments.antom.messages.order import check_order, order_fields
from antom_payments.antom.messages.reading import JsonObject, parse_time
from antom_payments.antom.messages.shape import amount_fields, said, time_text
from antom_payments.session import CardMetadata, Env, Session, SessionRequest

CARD = "CARD"
MAX_SESSION_LIFE = timedelta(hours=1)
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
        order=order_fields(request.order),
        paymentAmount=amount_fields(request.payment_amount),
        paymentMethod=_payment_method_fields(request),
        paymentFactor=said(
            isAuthorization=request.is_authorization, captureMode=request.capture_mode
        ),
        paymentRedirectUrl=request.payment_redirect_url,
        paymentNotifyUrl=notify_url,
        settlementStrategy=said(settlementCurrency=request.settlement_currency),
        paymentSessionExpiryTime=time_text(request.payment_session_expiry_time),
        env=_env_fields(request.env),
        merchantRegion=request.merchant_region,
        userRegion=request.user_region,
        locale=request.locale,
    )
    return _encoded(fields)


def with_expiry_of(kept: bytes, current: bytes, *, now: datetime) -> bytes:
    """The bytes that were kept for a payment; once their session expiry has passed, with another.

    Everything else is as first asked, and all of it while the first expiry holds: a repetition
    after an unknown outcome must be the same request. Antom would refuse an expiry that has passed.

    Args:
        kept: bytes of `session_body` from the payment's first request.
        current: bytes of `session_body` from the repetition.
        now: the wall clock, aware.
    """
    name = "paymentSessionExpiryTime"
    first, now_asked = json.loads(kept), json.loads(current)
    expiry = parse_time(first.get(name) or "")
    if expiry is None or expiry > now:
        return kept
    return _encoded(said(**(first | {name: now_asked.get(name)})))


def parse_session(message: JsonObject) -> Session:
    """The session in a verified answer with result S.

    Raises:
        NotUnderstood: the data or the id that the front end needs is missing.
    """
    return Session(
        payment_session_data=message.required_text("paymentSessionData", limit=1 << 20),
        payment_session_id=message.required_text("paymentSessionId", limit=4096),
        payment_session_expiry_time=message.time("paymentSessionExpiryTime"),
        normal_url=message.text("normalUrl", limit=1 << 20),
    )


def _encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _payment_method_fields(request: SessionRequest) -> dict[str, Any]:
    method = request.payment_method
    card = method.card or CardMetadata()
    return said(
        paymentMethodType=method.payment_method_type,
        paymentMethodId=method.payment_method_id,
        paymentMethodMetaData=said(
            is3DSAuthentication=card.is_3ds_authentication,
            enableAuthenticationUpgrade=card.enable_authentication_upgrade,
            paymentMethodRegion=card.payment_method_region,
            isCardOnFile=card.is_card_on_file,
            selectedCardBrand=card.selected_card_brand,
        ),
    )


def _env_fields(env: Env | None) -> dict[str, Any]:
    if env is None:
        return {}
    return said(
        terminalType=env.terminal_type,
        osType=env.os_type,
        clientIp=env.client_ip,
        userAgent=env.user_agent,
        deviceTokenId=env.device_token_id,
    )


def _check(request: SessionRequest, policy: SessionPolicy, now: datetime) -> None:
    """Raise InvalidRequest with everything that Antom would certainly refuse."""
    checks = Checks(refuse_chinese=policy.refuse_chinese)
    checks.identifier("payment_request_id", request.payment_request_id, required=True)
    checks.without_chinese("payment_request_id", request.payment_request_id)
    method_type = request.payment_method.payment_method_type
    checks.money("payment_amount", request.payment_amount, payment_method_type=method_type)
    check_order(request.order, checks)
    _check_payment_method(request, policy, checks)
    checks.url("payment_redirect_url", request.payment_redirect_url, required=True)
    checks.url("payment_notify_url", request.payment_notify_url)
    checks.currency("settlement_strategy.settlement_currency", request.settlement_currency)
    _check_expiry(request.payment_session_expiry_time, now, checks)
    _check_env(request.env or Env(), checks)
    checks.region("merchant_region", request.merchant_region)
    checks.region("user_region", request.user_region)
    checks.text("locale", request.locale, 8)
    _check_metadata(request, checks)
    checks.conclude()


def _check_payment_method(request: SessionRequest, policy: SessionPolicy, checks: Checks) -> None:
    method = request.payment_method
    path = "payment_method"
    checks.identifier(f"{path}.payment_method_type", method.payment_method_type, required=True)
    checks.text(f"{path}.payment_method_id", method.payment_method_id, 2048)
    if is_card_number(method.payment_method_id) or holds_card_number(method.payment_method_id):
        checks.fail(f"{path}.payment_method_id", "must be a token, never a card number")
    if method.card is not None:
        checks.text(f"{path}.card.payment_method_region", method.card.payment_method_region, 6)
        checks.text(f"{path}.card.selected_card_brand", method.card.selected_card_brand, 64)
    checks.one_of("payment_factor.capture_mode", request.capture_mode, "AUTOMATIC", "MANUAL")
    if method.payment_method_type == CARD:
        if policy.require_authorization_for_card and request.is_authorization is not True:
            checks.fail("payment_factor.is_authorization", "must be true for CARD")
        if request.order.buyer is None or not request.order.buyer.reference_buyer_id:
            checks.fail("order.buyer.reference_buyer_id", "is required for CARD")


def _check_expiry(expiry_time: datetime | None, now: datetime, checks: Checks) -> None:
    if expiry_time is not None and not now < expiry_time <= now + MAX_SESSION_LIFE:
        checks.fail("payment_session_expiry_time", "must be within the next hour")


def _check_env(env: Env, checks: Checks) -> None:
    checks.one_of("env.terminal_type", env.terminal_type, "WEB", "WAP", "APP", "MINI_APP")
    checks.one_of("env.os_type", env.os_type, "IOS", "ANDROID")
    if env.os_type and env.terminal_type == "WEB":
        checks.fail("env.os_type", "must not be set for WEB")
    checks.text("env.client_ip", env.client_ip, 64)
    checks.text("env.user_agent", env.user_agent, 1024)
    checks.text("env.device_token_id", env.device_token_id, 64)


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
