"""What may be said of a value or an exception: the second net before logs, statuses and spans.

Texts of foreign exceptions are not said at all, because they quote what they choke on (SQL
parameters, JSON bodies); their types and frames are.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from antom_payments.errors import PaymentsError

_SECRET_FIELDS = frozenset(
    {
        *("authorization", "body", "card_no", "cookie", "cvv", "data_key", "database_url"),
        *("headers", "password", "payment_method_id", "payment_session_data"),
        *("payment_session_id", "private_key", "secret", "signature", "token"),
    }
)
_HIDDEN = "[redacted]"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A PEM block, also when its newlines were escaped or its end was cut off.
    (re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL), _HIDDEN),
    (re.compile(r"(?<=://)[^/\s@]+@"), f"{_HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|basic)[\s:=]+[\w.~+/=-]{6,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{1,2048}\.[\w-]{1,2048}(?:\.[\w-]{0,2048})?"), _HIDDEN),
    (re.compile(r"(?i)\b(signature[\"']?\s*[=:]\s*)[^\s,;]+"), rf"\1{_HIDDEN}"),
    # Keys and signatures in base64. Cursors have no padding and stay below 100 characters.
    (re.compile(r"[\w+/-]{40,}={1,2}(?![\w+/=-])|[\w+/-]{100,}"), _HIDDEN),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "[e-mail]"),
)
_LONGEST_TEXT = 8_192
_SEPARATORS = " \t\r\n.-"
_DIGITS = re.compile(r"\d+(?:[\s.\-]{1,2}\d+)*")


def redact(text: str, *, longest: int = _LONGEST_TEXT) -> str:
    """``text`` without card numbers, e-mail addresses, keys, tokens and signatures.

    Cut at ``longest`` characters, at most 8,192: what strangers send must not keep the process
    busy. Digits before the cut go too: they may be half a card number, which nothing would find.
    """
    if len(text) > longest:
        end = longest
        while end and (text[end - 1].isdecimal() or text[end - 1] in _SEPARATORS):
            end -= 1
        text = f"{text[:end]}…"
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _DIGITS.sub(_without_card_numbers, text)


def _without_card_numbers(match: re.Match[str]) -> str:
    """Hide 13 to 19 digits that pass Luhn (ISO/IEC 7812), whole or in groups of 3 and more.

    Groups are tried in every run, because an expiry date or a code may follow the number. Longer
    digit runs are Antom's ids, and numbers that start with 0 or 1 are times.
    """
    text = match[0]
    groups = list(re.finditer(r"\d+", text))
    shown: list[str] = []
    here = first = 0
    while first < len(groups):
        last = _end_of_card_number(groups, first)
        if last is None:
            first += 1
            continue
        shown += [text[here : groups[first].start()], "[card]"]
        here, first = groups[last].end(), last + 1
    return "".join([*shown, text[here:]])


def _end_of_card_number(groups: list[re.Match[str]], first: int) -> int | None:
    """Which group ends the card number that begins with group ``first``, if one does."""
    digits = ""
    for last in range(first, len(groups)):
        digits += groups[last][0]
        if len(digits) > 19 or len(groups[last][0]) < 3:
            return None
        if len(digits) >= 13 and digits[0] not in "01" and passes_luhn(digits):
            return last
    return None


def passes_luhn(text: str) -> bool:
    """Whether the digits of ``text`` end in the right check digit (ISO/IEC 7812-1)."""
    digits = [int(char) for char in text]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def clean(value: object, depth: int = 0) -> object:
    """``value`` as JSON's own types, redacted; what is nested deeper than 6 is hidden."""
    if depth > 6:
        return _HIDDEN
    if isinstance(value, Mapping):
        return {
            redact(str(key)): (
                _HIDDEN if str(key).lower() in _SECRET_FIELDS else clean(item, depth + 1)
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item, depth + 1) for item in value]
    return _clean_scalar(value)


def _clean_scalar(value: object) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    text = redact(summary(value) if isinstance(value, BaseException) else str(value))
    return value if isinstance(value, int) and text == str(value) else text


def summary(error: BaseException) -> str:
    """Types along the causes; texts of our own errors only, which are made to be seen."""
    return " from ".join(
        f"{_type_name(cause)}: {cause}" if isinstance(cause, PaymentsError) else _type_name(cause)
        for cause in causes(error)
    )


def _type_name(error: BaseException) -> str:
    name = type(error).__qualname__
    module = type(error).__module__
    inner = (
        f"({', '.join(_type_name(one) for one in error.exceptions)})"
        if isinstance(error, BaseExceptionGroup)
        else ""
    )
    return (name if module == "builtins" else f"{module}.{name}") + inner


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, newest first; at most 8, since chains can be circular."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def frames(error: BaseException) -> Iterable[str]:
    """Where it came from, innermost last, at most 20 frames."""
    for frame in traceback.extract_tb(error.__traceback__)[-20:]:
        parts = PurePath(frame.filename).parts
        yield f"{'/'.join(parts[-3:])}:{frame.lineno} {frame.name}"
