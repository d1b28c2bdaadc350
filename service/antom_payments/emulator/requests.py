"""What merchants send: the documented fields, strictly.

Required fields, lengths and types are those of antom-api 3.1, 3.3, 3.10 and 3.11, so that what the
emulator refuses is a bug of its caller. Unknown fields are ignored: Antom adds some every month.
Scalars may come as JSON texts or in their own type, as in Antom's documentation and its samples.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from antom_payments.emulator.results import PARAM_ILLEGAL, Refused
from antom_payments.emulator.times import parse_time

_MOST_FAULTS_TOLD = 3
_CURRENCY = re.compile(r"[A-Z]{3}")
_VALUE = re.compile(r"[1-9][0-9]{0,15}")
# antom-api 8: the amounts that Antom refuses by currency and method.
_STEPS = {("TWD", "JKOPAY"): 100, ("HKD", "OCTOPUS"): 10}


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError('must be true or false, or "true" or "false"')


def _count(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be an integer, or its digits as a text")


def _digits(value: object) -> object:
    """An amount's value as text; an integer is taken, a float never is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _smallest_units(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise ValueError("must be a positive integer of the smallest unit, at most 16 digits")
    return value


def _currency(value: str) -> str:
    if not _CURRENCY.fullmatch(value):
        raise ValueError("must be three capital letters (ISO 4217)")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_count), Field(ge=1)]
