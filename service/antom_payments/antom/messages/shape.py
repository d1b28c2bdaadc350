"""How Antom writes values: amounts and times as text, and nothing for what was not said.

Antom's documentation wants every scalar as text, and its samples and SDKs send booleans and one
number as such (antom-api 2): amounts, counts and rates are text here, booleans are booleans, and
`installmentNum` is a number, as in the sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from antom_payments.money import Money

_AS_NUMBERS = frozenset({"installmentNum"})
_ODD_NAMES: Mapping[str, str] = {
    "is_3ds_authentication": "is3DSAuthentication",
    "three_ds_version": "threeDSVersion",
    "merchant_mcc": "merchantMCC",
    "card": "paymentMethodMetaData",
    "antom_metadata": "metadata",
}
"""Antom's names that are not ours in camelCase."""


def said(**fields: Any) -> dict[str, Any]:
    """The fields that say something: False does, and None, empty text and empty objects do not."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value not in ("", {}, [])
    }


def antom_name(name: str) -> str:
    """Antom's name of a field of ours."""
    return _ODD_NAMES.get(name) or re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)


def object_fields(value: Any) -> dict[str, Any]:
    """One of our objects as Antom's, with everything in it; None is an empty one.

    Zero is said only where None could have been.
    """
    if value is None:
        return {}
    return said(
        **{
            name: _written(name, getattr(value, field.name), zero_is_said=field.default is None)
            for field in fields(value)
            for name in [antom_name(field.name)]
        }
    )


def amount_fields(money: Money | None) -> dict[str, str]:
    """An Amount: its value is text (antom-api 2.1)."""
    if money is None:
        return {}
    return {"currency": money.currency_code, "value": str(money.minor_units)}


def time_text(time: datetime | None) -> str:
    """ISO 8601 in UTC with whole seconds, rounded down; empty for None."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _written(name: str, value: Any, *, zero_is_said: bool) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if not value and not zero_is_said:
            return None
        return value if name in _AS_NUMBERS else str(value)
    if isinstance(value, tuple):
        return [_written(name, one, zero_is_said=False) for one in value]
    if isinstance(value, Money):
        return amount_fields(value)
    if isinstance(value, datetime):
        value = time_text(value)
    return object_fields(value) if is_dataclass(value) else value
