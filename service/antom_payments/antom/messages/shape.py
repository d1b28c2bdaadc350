"""How Antom writes values: amounts and times as text, and nothing for what was not said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from antom_payments.money import Money


def said(**fields: Any) -> dict[str, Any]:
    """The fields that say something: False does, and None, empty text and empty objects do not."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value not in ("", {}, [])
    }


def amount_fields(money: Money | None) -> dict[str, str]:
    """An Amount: its value is text (antom-api 2.1)."""
    if money is None:
        return {}
    return {"currency": money.currency_code, "value": str(money.minor_units)}


def time_text(time: datetime | None) -> str:
    """ISO 8601 in UTC with whole seconds, rounded down; empty for None."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
