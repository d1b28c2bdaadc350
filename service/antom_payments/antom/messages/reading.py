"""Reads Antom's JSON: tolerant where Antom varies, strict where money or identity could be misread.

Tolerated (antom-api 2): unknown fields, null for absent, numbers and booleans for text and the
reverse, fields under a second spelling. Refused as `NotUnderstood`: a key that comes twice, text
that databases cannot hold, an amount that is not an integer, an id that is too long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

from antom_payments.money import Money

MAX_ID_CHARS = 64

_INTEGER = re.compile(r"[0-9]{1,16}")  # antom-api 2.1: at most 16 digits
_CURRENCY_CODE = re.compile(r"[A-Z]{3}")
_RESULT_CODE = re.compile(r"[0-9A-Za-z_.-]{1,64}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_MILLISECONDS = re.compile(r"[0-9]{12,14}")
_YEARS = range(1970, 9000)
"""Room to reckon with on both ends: "never" is often told as the year 9999 or 1."""


class NotUnderstood(Exception):
    """A message that is genuine but cannot be read; ``reason`` names fields, never their values."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ResultStatus(StrEnum):
    """Antom's status letters (antom-api 5.1)."""

    SUCCESS = "S"
    FAILED = "F"
    UNKNOWN = "U"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an operation; `code` is empty when Antom's is not a code."""

    status: ResultStatus
    code: str


class JsonObject:
    """A JSON object and the path to it. Absent, null and empty text are the same: not said."""

    def __init__(self, fields: Mapping[str, Any], path: str = "") -> None:
        self._fields = fields
        self._path = path

    def has(self, *names: str) -> bool:
        """Whether any of the spellings ``names`` says something."""
        return self._found(*names)[1] is not None

    def text(self, *names: str, limit: int = MAX_ID_CHARS) -> str:
        """The text at the first of ``names`` that is there, or empty."""
        name, value = self._found(*names)
        if value is None:
            return ""
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, int):
            value = str(value)
        elif not isinstance(value, str):
            self._fail("wrong_type", name)
        if len(value) > limit:
            self._fail("too_long", name)
        return str(value)

    def required_text(self, *names: str, limit: int = MAX_ID_CHARS) -> str:
        """The text at ``names``, which must be there."""
        return self.text(*names, limit=limit) or self._fail("missing", names[0])

    def object(self, name: str) -> JsonObject | None:
        """The object at ``name``."""
        _, value = self._found(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._fail("wrong_type", name)
        return JsonObject(value, f"{self._path}{name}.")

    def objects(self, name: str) -> Iterator[JsonObject]:
        """The objects in the list at ``name``; none when it is null or absent."""
        _, value = self._found(name)
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if item is None:
                continue
            if not isinstance(item, dict):
                self._fail("wrong_type", name)
            yield JsonObject(item, f"{self._path}{name}[{index}].")

    def money(self, name: str) -> Money | None:
        """The Amount at ``name``: a currency and an integer of its smallest unit as text."""
        amount = self.object(name)
        if amount is None:
            return None
        currency_code, value = amount.text("currency"), amount.text("value")
        if not _CURRENCY_CODE.fullmatch(currency_code):
            self._fail("not_a_currency", f"{name}.currency")
        if not _INTEGER.fullmatch(value):
            self._fail("not_an_integer", f"{name}.value")
        return Money(currency_code=currency_code, minor_units=int(value))

    def time(self, *names: str) -> datetime | None:
        """The time at ``names`` in UTC; None for one that cannot be read: it never hides news."""
        _, value = self._found(*names)
        return parse_time(str(value)) if isinstance(value, str | int) else None

    def result(self, name: str = "result") -> Result:
        """The Result at ``name``. `A`, seen in old material, is not yet decided: `U`."""
        result = self.object(name)
        if result is None:
            self._fail("missing", name)
        status = result.text("resultStatus")
        if status not in {"S", "F", "U", "A"}:
            self._fail("unknown_value", f"{name}.resultStatus")
        return Result(
            ResultStatus.UNKNOWN if status == "A" else ResultStatus(status),
            result.code("resultCode"),
        )

    def code(self, name: str) -> str:
        """The result code at ``name``, fit for logs and callers; empty when it is not a code."""
        _, value = self._found(name)
        return value if isinstance(value, str) and _RESULT_CODE.fullmatch(value) else ""

    def _found(self, *names: str) -> tuple[str, Any]:
        """The first spelling that says something, and what it says."""
        for name in names:
            value = self._fields.get(name)
            if value is not None and value != "":
                return name, value
        return names[0], None

    def _fail(self, fault: str, name: str) -> NoReturn:
        raise NotUnderstood(f"{fault}:{self._path}{name}")


def read_message(body: bytes) -> JsonObject:
    """The JSON object that ``body`` is.

    Raises:
        NotUnderstood: it is none, is ambiguous (a key twice) or holds text that PostgreSQL cannot
            store (U+0000, lone surrogates): better set aside whole than half applied.
    """
    try:
        message = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise NotUnderstood("not_utf8") from None
    except RecursionError:
        raise NotUnderstood("nested_too_deep") from None
    except ValueError:
        raise NotUnderstood("not_json") from None
    if not isinstance(message, dict):
        raise NotUnderstood("not_an_object")
    if any(_UNSTORABLE.search(text) for text in _texts(message)):
        raise NotUnderstood("unstorable_text")
    return JsonObject(message)


def parse_time(text: str) -> datetime | None:
    """``text`` as aware UTC: ISO 8601 with any offset form, or epoch milliseconds; else None.

    None also for a year at either end of what can be written, which is nobody's payment.
    """
    try:
        if _EPOCH_MILLISECONDS.fullmatch(text):
            return _EPOCH + timedelta(milliseconds=int(text))
        time = datetime.fromisoformat(text.strip())
        # Without an offset it is anybody's guess.
        return time.astimezone(UTC) if time.tzinfo and time.year in _YEARS else None
    except (ValueError, OverflowError):
        return None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise NotUnderstood("duplicate_key")
    return fields


def _refuse_constant(_name: str) -> NoReturn:
    raise NotUnderstood("not_json")  # NaN and Infinity are Python's, not JSON's


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys too; without recursion, so that depth costs nothing."""
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                yield text
            case dict() as fields:
                pending.extend(fields.keys())
                pending.extend(fields.values())
            case list() as items:
                pending.extend(items)
