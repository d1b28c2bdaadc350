"""Money: an integer of a currency's smallest unit, never a float.

Antom's amounts are integers of the smallest unit as text (antom-api 8; ISO 4217).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_MINOR_UNITS = 10**15 - 1
"""Antom's ``value`` has at most 16 characters; one is left unused to stay within int64 sums."""

_CURRENCY_CODE = re.compile(r"[A-Z]{3}")

# ISO 4217 exponents that differ from 2. Antom lists CLP, JPY, KRW and VND; the rest is ISO's.
_WITHOUT_DECIMALS = (
    *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
    *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
)
_WITH_THREE_DECIMALS = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
_DECIMALS = dict.fromkeys(_WITHOUT_DECIMALS, 0) | dict.fromkeys(_WITH_THREE_DECIMALS, 3)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in ``currency_code`` (ISO 4217), in its smallest unit; zero or more."""

    currency_code: str
    minor_units: int

    def __str__(self) -> str:
        digits = decimals(self.currency_code)
        if not digits:
            return f"{self.currency_code} {self.minor_units}"
        whole, part = divmod(self.minor_units, 10**digits)
        return f"{self.currency_code} {whole}.{part:0{digits}}"


def decimals(currency_code: str) -> int:
    """Digits after the decimal point, by ISO 4217; 2 where ISO lists nothing else."""
    return _DECIMALS.get(currency_code, 2)


def fault_in(money: Money, *, payment_method_type: str = "") -> str | None:
    """What Antom would certainly refuse about an amount to collect, or None.

    Source: antom-api 8 (IDR ends in 00; TWD with JKOPay a multiple of 100; HKD with Octopus a
    multiple of 10; ``value`` at most 16 digits).
    """
    if not _CURRENCY_CODE.fullmatch(money.currency_code):
        return "currency_code must be three capital letters (ISO 4217)"
    if money.minor_units <= 0:
        return "minor_units must be greater than zero"
    if money.minor_units > MAX_MINOR_UNITS:
        return f"minor_units must be at most {MAX_MINOR_UNITS}"
    step = {("TWD", "JKOPAY"): 100, ("HKD", "OCTOPUS"): 10}.get(
        (money.currency_code, payment_method_type), 100 if money.currency_code == "IDR" else 1
    )
    if money.minor_units % step:
        return f"minor_units must be a multiple of {step} in {money.currency_code}" + (
            f" with {payment_method_type}" if money.currency_code != "IDR" else ""
        )
    return None
