"""What a payment session is asked with, and what it is: Antom's createPaymentSession in our types.

Field names are Antom's in snake_case (antom-api 3.1, 3.10, 3.11), and those of the contract's
messages. Empty text, zero and None mean "not said", but for zero of a field that may be None.
These hold personal data and tokens: they are stored encrypted, never logged, and what they hold is
in no repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from antom_payments.money import Money


@dataclass(frozen=True, slots=True, repr=False)
class UserName:
    """A person's name."""

    first_name: str = ""
    middle_name: str = ""
    last_name: str = ""
    full_name: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A postal address."""

    region: str = ""
    state: str = ""
    city: str = ""
    address1: str = ""
    address2: str = ""
    zip_code: str = ""
    address3: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Buyer:
    """Who pays."""

    reference_buyer_id: str = ""
    buyer_name: UserName | None = None
    buyer_phone_no: str = ""
    buyer_email: str = ""
    buyer_registration_time: datetime | None = None
    is_account_verified: bool | None = None
    successful_order_count: int | None = None
    buyer_phone_no_contry_code: str = ""
    """Antom's spelling (antom-api 2.2)."""


@dataclass(frozen=True, slots=True)
class Goods:
    """One position of the order."""

    reference_goods_id: str = ""
    goods_name: str = ""
    goods_category: str = ""
    goods_unit_amount: Money | None = None
    goods_quantity: int = 0
    goods_url: str = ""
    delivery_method_type: str = ""
    goods_brand: str = ""
    goods_sku_name: str = ""
    goods_image_url: str = ""
    price_id: str = ""
    goods_discount_amount: Money | None = None


@dataclass(frozen=True, slots=True)
class DeliveryEstimateInfo:
    """A stretch of time."""

    unit: str = ""
    value: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryEstimate:
    """How long shipping takes."""

    minimum: DeliveryEstimateInfo | None = None
    maximum: DeliveryEstimateInfo | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Shipping:
    """Where the order is sent."""

    shipping_name: UserName | None = None
    shipping_address: Address | None = None
    shipping_carrier: str = ""
    shipping_phone_no: str = ""
    ship_to_email: str = ""
    shipping_fee_id: str = ""
    shipping_fee: Money | None = None
    shipping_description: str = ""
    delivery_estimate: DeliveryEstimate | None = None
    shipping_number: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a journey."""

    departure_time: datetime | None = None
    arrival_time: datetime | None = None
    departure_address: Address | None = None
    arrival_address: Address | None = None
    carrier_name: str = ""
    carrier_no: str = ""
    class_type: str = ""
    departure_airport_code: str = ""
    arrival_airport_code: str = ""
    passenger_name_record: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Passenger:
    """Who travels."""

    passenger_name: UserName | None = None
    passenger_email: str = ""
    passenger_phone_no: str = ""


@dataclass(frozen=True, slots=True)
class Transit:
    """Journeys that are paid for."""

    transit_type: str = ""
    legs: tuple[Leg, ...] = ()
    passengers: tuple[Passenger, ...] = ()


@dataclass(frozen=True, slots=True)
class Lodging:
    """A stay that is paid for."""

    hotel_name: str = ""
    hotel_address: Address | None = None
    check_in_date: datetime | None = None
    check_out_date: datetime | None = None
    number_of_nights: int = 0
    number_of_rooms: int = 0
    guest_names: tuple[UserName, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Gaming:
    """What is topped up, and for whom."""

    game_name: str = ""
    topped_up_user: str = ""
    topped_up_email: str = ""
    topped_up_phone_no: str = ""


@dataclass(frozen=True, slots=True)
class Merchant:
    """A sub-merchant of an acquirer."""

    reference_merchant_id: str = ""
    merchant_mcc: str = ""
    merchant_name: str = ""
    merchant_display_name: str = ""
    merchant_address: Address | None = None
    merchant_register_date: datetime | None = None
    merchant_type: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """For whom an order is declared to an authority."""

    declaration_biz_scene: str = ""
    declaration_beneficiary_id: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class BrowserInfo:
    """The buyer's browser."""

    accept_header: str = ""
    java_enabled: bool | None = None
    java_script_enabled: bool | None = None
    language: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Env:
    """The buyer's device."""

    terminal_type: str = ""
    os_type: str = ""
    client_ip: str = ""
    user_agent: str = ""
    device_token_id: str = ""
    device_id: str = ""
    device_language: str = ""
    device_brand: str = ""
    device_model: str = ""
    os_version: str = ""
    cookie_id: str = ""
    extend_info: str = ""
    browser_info: BrowserInfo | None = None
    color_depth: int = 0
    screen_height: int = 0
    screen_width: int = 0
    time_zone_offset: int | None = None
    """Minutes from local time to UTC: UTC+2 is -120."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is paid for."""

    reference_order_id: str = ""
    order_description: str = ""
    order_amount: Money | None = None
    buyer: Buyer | None = None
    goods: tuple[Goods, ...] = ()
    shipping: Shipping | None = None
    transit: Transit | None = None
    lodging: Lodging | None = None
    gaming: Gaming | None = None
    merchant: Merchant | None = None
    env: Env | None = None
    order_discount_amount: Money | None = None
    sub_total_order_amount: Money | None = None
    extend_info: str = field(default="", repr=False)
    need_declaration: bool | None = None
    declaration: Declaration | None = None
    order_type: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class MpiData:
    """Result of a 3D Secure run that was made elsewhere; secrets of the payment."""

    three_ds_version: str = ""
    eci: str = ""
    cavv: str = ""
    ds_transaction_id: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class CardMetadata:
    """More about a card payment, without card data."""

    is_3ds_authentication: bool | None = None
    enable_authentication_upgrade: bool | None = None
    payment_method_region: str = ""
    is_card_on_file: bool | None = None
    selected_card_brand: str = ""
    recurring_type: str = ""
    network_transaction_id: str = ""
    mpi_data: MpiData | None = None
    billing_address: Address | None = None
    payer_email: str = ""
    cpf: str = ""
    cardholder_name: UserName | None = None


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """How the buyer pays; `payment_method_id` is a token and a secret."""

    payment_method_type: str = ""
    payment_method_id: str = field(default="", repr=False)
    card: CardMetadata | None = None
    customer_id: str = field(default="", repr=False)
    extend_info: str = field(default="", repr=False)
    funding: str = ""
    require_issuer_authentication: bool | None = None


