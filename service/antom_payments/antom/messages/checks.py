"""Collects what is wrong with a request, by the field paths of our own contract."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from antom_payments.errors import FieldViolation, InvalidRequest
from antom_payments.money import Money, fault_in
from antom_payments.redaction import passes_luhn

MAX_VIOLATIONS = 20
"""More than a person reads at once; keeps the error's details small."""

MAX_URL_CHARS = 2048

_ID = re.compile(r"[!-~]*")
_REGION = re.compile(r"[A-Z]{2}")
_CURRENCY_CODE = re.compile(r"[A-Z]{3}")
# Control characters but for line breaks and tabs, and what is no character at all.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")
# The ideographs that Chinese is written with, wherever else they are used.
_CHINESE = re.compile(
    "[\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_DIGITS = re.compile(r"\d+")
_SEPARATORS = frozenset({"", " ", "-", "."})
# First digits of the card brands in antom-api 9.2. Without them every tenth long number of an
# order or a clock would pass for a card's.
_CARD_NUMBER = re.compile(r"2[2-7]|[34569]")


class Checks:
    """The violations found so far. Descriptions never quote the value: it may be personal."""

    def __init__(self, *, refuse_chinese: bool) -> None:
        self._refuse_chinese = refuse_chinese
        self._violations: list[FieldViolation] = []

    def fail(self, path: str, description: str) -> None:
        """Note what is wrong with the field at ``path``."""
        self._violations.append(FieldViolation(path, description))

    def conclude(self) -> None:
        """Raise InvalidRequest when anything was found, with the first `MAX_VIOLATIONS` of it."""
        if self._violations:
            raise InvalidRequest(self._violations[:MAX_VIOLATIONS])

    def text(
        self, path: str, value: str, limit: int, *, required: bool = False, prose: bool = False
    ) -> None:
        """Check a text of at most ``limit`` characters; ``prose`` is one that people write."""
        if not value:
            if required:
                self.fail(path, "is required")
            return
        if len(value) > limit:
            self.fail(path, f"must be at most {limit} characters")
        if _UNPRINTABLE.search(value):
            self.fail(path, "must not hold control characters")
        if prose and holds_card_number(value):
            self.fail(path, "must not hold a card number")

    def identifier(self, path: str, value: str, *, required: bool = False) -> None:
        """Check an id of the merchant's: at most 64 visible ASCII characters."""
        self.text(path, value, 64, required=required)
        if not _ID.fullmatch(value):
            self.fail(path, "must be visible ASCII characters without blanks")

    def token(self, path: str, value: str, limit: int) -> None:
        """Check a token of Antom's: never the card number that it stands for."""
        self.text(path, value, limit)
        if is_card_number(value) or holds_card_number(value):
            self.fail(path, "must be a token, never a card number")

    def json_text(self, path: str, value: str, limit: int) -> None:
        """Check a text that is JSON; empty means not said."""
        self.text(path, value, limit, prose=True)
        try:
            json.loads(value or "{}")
        except (ValueError, RecursionError):
            self.fail(path, "must be JSON text")

    def without_chinese(self, path: str, value: str) -> None:
        """Refuse Chinese characters where they break methods such as QRIS and Mastercard."""
        if self._refuse_chinese and _CHINESE.search(value):
            self.fail(path, "must not hold Chinese characters: some payment methods fail on them")

    def one_of(self, path: str, value: str, *choices: str) -> None:
        """Check a value of a closed list; empty means not said."""
        if value and value not in choices:
            self.fail(path, f"must be {' or '.join(choices)}")

    def region(self, path: str, value: str, *, required: bool = False) -> None:
        """Check an ISO 3166-1 alpha-2 code."""
        if not value and required:
            self.fail(path, "is required")
        if value and not _REGION.fullmatch(value):
            self.fail(path, "must be two capital letters (ISO 3166-1 alpha-2)")

    def currency(self, path: str, value: str) -> None:
        """Check an ISO 4217 code; empty means not said."""
        if value and not _CURRENCY_CODE.fullmatch(value):
            self.fail(path, "must be three capital letters (ISO 4217)")

    def money(self, path: str, value: Money | None, *, payment_method_type: str = "") -> None:
        """Check an amount; None means not said."""
        if value is None:
            return
        # A fault names its field first: "minor_units must be …".
        fault = fault_in(value, payment_method_type=payment_method_type)
        if fault is not None:
            name, _, description = fault.partition(" ")
            self.fail(f"{path}.{name}", description)

    def url(self, path: str, value: str, *, required: bool = False) -> None:
        """Check an absolute http or https URL."""
        if not value:
            if required:
                self.fail(path, "is required")
        elif len(value) > MAX_URL_CHARS:
            self.fail(path, f"must be at most {MAX_URL_CHARS} characters")
        elif not _is_absolute_url(value):
            self.fail(path, "must be an absolute http or https URL")


def is_card_number(text: str) -> bool:
    """Whether ``text`` is 13 to 19 digits, grouped or not, that pass Luhn (ISO/IEC 7812-1)."""
    digits = text.replace(" ", "").replace("-", "").strip()
    return digits.isdecimal() and 13 <= len(digits) <= 19 and passes_luhn(digits)


def holds_card_number(text: str) -> bool:
    """Whether a number in ``text`` could be a card's: its length, its first digits, Luhn.

    An expiry date or a code may follow it, so every row of groups is tried.
    """
    groups = list(_DIGITS.finditer(text))
    for first, group in enumerate(groups):
        digits, end = "", group.start()
        for following in groups[first:]:
            digits += following[0]
            if len(digits) > 19 or text[end : following.start()] not in _SEPARATORS:
                break
            end = following.end()
            if len(digits) >= 13 and _CARD_NUMBER.match(digits) and passes_luhn(digits):
                return True
    return False


def _is_absolute_url(value: str) -> bool:
    if any(char.isspace() for char in value) or not value.isprintable():
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
