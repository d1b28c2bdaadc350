"""How old a notification may be by its `request-time` header.

The header's format is not documented (antom-api 1.4). For the signature it is opaque text; here
all forms that Antom's tools send are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from antom_payments.antom.messages.reading import parse_time


@dataclass(frozen=True, slots=True)
class Window:
    """How far from our clock a `request-time` may lie; older or newer news is held back.

    Antom's last resend comes 24 h 22 min after the first (antom-api 4.1), and nobody knows whether
    a resend gets a new time: less than 25 h would hold back genuine news.
    """

    past: timedelta = timedelta(hours=25)
    future: timedelta = timedelta(minutes=5)

    def holds(self, request_time: str, now: datetime) -> bool:
        """Whether the time lies within, both ends included. A time that cannot be read does not."""
        time = parse_time(request_time)
        return time is not None and now - self.past <= time <= now + self.future


def age(request_time: str, now: datetime) -> float | None:
    """How many seconds ago the time was, by our clock; None for one that cannot be read."""
    time = parse_time(request_time)
    return None if time is None else (now - time).total_seconds()
