"""What became of a notification, in the bounded words that metrics and logs share."""

from __future__ import annotations

from enum import StrEnum

from opentelemetry.metrics import Meter

from antom_payments.store import AppliedOutcome


class Outcome(StrEnum):
    """One for each row of the matrix of answers."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    ORPHANED = "orphaned"
    QUARANTINED = "quarantined"
    STALE = "stale"
    """Verified, but sent outside the window: kept, not applied until an inquiry agrees."""
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    """Refused by the HTTP server: framing, size or slowness."""
    NOT_FOUND = "not_found"
    """Another path or method."""
    DRAINING = "draining"
    OVERLOADED = "overloaded"
    ERROR = "error"
    """Not stored: Antom must send it again."""

    @property
    def is_alarming(self) -> bool:
        """Whether a person must look at it, and nobody else says so: a conflict has its alarm."""
        return self in {Outcome.QUARANTINED, Outcome.STALE, Outcome.ERROR}


OF_APPLIED = {
    AppliedOutcome.APPLIED: Outcome.ACCEPTED,
    AppliedOutcome.DUPLICATE: Outcome.DUPLICATE,
    AppliedOutcome.CONFLICT: Outcome.CONFLICT,
    AppliedOutcome.ORPHANED: Outcome.ORPHANED,
    AppliedOutcome.QUARANTINED: Outcome.QUARANTINED,
}


class Counts:
    """The instruments. Attributes are bounded: an outcome and, for some, a reason."""

    def __init__(self, meter: Meter) -> None:
        self._notifications = meter.create_counter(
            "antom_payments.notifications",
            unit="{notification}",
            description="Requests to the notification listener, by what became of them",
        )
        self._duration = meter.create_histogram(
            "antom_payments.notification.duration",
            unit="s",
            description="From a whole request to its answer: verification and transaction",
        )

    def add(self, outcome: Outcome, reason: str = "", seconds: float | None = None) -> None:
        """Count one request; ``reason`` must come from a fixed set."""
        attributes = {"outcome": outcome.value} | ({"reason": reason} if reason else {})
        self._notifications.add(1, attributes)
        if seconds is not None:
            self._duration.record(seconds, {"outcome": outcome.value})

    def malformed(self, reason: str) -> None:
        """Count what the HTTP server refused."""
        self.add(Outcome.MALFORMED, reason)
