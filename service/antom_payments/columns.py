"""What the operators' commands print: plain columns for people and pipes, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any


def print_list(found: Sequence[Any], columns: Sequence[str], *, as_json: bool, limit: int) -> None:
    """Rows in columns, or as JSON; says when there may be more than ``limit``."""
    if as_json:
        print_json([asdict(one) for one in found])
    elif found:
        print_columns(columns, found)
    else:
        print("none")
    if len(found) == limit:
        print(f"there may be more than {limit}: see --limit", file=sys.stderr)


def print_columns(columns: Sequence[str], rows: Iterable[Any]) -> None:
    """Plain columns, for people and for pipes: nothing is cut at the edge of a terminal."""
    lines = [[column.upper() for column in columns]]
    lines += [[_text(_value(row, column)) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_fields(fields: dict[str, Any], *, as_json: bool) -> None:
    """Fields, one a line, or as JSON."""
    if as_json:
        print_json(fields)
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name:<{width}}  {_text(value)}".rstrip())


def print_json(shown: Any) -> None:
    """JSON for machines, with times as RFC 3339."""
    print(json.dumps(shown, indent=2, default=_text))


def _value(row: Any, column: str) -> Any:
    return row[column] if isinstance(row, dict) else getattr(row, column)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    text = "" if value is None else str(value)
    # Ids are Antom's words: a terminal must not obey them.
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
