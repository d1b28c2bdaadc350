"""What each field of a session request may hold (antom-api 3.10, 3.11).

Limits are Antom's; where its reference names none they are ours, and the contract says so. What
several fields together must hold is in `session`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from antom_payments.antom.messages.checks import Checks
from antom_payments.money import Money
from antom_payments.session import (
    Address,
    AvailablePaymentMethod,
    BrowserInfo,
    Buyer,
    CardMetadata,
    CreditPayPlan,
    CustomizedInfo,
    Declaration,
    DeliveryEstimateInfo,
    Env,
    Gaming,
    Goods,
    Leg,
    Lodging,
    Merchant,
    MpiData,
    Order,
    Passenger,
    PaymentMethod,
    PaymentMethodTypeItem,
    Quote,
    Shipping,
    Transit,
    UserName,
)

Rule = Callable[[Checks, str, Any], None]
"""Notes what is wrong with the value at a path."""

_CURRENCY_PAIR = re.compile(r"[A-Z]{3}/[A-Z]{3}")
_DECIMAL = re.compile(r"(?=.*[1-9])[0-9]{1,12}(\.[0-9]{1,12})?")


def text(limit: int, *, required: bool = False, prose: bool = False, chinese: bool = True) -> Rule:
    """A text of at most ``limit`` characters; see `Checks.text`."""

    def check(checks: Checks, path: str, value: str) -> None:
        checks.text(path, value, limit, required=required, prose=prose)
        if not chinese:
            checks.without_chinese(path, value)

    return check


def one_of(*choices: str) -> Rule:
    """A value of a closed list, or empty."""
    return lambda checks, path, value: checks.one_of(path, value, *choices)


def count(low: int, high: int = 2**31 - 1, *, required: bool = False) -> Rule:
    """A whole number within bounds; zero of a field that cannot be None means not said."""
    bounds = f"must be at least {low}" if high == 2**31 - 1 else f"must be {low} to {high}"

    def check(checks: Checks, path: str, value: int | None) -> None:
        is_said = value is not None and (value != 0 or low <= 0 or required)
        if value is not None and is_said and not low <= value <= high:
            checks.fail(path, bounds)

    return check


def many(limit: int) -> Rule:
    """A list of at most ``limit``."""

    def check(checks: Checks, path: str, value: tuple[object, ...]) -> None:
        if len(value) > limit:
            checks.fail(path, f"must be at most {limit}")

    return check


def required(checks: Checks, path: str, value: object) -> None:
    """Something must be there."""
    if value is None:
        checks.fail(path, "is required")


def card_region(checks: Checks, path: str, value: str) -> None:
    """A region of ISO 3166-1, or GLOBAL."""
    if value != "GLOBAL":
        checks.region(path, value)


def _matching(pattern: re.Pattern[str], description: str) -> Rule:
    def check(checks: Checks, path: str, value: str) -> None:
        if not value:
            checks.fail(path, "is required")
        elif not pattern.fullmatch(value):
            checks.fail(path, description)

    return check


def _identifier(checks: Checks, path: str, value: str) -> None:
    checks.identifier(path, value, required=True)
    checks.without_chinese(path, value)


def _method_type(checks: Checks, path: str, value: str) -> None:
    checks.identifier(path, value, required=True)


def _url(checks: Checks, path: str, value: str) -> None:
    checks.url(path, value)


def _token(checks: Checks, path: str, value: str) -> None:
    checks.token(path, value, 2048)


def _json_text(checks: Checks, path: str, value: str) -> None:
    checks.json_text(path, value, 2048)


def _region(checks: Checks, path: str, value: str) -> None:
    checks.region(path, value, required=True)


RULES: Mapping[type, Mapping[str, Rule]] = {
    UserName: {
        "first_name": text(32, required=True, prose=True),
        "middle_name": text(32, prose=True),
        "last_name": text(32, required=True, prose=True),
        "full_name": text(128, prose=True),
    },
    Address: {
        "region": _region,
        "state": text(8),
        "city": text(32, prose=True),
        "address1": text(256, prose=True),
        "address2": text(256, prose=True),
        "zip_code": text(32),
        "address3": text(256, prose=True),
        "label": text(64, prose=True),
    },
    Buyer: {
        "reference_buyer_id": text(64),
        "buyer_phone_no": text(24),
        "buyer_email": text(64),
        "successful_order_count": count(0),
        "buyer_phone_no_contry_code": text(7),
    },
    Goods: {
        "reference_goods_id": text(64, required=True, chinese=False),
        "goods_name": text(256, required=True, prose=True, chinese=False),
        "goods_category": text(64, prose=True, chinese=False),
        "goods_quantity": count(1),
        "goods_url": _url,
        "delivery_method_type": one_of("PHYSICAL", "DIGITAL"),
        "goods_brand": text(64, prose=True, chinese=False),
        "goods_sku_name": text(128, prose=True, chinese=False),
        "goods_image_url": _url,
        "price_id": text(64),
    },
    Shipping: {
        "shipping_carrier": text(128, prose=True),
        "shipping_phone_no": text(16),
        "ship_to_email": text(64),
        "shipping_fee_id": text(64),
        "shipping_description": text(64, prose=True),
        "shipping_number": text(64),
        "notes": text(256, prose=True),
    },
    DeliveryEstimateInfo: {
        "unit": text(32, required=True),
        "value": count(1, required=True),
    },
    Leg: {
        "carrier_name": text(128, prose=True),
        "carrier_no": text(64),
        "class_type": one_of("FIRSTLEVEL", "SECONDLEVEL", "THIRDLEVEL"),
        "departure_airport_code": text(8),
        "arrival_airport_code": text(8),
        "passenger_name_record": text(32),
    },
    Passenger: {"passenger_email": text(64), "passenger_phone_no": text(32)},
    Transit: {
        "transit_type": one_of("FLIGHT", "TRAIN", "CRUISE", "COACH"),
        "legs": many(10),
        "passengers": many(100),
    },
    Lodging: {
        "hotel_name": text(128, prose=True),
        "number_of_nights": count(1),
        "number_of_rooms": count(1),
        "guest_names": many(100),
    },
    Gaming: {
        "game_name": text(128, prose=True),
        "topped_up_user": text(128, prose=True),
        "topped_up_email": text(64),
        "topped_up_phone_no": text(32),
    },
    Merchant: {
        "reference_merchant_id": text(64),
        "merchant_mcc": text(32),
        "merchant_name": text(256, prose=True),
        "merchant_display_name": text(64, prose=True),
        "merchant_type": one_of("INDIVIDUAL", "ENTERPRISE"),
    },
    Declaration: {
        "declaration_biz_scene": one_of("AIRLINE", "HOTEL"),
        "declaration_beneficiary_id": text(64),
    },
    BrowserInfo: {
        "accept_header": text(2048),
        "language": text(32),
        "user_agent": text(1024),
    },
    Env: {
        "terminal_type": one_of("WEB", "WAP", "APP", "MINI_APP"),
        "os_type": one_of("IOS", "ANDROID"),
        "client_ip": text(64),
        "user_agent": text(1024),
        "device_token_id": text(64),
        "device_id": text(64),
        "device_language": text(32),
        "device_brand": text(64),
        "device_model": text(128),
        "os_version": text(64),
        "cookie_id": text(256),
        "extend_info": _json_text,
        "color_depth": count(1),
        "screen_height": count(1),
        "screen_width": count(1),
        "time_zone_offset": count(-840, 720),
    },
    Order: {
        "reference_order_id": _identifier,
        "order_description": text(256, required=True, prose=True, chinese=False),
        "order_amount": required,
        "goods": many(100),
        "extend_info": _json_text,
        "order_type": text(64),
    },
    MpiData: {
        "three_ds_version": text(16, required=True),
        "eci": text(2, required=True),
        "cavv": text(64),
        "ds_transaction_id": text(64),
    },
    CardMetadata: {
        "payment_method_region": card_region,
        "selected_card_brand": text(64),
        "recurring_type": one_of("SCHEDULED", "UNSCHEDULED"),
        "network_transaction_id": text(100),
        "payer_email": text(64),
        "cpf": text(11),
    },
    PaymentMethod: {
        "payment_method_type": _method_type,
        "payment_method_id": _token,
        "customer_id": text(64),
        "extend_info": _json_text,
        "funding": one_of("CREDIT", "DEBIT", "PREPAID", "CHARGE", "DEFERRED_DEBIT"),
    },
    PaymentMethodTypeItem: {
        "payment_method_type": _method_type,
        "payment_method_order": count(1),
    },
    AvailablePaymentMethod: {"payment_method_type_list": many(100)},
    CreditPayPlan: {
        "installment_num": count(2, 12, required=True),
        "interval": text(16),
        "credit_pay_fee_type": one_of("PERCENTAGE"),
        "fee_percentage": count(0, 100),
    },
    Quote: {
        "quote_id": text(64),
        "quote_currency_pair": _matching(
            _CURRENCY_PAIR, "must be two ISO 4217 codes with a slash, such as USD/SGD"
        ),
        "quote_price": _matching(
            _DECIMAL, "must be a decimal number greater than zero, such as 1.3475"
        ),
    },
    CustomizedInfo: {f"customized_field{number}": text(256, prose=True) for number in range(1, 6)},
}
"""By object and field. Amounts have one rule everywhere, and times and booleans none."""

_MOST_LOOKED_AT = 100
"""No list may be longer; what is beyond its limit is not looked at."""


def check_object(path: str, value: object, checks: Checks) -> None:
    """Note in ``checks`` what is wrong with an object and everything in it; None is not said."""
    if value is None:
        return
    if isinstance(value, Money):
        checks.money(path, value)
        return
    if isinstance(value, tuple):
        for index, one in enumerate(value[:_MOST_LOOKED_AT]):
            check_object(f"{path}[{index}]", one, checks)
        return
    if not is_dataclass(value):
        return
    rules = RULES.get(type(value), {})
    for field in fields(value):
        inner, inner_path = getattr(value, field.name), f"{path}.{field.name}"
        if field.name in rules:
            rules[field.name](checks, inner_path, inner)
        check_object(inner_path, inner, checks)
