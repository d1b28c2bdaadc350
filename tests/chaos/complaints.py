"""What processes said at level error, and no fault explains: a bug that callers may never feel.

A sidecar answers an unexpected exception with 503, and Antom sends the news again; a server's loops
go on after one. So every error that is said is told, but for those that attacks are met with.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

_SPOILT = {"unsigned", "signature_mismatch", "another_client_id"}
"""What is wrong with an answer that Antom spoils on purpose: none is about another payment."""
_BUG = "unexpected"
"""The reason of a notification that met an exception which nobody foresaw."""
_MEANT = "antom_payments.errors.SchemaOutdated: "
"""How a process ends that an operator starts on a schema which is too old."""
_GRACE_IS_OVER = re.compile(r"Cancel (\d+) running task\(s\), timeout graceful shutdown exceeded")
_RAISED, _CANCELLED = "Exception in ASGI application", "asyncio.exceptions.CancelledError"
"""What uvicorn says of a request that raised, and what one raises that it cancelled."""
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
    drains = _Drains()
    read = [(_read(line), line) for line in text.splitlines() if line.strip()]
    for is_told, lines in groupby(read, key=lambda one: one[0] is not None):
        if is_told:
            yield from (
                (f"{told['event']}".strip(), line)
                for told, line in lines
                if told and not drains.explain(told) and _is_wrong(told)
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
    event, reason = str(told.get("event")), told.get("reason")
    if told["level"] not in {"error", "critical"}:
        # An exception of no known kind: the log's reader goes on after it.
        return event == "the event log cannot be read" and "exception" in told
    match event:
        case "antom_answer_untrusted":
            return reason not in _SPOILT
        case "contradiction":
            # News come in any order, twice, and with another amount.
            return False
        case "notification":
            # What is not stored, not understood or too old is said, each by its reason.
            return reason == _BUG
    return True


@dataclass
class _Drains:
    """A process's drains by uvicorn that took longer than their grace.

    It says so, cancels what is under way, and says of each request that it raised: at level error,
    and none is a bug. A starved machine may need longer than a sidecar's grace, and Antom, which
    gets no 200, sends the news again. As many cancellations are explained as were announced before,
    and an exception of any other kind is not.
    """

    announced: int = 0

    def explain(self, told: Mapping[str, Any]) -> bool:
        """Whether a line is one of theirs; to be given each line, in order."""
        event = str(told.get("event"))
        if told.get("logger") != "uvicorn.error":
            return False
        if found := _GRACE_IS_OVER.fullmatch(event):
            self.announced = int(found[1])
            return True
        kind, _, _ = str(told.get("exception")).partition(" from ")
        is_cancelled = event.strip() == _RAISED and kind == _CANCELLED
        if not (is_cancelled and self.announced):
            return False
        self.announced -= 1
        return True