Time = Annotated[datetime, BeforeValidator(parse_time)]
Region = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Url = Annotated[
    str, StringConstraints(max_length=2048, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/]\S*$")
]
HttpUrl = Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://[^\s/]\S*$")]
Text2 = Annotated[str, StringConstraints(max_length=2)]
Text8 = Annotated[str, StringConstraints(max_length=8)]
Text16 = Annotated[str, StringConstraints(max_length=16)]
Text24 = Annotated[str, StringConstraints(max_length=24)]
Text32 = Annotated[str, StringConstraints(max_length=32)]
Text64 = Annotated[str, StringConstraints(max_length=64)]
Text128 = Annotated[str, StringConstraints(max_length=128)]
Text256 = Annotated[str, StringConstraints(max_length=256)]
Text2048 = Annotated[str, StringConstraints(max_length=2048)]
Needed32 = Annotated[str, StringConstraints(min_length=1, max_length=32)]
Needed64 = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Needed256 = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Message(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class Amount(_Message):
    """An integer of the currency's smallest unit, as text."""

    currency: Annotated[str, AfterValidator(_currency)]
    value: Annotated[str, BeforeValidator(_digits), AfterValidator(_smallest_units)]

    @model_validator(mode="after")
    def _ends_as_the_currency_does(self) -> Amount:
        if self.currency == "IDR" and not self.value.endswith("00"):
            raise ValueError("in IDR the value must end in 00")
        return self

    def json_form(self) -> dict[str, str]:
        """As it stands in a message."""
        return {"currency": self.currency, "value": self.value}


class UserName(_Message):
    """A person's name."""

    first_name: Needed32
    last_name: Needed32
    middle_name: Text32 | None = None
    full_name: Text128 | None = None


class Address(_Message):
    """A postal address."""

    region: Region
    state: Text8 | None = None
    city: Text32 | None = None
    address1: Text256 | None = None
    address2: Text256 | None = None
    zip_code: Text32 | None = None


class Buyer(_Message):
    """Who pays."""

    reference_buyer_id: Text64 | None = None
    buyer_name: UserName | None = None
    buyer_phone_no: Text24 | None = None
    buyer_email: Text64 | None = None
    buyer_registration_time: Time | None = None


class Goods(_Message):
    """One position of an order."""

    reference_goods_id: Needed64
    goods_name: Needed256
    goods_category: Text64 | None = None
    goods_unit_amount: Amount | None = None
    goods_quantity: Count | None = None
    goods_url: Text2048 | None = None
    delivery_method_type: Literal["PHYSICAL", "DIGITAL", ""] | None = None


class Shipping(_Message):
    """Where an order is sent."""

    shipping_name: UserName | None = None
    shipping_address: Address | None = None
    shipping_carrier: Text128 | None = None
    shipping_phone_no: Text16 | None = None
    ship_to_email: Text64 | None = None


class Env(_Message):
    """The buyer's device."""

    terminal_type: Literal["WEB", "WAP", "APP", "MINI_APP", ""] | None = None
    os_type: Literal["IOS", "ANDROID", ""] | None = None
    client_ip: Text64 | None = None
    device_token_id: Text64 | None = None


class Order(_Message):
    """What is paid for. Antom does not compare its amount with the payment's."""

    reference_order_id: Needed64
    order_description: Needed256
    order_amount: Amount
    buyer: Buyer | None = None
    goods: Annotated[tuple[Goods, ...], Field(max_length=100)] | None = None
    shipping: Shipping | None = None
    env: Env | None = None


class CardMetadata(_Message):
    """More about a card payment; card numbers in it would be ignored."""

    is_3ds_authentication: Annotated[Flag | None, Field(alias="is3DSAuthentication")] = None
    enable_authentication_upgrade: Flag | None = None
    is_card_on_file: Flag | None = None
    payment_method_region: Annotated[str, StringConstraints(max_length=6)] | None = None
    selected_card_brand: Text64 | None = None


class PaymentMethod(_Message):
    """How the buyer pays."""

    payment_method_type: Needed64
    # 128 in one place, 2048 for the same tokens in another (antom-api 3.11): the longer is taken.
    payment_method_id: Annotated[Text2048 | None, Field(repr=False)] = None
    payment_method_meta_data: CardMetadata | None = None


class PaymentFactor(_Message):
    """Authorise first, and who captures."""

    is_authorization: Flag | None = None
    capture_mode: Literal["AUTOMATIC", "MANUAL", ""] | None = None


class SettlementStrategy(_Message):
    """What the merchant gets."""

    settlement_currency: Annotated[str, AfterValidator(_currency)] | None = None


class SessionRequest(_Message):
    """createPaymentSession of a Checkout Payment."""

    product_code: Literal["CASHIER_PAYMENT"]
    payment_request_id: Needed64
    order: Order
    payment_amount: Amount
    payment_redirect_url: Url
    payment_method: PaymentMethod | None = None
    payment_notify_url: HttpUrl | None = None
    settlement_strategy: SettlementStrategy | None = None
    payment_factor: PaymentFactor | None = None
    product_scene: Literal["CHECKOUT_PAYMENT", "ELEMENT_PAYMENT", "EASY_PAY", ""] | None = None
    payment_session_expiry_time: Time | None = None
    env: Env | None = None
    merchant_region: Text2 | None = None
    user_region: Text2 | None = None
    locale: Text8 | None = None
    metadata: Text2048 | None = None
    merchant_account_id: Text32 | None = None

    @property
    def payment_method_type(self) -> str:
        """Empty on a hosted page, where the buyer chooses."""
        return self.payment_method.payment_method_type if self.payment_method else ""

    @property
    def authorises(self) -> bool:
        """Whether a capture follows a card's authorisation."""
        return bool(self.payment_factor and self.payment_factor.is_authorization)

    @property
    def captures_itself(self) -> bool:
        """Whether Antom captures at once; it does unless told MANUAL."""
        return not (self.payment_factor and self.payment_factor.capture_mode == "MANUAL")

    @model_validator(mode="after")
    def _method_is_known_or_left_to_the_page(self) -> SessionRequest:
        if self.payment_method is None and self.product_scene != "CHECKOUT_PAYMENT":
            raise ValueError(
                "paymentMethod: Field required unless productScene is CHECKOUT_PAYMENT"
            )
        return self

    @model_validator(mode="after")
    def _card_names_its_buyer(self) -> SessionRequest:
        buyer = self.order.buyer
        if self.payment_method_type == "CARD" and not (buyer and buyer.reference_buyer_id):
            raise ValueError("order.buyer.referenceBuyerId: Field required for CARD")
        return self

    @model_validator(mode="after")
    def _amount_suits_the_method(self) -> SessionRequest:
        amount = self.payment_amount
        step = _STEPS.get((amount.currency, self.payment_method_type), 1)
        if int(amount.value) % step:
            raise ValueError(f"paymentAmount.value: must be a multiple of {step}")
        return self

    def differs_from(self, other: SessionRequest) -> str:
        """The first key field in which a repeated request differs, or nothing (antom-api 5.6)."""
        fields = {
            "paymentAmount": (self.payment_amount, other.payment_amount),
            "paymentMethodType": (self.payment_method_type, other.payment_method_type),
            "paymentMethodId": (
                self.payment_method and self.payment_method.payment_method_id,
                other.payment_method and other.payment_method.payment_method_id,
            ),
        }
        return next((name for name, (ours, theirs) in fields.items() if ours != theirs), "")


class InquiryRequest(_Message):
    """inquiryPayment: at least one id; `payment_id` wins."""

    payment_request_id: Text64 | None = None
    payment_id: Text64 | None = None
    merchant_account_id: Text32 | None = None

    @model_validator(mode="after")
    def _names_a_payment(self) -> InquiryRequest:
        if not (self.payment_request_id or self.payment_id):
            raise ValueError("paymentRequestId and paymentId must not both be empty")
        return self


class NamedPayment(_Message):
    """The ids in a request of any operation; empty where there is none."""

    payment_request_id: str = ""
    payment_id: str = ""


def named_payment(body: bytes) -> NamedPayment:
    """The payment that a request is about, however wrong the rest of it is."""
    try:
        return NamedPayment.model_validate_json(body)
    except ValidationError:
        return NamedPayment()


Request = TypeVar("Request", bound=BaseModel)


def parse(model: type[Request], body: bytes) -> Request:
    """``body`` as ``model``; raises Refused with PARAM_ILLEGAL, which names the faults."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(PARAM_ILLEGAL.because(faults_of(error))) from None


def faults_of(error: ValidationError) -> str:
    """What is wrong and where, without the values: they may be personal."""
    told = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False)[
        :_MOST_FAULTS_TOLD
    ]:
        path = ".".join(str(part) for part in fault["loc"])
        text = fault["msg"].removeprefix("Value error, ")
        told.append(f"{path}: {text}" if path else text)
    return "; ".join(told)
