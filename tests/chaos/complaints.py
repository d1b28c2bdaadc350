"""What processes said at level error, and no fault explains: a bug that callers may never feel.

A sidecar answers an unexpected exception with 503, and Antom sends the news again; a server's loops
go on after one. So every error that is said is told, but for those that attacks are met with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

EXPLAINED = {
    "antom_answer_untrusted": "Antom's answers are spoilt on purpose",
    "contradiction": "news come in any order, twice, and with another amount",
    "notification": "what is not stored, not understood or too old is said, each by its reason",
}
"""What is said at level error in a run in which all holds."""
_BUG = ("notification", "unexpected")
"""The event and the reason of a notification that met an exception which nobody foresaw."""
_MEANT = "antom_payments.errors.SchemaOutdated: "
"""How a process ends that an operator starts on a schema which is too old."""
_LONGEST = 300


def complaints(outputs: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """What was said, by whom, how often, and its first line, cut and without secrets.

    Args:
        outputs: what each process printed.
        secrets: what must not be shown here, either, by what it is.
    """
    found = []
    for name, text in outputs.items():
        first: dict[str, str] = {}
        often: Counter[str] = Counter()
        for kind, line in _unexplained(text):
            first.setdefault(kind, line)
            often[kind] += 1
        for kind, line in first.items():
            for what, secret in secrets.items():
                line = line.replace(secret, f"({what})")  # noqa: PLW2901 - one after the other
            found.append(f"{name} said {often[kind]} times {kind}: {line[:_LONGEST]}")
    return found


def _unexplained(text: str) -> Iterator[tuple[str, str]]:
    """Kinds and lines; of what is no JSON, the last line of all that comes together."""
    read = [(_read(line), line) for line in text.splitlines() if line.strip()]
    for is_told, lines in groupby(read, key=lambda one: one[0] is not None):
        if is_told:
            yield from (
                (f"{told['event']}", line) for told, line in lines if told and _is_wrong(told)
            )
            continue
        # What kill -9 cut off begins as any line does.
        raw = [line for _, line in lines if not line.startswith("{")]
        if raw and not raw[-1].startswith(_MEANT):
            yield "what is no log line", raw[-1]


def _read(line: str) -> dict[str, Any] | None:
    """A line of a log; None when it is none."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "level" in told else None


def _is_wrong(told: Mapping[str, Any]) -> bool:
    event = str(told.get("event"))
    if told["level"] not in {"error", "critical"}:
        # An exception of no known kind: the log's reader goes on after it.
        return event == "the event log cannot be read" and "exception" in told
    return event not in EXPLAINED or (event, told.get("reason")) == _BUG
