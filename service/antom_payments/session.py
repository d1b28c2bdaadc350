"""What a payment session is asked with, and what it is: Antom's createPaymentSession in our types.

Field names are Antom's in snake_case (antom-api 3.1, 3.10, 3.11). Empty text and None mean "not
said". These hold personal data and tokens: they are stored encrypted and never logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from antom_payments.money import Money


@dataclass(frozen=True, slots=True)
class UserName:
    """A person's name."""

    first_name: str = ""
    middle_name: str = ""
    last_name: str = ""
    full_name: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address."""

    region: str = ""
    state: str = ""
    city: str = ""
    address1: str = ""
    address2: str = ""
    zip_code: str = ""


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who pays."""

    reference_buyer_id: str = ""
    buyer_name: UserName | None = None
    buyer_phone_no: str = ""
    buyer_email: str = ""
    buyer_registration_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Goods:
    """One position of the order; `goods_quantity` 0 means not said."""

    reference_goods_id: str = ""
    goods_name: str = ""
    goods_category: str = ""
    goods_unit_amount: Money | None = None
    goods_quantity: int = 0
    goods_url: str = ""
    delivery_method_type: str = ""


@dataclass(frozen=True, slots=True)
class Shipping:
    """Where the order is sent."""

    shipping_name: UserName | None = None
    shipping_address: Address | None = None
    shipping_carrier: str = ""
    shipping_phone_no: str = ""
    ship_to_email: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What is paid for."""

    reference_order_id: str = ""
    order_description: str = ""
    order_amount: Money | None = None
    buyer: Buyer | None = None
    goods: tuple[Goods, ...] = ()
    shipping: Shipping | None = None


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """More about a card payment, without card data."""

    is_3ds_authentication: bool | None = None
    enable_authentication_upgrade: bool | None = None
    payment_method_region: str = ""
    is_card_on_file: bool | None = None
    selected_card_brand: str = ""


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """How the buyer pays; `payment_method_id` is a token and a secret."""

    payment_method_type: str = ""
    payment_method_id: str = field(default="", repr=False)
    card: CardMetadata | None = None


@dataclass(frozen=True, slots=True)
class Env:
    """The buyer's device."""

    terminal_type: str = ""
    os_type: str = ""
    client_ip: str = ""
    user_agent: str = ""
    device_token_id: str = ""


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Everything that CreateSession takes."""

    payment_request_id: str
    payment_amount: Money
    order: Order
    payment_method: PaymentMethod
    payment_redirect_url: str
    merchant_account: str = ""
    is_authorization: bool | None = None
    capture_mode: str = ""
    """AUTOMATIC, MANUAL or empty."""
    payment_notify_url: str = ""
    settlement_currency: str = ""
    payment_session_expiry_time: datetime | None = None
    env: Env | None = None
    merchant_region: str = ""
    user_region: str = ""
    locale: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """What the front end's SDK needs; a secret of the buyer's session."""

    payment_session_data: str = field(repr=False)
    payment_session_id: str = field(repr=False)
    payment_session_expiry_time: datetime | None = None
    normal_url: str = field(default="", repr=False)
