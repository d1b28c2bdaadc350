"""Each field of Antom's createPaymentSession, and ours, or why there is none.

The names are those of the reference, in `golden/antom/fields.json`, by its section and object. A
field that stands in neither mapping below is ours under the same name, in snake_case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import Descriptor

from antom_payments.v1 import order_pb2, payment_pb2, payment_service_pb2

_NAMES = Path(__file__).parent / "golden" / "antom" / "fields.json"

_MESSAGES: Final = {
    "createPaymentSession": payment_service_pb2.CreateSessionRequest.DESCRIPTOR,
    "paymentMethodMetaData": order_pb2.CardMetadata.DESCRIPTOR,
    "Amount": payment_pb2.Money.DESCRIPTOR,
}
"""Our messages whose names are not Antom's."""

_RENAMED: Final = {
    ("createPaymentSession", "metadata"): "antom_metadata",
    ("PaymentMethod", "paymentMethodMetaData"): "card",
    ("AvailablePaymentMethod", "paymentMethodMetaData"): "card",
    ("Merchant", "merchantMCC"): "merchant_mcc",
    ("paymentMethodMetaData", "is3DSAuthentication"): "is_3ds_authentication",
    ("MpiData", "threeDSVersion"): "three_ds_version",
    ("Amount", "currency"): "currency_code",
    ("Amount", "value"): "minor_units",
}

_SUBSCRIPTION = "Subscription Payment is another product."
_EASY_PAY = "EasySafePay and Tokenized Payment are other products."
_PCI = "Card data: never accepted, never logged."
_NEW = "Of the 2026 SDKs only; no page says what it does."
_OTHER = "Of another product."
_NOT_TAKEN: Final = {
    ("createPaymentSession", "productCode"): "Always `CASHIER_PAYMENT`, which we set.",
    ("createPaymentSession", "agreementInfo"): _EASY_PAY,
    ("createPaymentSession", "scopes"): _EASY_PAY,
    ("createPaymentSession", "riskData"): "No document says what its parts hold; `order`, `env` "
    "and the card's fields carry what risk control needs.",
    ("createPaymentSession", "subscriptionInfo"): _SUBSCRIPTION,
    ("createPaymentSession", "subscriptionPlan"): _SUBSCRIPTION,
    ("createPaymentSession", "subscription"): _SUBSCRIPTION,
    ("createPaymentSession", "automaticTax"): _NEW,
    ("Order", "sendReceipt"): _NEW,
    ("Order", "taxCalculationId"): _NEW,
    ("Order", "checkoutJwt"): _NEW,
    ("Order", "paymentAmount"): _NEW,
    ("Goods", "crossSell"): "No document says what it holds.",
    ("Merchant", "store"): "In-store payment is another product.",
    **{
        ("paymentMethodMetaData", name): _PCI
        for name in (
            *("cardNo", "cvv", "expiryYear", "expiryMonth"),
            *("cardPasswordDigest", "dateOfBirth", "businessNo"),
        )
    },
    ("PaymentFactor", "isPaymentEvaluation"): _OTHER,
    ("PaymentFactor", "inStorePaymentScenario"): _OTHER,
    ("PaymentFactor", "presentmentMode"): _OTHER,
    ("PaymentFactor", "storePaymentMethodForBuyer"): _OTHER,
}


@dataclass(frozen=True, slots=True)
class AntomField:
    """A field of Antom's; one of `ours` (the name in `message`) and `reason` says what became."""

    section: str
    antom_object: str
    name: str
    message: Descriptor
    ours: str
    reason: str


@cache
def antom_fields() -> tuple[AntomField, ...]:
    """Every field that the reference names, in its order."""
    return tuple(_read())


def _read() -> Iterator[AntomField]:
    for section, objects in json.loads(_NAMES.read_text("utf-8")).items():
        for antom_object, names in objects.items():
            message = _MESSAGES.get(antom_object)
            message = message or order_pb2.DESCRIPTOR.message_types_by_name[antom_object]
            for name in names.split():
                key = (antom_object, name)
                reason = _NOT_TAKEN.get(key, "")
                ours = "" if reason else _RENAMED.get(key) or _snake_case(name)
                yield AntomField(section, antom_object, name, message, ours, reason)


def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)


def fields_rows() -> list[tuple[str, str, str]]:
    """The rows of `docs/fields.md`."""
    return [
        (
            f"`{field.antom_object}.{field.name}`",
            field.section,
            f"`{field.message.name}.{field.ours}`" if field.ours else f"Not taken. {field.reason}",
        )
        for field in antom_fields()
    ]