@dataclass(frozen=True, slots=True)
class PaymentMethodTypeItem:
    """One payment method to choose."""

    payment_method_type: str = ""
    payment_method_order: int = 0
    express_checkout: bool | None = None


@dataclass(frozen=True, slots=True)
class AvailablePaymentMethod:
    """Which payment methods the buyer may choose from, and in which order."""

    payment_method_type_list: tuple[PaymentMethodTypeItem, ...] = ()
    card: CardMetadata | None = None


@dataclass(frozen=True, slots=True)
class CreditPayPlan:
    """An instalment plan that the buyer chose."""

    installment_num: int = 0
    interval: str = ""
    credit_pay_fee_type: str = ""
    fee_percentage: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A rate of exchange that the merchant locked; `quote_price` is a decimal number as text."""

    quote_id: str = ""
    quote_currency_pair: str = ""
    quote_price: str = ""
    quote_start_time: datetime | None = None
    quote_expiry_time: datetime | None = None
    guaranteed: bool | None = None


@dataclass(frozen=True, slots=True)
class CustomizedInfo:
    """The merchant's own five fields on Antom's side."""

    customized_field1: str = ""
    customized_field2: str = ""
    customized_field3: str = ""
    customized_field4: str = ""
    customized_field5: str = ""


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Everything that CreateSession takes."""

    payment_request_id: str
    payment_amount: Money
    order: Order
    payment_method: PaymentMethod | None
    """None on the hosted page alone, where the buyer chooses."""
    payment_redirect_url: str = field(repr=False)
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
    """The caller's own, never sent to Antom."""
    product_scene: str = ""
    payment_expiry_time: datetime | None = None
    credit_pay_plan: CreditPayPlan | None = None
    enable_installment_collection: bool | None = None
    allowed_payment_method_regions: tuple[str, ...] = ()
    available_payment_method: AvailablePaymentMethod | None = None
    saved_payment_methods: tuple[PaymentMethod, ...] = ()
    antom_metadata: str = field(default="", repr=False)
    """Sent as Antom's `metadata`."""
    customized_info: CustomizedInfo | None = None
    payment_quote: Quote | None = None
    processing_amount: Money | None = None
    merchant_account_id: str = ""

    @property
    def payment_method_type(self) -> str:
        """The method that was asked for; empty where the buyer chooses."""
        return self.payment_method.payment_method_type if self.payment_method else ""

    @property
    def capture_expected(self) -> bool | None:
        """Whether a capture follows, as far as the request says; None when it cannot know.

        Never because the method is called CARD (design 7); where the buyer chooses, Antom is asked.
        """
        if self.is_authorization is None and self.payment_method is None:
            return None
        return bool(self.is_authorization)


@dataclass(frozen=True, slots=True)
class Session:
    """What the front end's SDK needs; a secret of the buyer's session."""

    payment_session_data: str = field(repr=False)
    payment_session_id: str = field(repr=False)
    payment_session_expiry_time: datetime | None = None
    normal_url: str = field(default="", repr=False)
