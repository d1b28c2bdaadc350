"""Collects the wrong fields of one request, by their paths."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from google.protobuf.message import Message

from antom_payments.errors import FieldViolation, InvalidRequest

MAX_ID = 64
"""Characters of an id, Antom's and ours."""

# Also keeps U+0000 from a database that cannot store it.
_VISIBLE_ASCII = re.compile(r"[!-~]+")


class Faults:
    """The wrong fields of one request."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Note what is wrong with a field."""
        self._found.append(FieldViolation(field, description))

    def check_id(self, field: str, text: str) -> None:
        """An id that a payment can have."""
        if len(text) > MAX_ID or not _VISIBLE_ASCII.fullmatch(text):
            self.add(field, f"must be 1 to {MAX_ID} visible ASCII characters")

    def check_merchant(self, field: str, text: str) -> None:
        """As an id, or empty: the only merchant configured."""
        if text:
            self.check_id(field, text)

    def time(self, field: str, message: Message) -> datetime | None:
        """The time in the last part of ``field``, None when not set."""
        name = field.rpartition(".")[2]
        if not message.HasField(name):
            return None
        try:
            time: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.add(field, "must be a time from year 1 to 9999, with nanos from 0 to 999,999,999")
            return None
        return time

    def conclude(self) -> None:
        """Raise InvalidRequest when something was wrong."""
        if self._found:
            raise InvalidRequest(self._found)
