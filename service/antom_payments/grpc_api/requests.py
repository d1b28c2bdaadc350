"""From protobuf to the domain, with the limits that are ours. Pure.

Every wrong field is named, by its path. Limits of Antom, and those of metadata, are checked where
Antom's messages are made (`antom.messages`), once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import Message

from antom_payments.errors import FieldViolation, InvalidRequest
from antom_payments.event_stream import AfterCursor, Earliest, Latest, Start
from antom_payments.grpc_api.convert import CAPTURE_MODES, EVENT_TYPES
from antom_payments.money import Money
from antom_payments.payment import EventType
from antom_payments.service import PaymentKey
from antom_payments.session import (
    Address,
    Buyer,
    CardMetadata,
    Env,
    Goods,
    Order,
    PaymentMethod,
    SessionRequest,
    Shipping,
    UserName,
)
from antom_payments.v1 import order_pb2, payment_pb2, payment_service_pb2

MAX_FILTER_VALUES = 100
"""Most merchants, and most payments, that one stream can name."""
MAX_ID = 64
"""Characters of an id, Antom's and ours."""
MAX_CURSOR = 512
"""Characters of a cursor. Ours have 46; later versions may need more."""

# Also keeps U+0000 from a database that cannot store it.
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_EVENT_TYPES = {number: kind for kind, number in EVENT_TYPES.items()}
_CAPTURE_MODES = {number: mode for mode, number in CAPTURE_MODES.items()}
_READ_MODES = {
    payment_service_pb2.READ_MODE_UNSPECIFIED: False,
    payment_service_pb2.READ_MODE_STORED: False,
    payment_service_pb2.READ_MODE_FRESH: True,
}


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A subscription as asked for; None means no restriction."""

    start: Start
    merchant_accounts: frozenset[str]
    payment_request_ids: frozenset[str] | None
    types: frozenset[EventType] | None
    final_states_only: bool


class _Faults:
    """The wrong fields of one request."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        self._found.append(FieldViolation(field, description))

    def check_id(self, field: str, text: str) -> None:
        if len(text) > MAX_ID or not _VISIBLE_ASCII.fullmatch(text):
            self.add(field, f"must be 1 to {MAX_ID} visible ASCII characters")

    def check_merchant(self, field: str, text: str) -> None:
        """As an id, or empty: the only merchant configured."""
        if text:
            self.check_id(field, text)

    def time(self, field: str, message: Message) -> datetime | None:
        """The time in the last part of ``field``, None when not set."""
        name = field.rpartition(".")[2]
        if not message.HasField(name):
            return None
        try:
            time: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.add(field, "must be a time from year 1 to 9999, with nanos from 0 to 999,999,999")
            return None
        return time

    def conclude(self) -> None:
        """Raise InvalidRequest when something was wrong."""
        if self._found:
            raise InvalidRequest(self._found)


def session_request(request: payment_service_pb2.CreateSessionRequest) -> SessionRequest:
    """What CreateSession is asked for; raises InvalidRequest."""
    faults = _Faults()
    faults.check_merchant("merchant_account", request.merchant_account)
    for field in ("payment_amount", "order", "payment_method"):
        if not request.HasField(field):
            faults.add(field, "is required")
    factor = request.payment_factor
    capture_mode = _CAPTURE_MODES.get(factor.capture_mode)
    if capture_mode is None:
        faults.add("payment_factor.capture_mode", "is not a known value")
    expiry_time = faults.time("payment_session_expiry_time", request)
    order = _order(request.order, faults)
    faults.conclude()
    return SessionRequest(
        merchant_account=request.merchant_account,
        payment_request_id=request.payment_request_id,
        payment_amount=_money(request.payment_amount),
        order=order,
        payment_method=_payment_method(request.payment_method),
        payment_redirect_url=request.payment_redirect_url,
        is_authorization=_optional_bool(factor, "is_authorization"),
        capture_mode=capture_mode or "",
        payment_notify_url=request.payment_notify_url,
        settlement_currency=request.settlement_strategy.settlement_currency,
        payment_session_expiry_time=expiry_time,
        env=_env(request.env) if request.HasField("env") else None,
        merchant_region=request.merchant_region,
        user_region=request.user_region,
        locale=request.locale,
        metadata=dict(request.metadata),
    )


def payment_key(request: payment_service_pb2.GetPaymentRequest) -> PaymentKey:
    """Which payment GetPayment is asked for; raises InvalidRequest."""
    faults = _Faults()
    faults.check_merchant("merchant_account", request.merchant_account)
    key = request.WhichOneof("key")
    if key is None:
        faults.add("key", "payment_request_id, payment_id or reference_order_id is required")
    else:
        faults.check_id(key, getattr(request, key))
    if request.read_mode not in _READ_MODES:
        faults.add("read_mode", "is not a known value")
    faults.conclude()
    return PaymentKey(
        merchant_account=request.merchant_account,
        payment_request_id=request.payment_request_id,
        payment_id=request.payment_id,
        reference_order_id=request.reference_order_id,
    )


def wants_fresh(request: payment_service_pb2.GetPaymentRequest) -> bool:
    """Whether Antom is to be asked first; after `payment_key` has checked the request."""
    return _READ_MODES[request.read_mode]


