"""What our processes write into their log, and which errors belong there: no others may."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_EXPECTED: Mapping[str, Mapping[str, frozenset[str]]] = {
    # Antom's answers are spoilt on purpose, and none of them is about another payment.
    "antom_answer_untrusted": {
        "reason": frozenset({"unsigned", "signature_mismatch", "another_client_id"})
    },
    # Amounts that nobody asked for, news that a restore made old, ends by hand at Antom.
    "contradiction": {},
    # What another system made, and what a restore took.
    "orphan_ended": {},
    # A database that is away: Antom sends it again.
    "notification": {"reason": frozenset({"store_unavailable"})},
    # Pruned beneath those who followed slowly, or restored beneath a running server.
    "streams end: the event log changed": {"error": frozenset({"CursorExpired", "LogRewound"})},
}
"""Events at ERROR that a run may bring forth, and the words that they may have."""
_WARNED_OF = frozenset({"", "StoreUnavailable"})
"""What a WARNING may name as its error: work that goes on after anything else would hide a bug."""


class LogLines(logging.Handler):
    """Everything that was logged, and what should not have been."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.all: list[str] = []
        self.unexpected: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        told: Any = record.msg
        words = told if isinstance(told, dict) else {"event": str(told)}
        # The real time is another in each run.
        words = {name: value for name, value in words.items() if name not in {"_record", "time"}}
        line = f"{record.levelname} {words}"
        self.all.append(line)
        if not _is_expected(record.levelno, words):
            self.unexpected.append(line)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Keep what the product logs while the block runs, and print none of it."""
        logger = logging.getLogger("antom_payments")
        kept = (logger.level, logger.propagate)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(kept[0])
            logger.propagate = kept[1]


def _is_expected(level: int, words: Mapping[str, Any]) -> bool:
    if level < logging.WARNING:
        return True
    if level < logging.ERROR:
        return words.get("error", "") in _WARNED_OF
    allowed = _EXPECTED.get(words["event"])
    return allowed is not None and all(words.get(name) in told for name, told in allowed.items())
