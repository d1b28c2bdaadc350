"""Times as Antom writes and reads them (antom-api 1.4)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

# Antom's samples carry +08:00: a caller that takes every time for UTC is found out here.
_ANTOM_ZONE = timezone(timedelta(hours=8))
_MILLISECONDS = re.compile(r"[0-9]{13}")


def time_text(time: datetime) -> str:
    """ISO 8601, whole seconds, with offset, as in `2019-05-28T12:12:14+08:00`."""
    return time.astimezone(_ANTOM_ZONE).isoformat(timespec="seconds")


def zulu_text(time: datetime) -> str:
    """ISO 8601, whole seconds, with `Z`: the form of `paymentSessionExpiryTime` in the samples."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> datetime:
    """A Datetime field of a body; raises ValueError unless it is ISO 8601 with an offset."""
    if not isinstance(text, str):
        raise ValueError("must be a text in ISO 8601 with an offset")  # noqa: TRY004 - pydantic's contract
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time in ISO 8601 with an offset") from None
    if time.tzinfo is None:
        raise ValueError("must be a time with an offset, as in 2019-11-27T12:01:01+08:00")
    return time


def parse_request_time(text: str) -> datetime:
    """The `Request-Time` header: milliseconds since 1970, or any of the SDKs' ISO forms.

    Raises ValueError for anything else. Its age is not judged: Antom documents no window.
    """
    if _MILLISECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    return parse_time(text)
