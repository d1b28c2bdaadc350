"""What the command line's arguments may hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def minor_units(text: str) -> int:
    """A whole number of the smallest unit: 42.00 must not become 42."""
    if not re.fullmatch("[0-9]{1,15}", text):
        raise typer.BadParameter(
            f"{text}: expected the smallest unit, without a point; SGD 42.00 is 4200"
        )
    return int(text)


def moment(text: str) -> datetime:
    """A time, as RFC 3339 or so long ago."""
    if ago := re.fullmatch("([0-9]{1,5})([smhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter(f"{text}: expected 2026-03-02T09:30:00Z, or 30m, 2h, 1d ago")
    return time


def past(text: str) -> datetime:
    """A `moment` that has been."""
    time = moment(text)
    if time > datetime.now(UTC):
        raise typer.BadParameter(f"{text} lies in the future")
    return time