def stream_request(request: payment_service_pb2.StreamPaymentEventsRequest) -> StreamRequest:
    """What StreamPaymentEvents is asked for; raises InvalidRequest."""
    faults = _Faults()
    start = _start(request, faults)
    for field in ("merchant_accounts", "payment_request_ids"):
        if len(getattr(request, field)) > MAX_FILTER_VALUES:
            faults.add(field, f"must be at most {MAX_FILTER_VALUES}")
    for index, text in enumerate(request.merchant_accounts[:MAX_FILTER_VALUES]):
        faults.check_id(f"merchant_accounts[{index}]", text)
    for index, text in enumerate(request.payment_request_ids[:MAX_FILTER_VALUES]):
        faults.check_id(f"payment_request_ids[{index}]", text)
    types = {_EVENT_TYPES.get(number) for number in request.event_types}
    if None in types:
        # Ignoring one would widen the filter to everything, or narrow it without a word.
        faults.add("event_types", "unspecified and unknown values are refused")
    faults.conclude()
    return StreamRequest(
        start=start,
        merchant_accounts=frozenset(request.merchant_accounts),
        payment_request_ids=frozenset(request.payment_request_ids) or None,
        types=frozenset(kind for kind in types if kind) or None,
        final_states_only=request.final_states_only,
    )


def _start(request: payment_service_pb2.StreamPaymentEventsRequest, faults: _Faults) -> Start:
    match request.WhichOneof("start"):
        case "after_cursor":
            if not 0 < len(request.after_cursor) <= MAX_CURSOR:
                faults.add("after_cursor", f"must be 1 to {MAX_CURSOR} characters")
            return AfterCursor(request.after_cursor)
        case "earliest":
            return Earliest()
        case "latest":
            return Latest()
        case _:
            faults.add("start", "after_cursor, earliest or latest is required")
            return Latest()


def _money(money: payment_pb2.Money) -> Money:
    return Money(money.currency_code, money.minor_units)


def _optional_money(message: Message, field: str) -> Money | None:
    return _money(getattr(message, field)) if message.HasField(field) else None


def _optional_bool(message: Message, field: str) -> bool | None:
    return bool(getattr(message, field)) if message.HasField(field) else None


def _order(order: order_pb2.Order, faults: _Faults) -> Order:
    return Order(
        reference_order_id=order.reference_order_id,
        order_description=order.order_description,
        order_amount=_optional_money(order, "order_amount"),
        buyer=_buyer(order.buyer, faults) if order.HasField("buyer") else None,
        goods=tuple(_goods(goods) for goods in order.goods),
        shipping=_shipping(order.shipping) if order.HasField("shipping") else None,
    )


def _buyer(buyer: order_pb2.Buyer, faults: _Faults) -> Buyer:
    return Buyer(
        reference_buyer_id=buyer.reference_buyer_id,
        buyer_name=_name(buyer.buyer_name) if buyer.HasField("buyer_name") else None,
        buyer_phone_no=buyer.buyer_phone_no,
        buyer_email=buyer.buyer_email,
        buyer_registration_time=faults.time("order.buyer.buyer_registration_time", buyer),
    )


def _name(name: order_pb2.UserName) -> UserName:
    return UserName(
        first_name=name.first_name,
        middle_name=name.middle_name,
        last_name=name.last_name,
        full_name=name.full_name,
    )


def _goods(goods: order_pb2.Goods) -> Goods:
    return Goods(
        reference_goods_id=goods.reference_goods_id,
        goods_name=goods.goods_name,
        goods_category=goods.goods_category,
        goods_unit_amount=_optional_money(goods, "goods_unit_amount"),
        goods_quantity=goods.goods_quantity,
        goods_url=goods.goods_url,
        delivery_method_type=goods.delivery_method_type,
    )


def _shipping(shipping: order_pb2.Shipping) -> Shipping:
    address = shipping.shipping_address
    return Shipping(
        shipping_name=(
            _name(shipping.shipping_name) if shipping.HasField("shipping_name") else None
        ),
        shipping_address=(_address(address) if shipping.HasField("shipping_address") else None),
        shipping_carrier=shipping.shipping_carrier,
        shipping_phone_no=shipping.shipping_phone_no,
        ship_to_email=shipping.ship_to_email,
    )


def _address(address: order_pb2.Address) -> Address:
    return Address(
        region=address.region,
        state=address.state,
        city=address.city,
        address1=address.address1,
        address2=address.address2,
        zip_code=address.zip_code,
    )


def _payment_method(method: order_pb2.PaymentMethod) -> PaymentMethod:
    return PaymentMethod(
        payment_method_type=method.payment_method_type,
        payment_method_id=method.payment_method_id,
        card=_card(method.card) if method.HasField("card") else None,
    )


def _card(card: order_pb2.CardMetadata) -> CardMetadata:
    return CardMetadata(
        is_3ds_authentication=_optional_bool(card, "is_3ds_authentication"),
        enable_authentication_upgrade=_optional_bool(card, "enable_authentication_upgrade"),
        payment_method_region=card.payment_method_region,
        is_card_on_file=_optional_bool(card, "is_card_on_file"),
        selected_card_brand=card.selected_card_brand,
    )


def _env(env: order_pb2.Env) -> Env:
    return Env(
        terminal_type=env.terminal_type,
        os_type=env.os_type,
        client_ip=env.client_ip,
        user_agent=env.user_agent,
        device_token_id=env.device_token_id,
    )
