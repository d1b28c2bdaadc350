"""CreateSession's request to the domain. Pure.

The messages of the contract and the domain's classes have the same names and the same fields, which
a test holds them to: one rule reads them all. Limits are checked in `antom.messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from antom_payments import session
from antom_payments.grpc_api.convert import CAPTURE_MODES
from antom_payments.grpc_api.faults import Faults
from antom_payments.money import Money
from antom_payments.session import SessionRequest
from antom_payments.v1 import order_pb2, payment_pb2, payment_service_pb2

_FLAT: Final = frozenset({"PaymentFactor", "SettlementStrategy"})
"""Messages of one or two values, which are fields of the domain's request itself."""

CLASSES: Final[Mapping[str, type[Any]]] = {
    name: getattr(session, name) for name in set(order_pb2.DESCRIPTOR.message_types_by_name) - _FLAT
}
"""The domain's class of each message; one that is missing stops the import."""

_SAME_NAMES: Final = frozenset(field.name for field in fields(SessionRequest)) - {"metadata"}
_CAPTURE_MODES = {number: mode for mode, number in CAPTURE_MODES.items()}


def session_request(request: payment_service_pb2.CreateSessionRequest) -> SessionRequest:
    """What CreateSession is asked for; raises InvalidRequest."""
    faults = Faults()
    faults.check_merchant("merchant_account", request.merchant_account)
    for field in ("payment_amount", "order"):
        if not request.HasField(field):
            faults.add(field, "is required")
    factor = request.payment_factor
    capture_mode = _CAPTURE_MODES.get(factor.capture_mode)
    if capture_mode is None:
        faults.add("payment_factor.capture_mode", "is not a known value")
    values = {
        field.name: _value(field, request, field.name, faults)
        for field in request.DESCRIPTOR.fields
        if field.name in _SAME_NAMES
    }
    faults.conclude()
    return SessionRequest(
        **values,
        is_authorization=factor.is_authorization if factor.HasField("is_authorization") else None,
        capture_mode=capture_mode or "",
        settlement_currency=request.settlement_strategy.settlement_currency,
        metadata=dict(request.metadata),
    )


def _object(message: Message, path: str, faults: Faults) -> Any:
    """A message of the contract as the domain's object."""
    described = message.DESCRIPTOR
    return CLASSES[described.name](
        **{
            field.name: _value(field, message, f"{path}.{field.name}", faults)
            for field in described.fields
        }
    )


def _value(field: Any, message: Message, path: str, faults: Faults) -> Any:
    """What a field holds; None when it says whether it is set, and is not."""
    kind = field.message_type
    if field.is_repeated:
        listed = getattr(message, field.name)
        if kind is None:
            return tuple(listed)
        return tuple(_object(one, f"{path}[{index}]", faults) for index, one in enumerate(listed))
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if isinstance(value, payment_pb2.Money):
        return Money(value.currency_code, value.minor_units)
    if isinstance(value, Timestamp):
        return faults.time(path, message)
    return value if kind is None else _object(value, path, faults)
