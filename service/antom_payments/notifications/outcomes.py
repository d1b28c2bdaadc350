"""What became of a notification, in the bounded words that metrics and logs share."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from opentelemetry.metrics import Counter

from antom_payments import instruments
from antom_payments.instruments import Process
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


_AGES = (1.0, 5.0, 30.0, 120.0, 600.0, 1200.0, 3600.0, 10800.0, 32400.0, 86400.0)
"""Buckets along Antom's resends: at once, after minutes, after hours (antom-api 4.1)."""

_notifications = instruments.counter(
    "antom_payments.notifications",
    "{notification}",
    "Requests to the notification listener, by what became of them.",
    labels={
        "outcome": list(Outcome),
        "reason": "what exactly was wrong, or the alarm that it sounded; empty for most",
    },
    alert="NotificationsSilent, BadSignatureSurge, NotificationsQuarantined",
    process=Process.SIDECAR,
)
_duration = instruments.histogram(
    "antom_payments.notification.duration",
    "s",
    "From a whole request to its answer: verification and transaction.",
    labels={"outcome": list(Outcome)},
    alert="NotificationsSlow",
    process=Process.SIDECAR,
)
_verification = instruments.histogram(
    "antom_payments.notification.verification.duration",
    "s",
    "Verifying a signature.",
    process=Process.SIDECAR,
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1),
)
_commit = instruments.histogram(
    "antom_payments.notification.commit.duration",
    "s",
    "Storing a verified notification and what follows from it, to its commit.",
    alert="NotificationsSlow",
    process=Process.SIDECAR,
)
_age = instruments.histogram(
    "antom_payments.notification.age",
    "s",
    "How long ago, by its `request-time`, a verified notification was sent when it came.",
    alert="NotificationsLate",
    process=Process.SIDECAR,
    buckets=_AGES,
)
_last_accepted = instruments.gauge(
    "antom_payments.notification.last_accepted.timestamp",
    "s",
    "When news was last accepted of a merchant, in Unix time; nothing before the first.",
    labels={"merchant_account": "the configured merchant accounts"},
    alert="NotificationsSilent",
    process=Process.SIDECAR,
)


class Counts:
    """What is counted of notifications. Labels are bounded: an outcome and, for some, a reason.

    ``notifications`` counts their outcomes.
    """

    def __init__(self, notifications: Counter = _notifications) -> None:
        self._notifications = notifications
        for outcome in Outcome:
            notifications.add(0, {"outcome": outcome.value})

    def add(self, outcome: Outcome, reason: str = "", seconds: float | None = None) -> None:
        """Count one request; ``reason`` must come from a fixed set."""
        attributes = {"outcome": outcome.value} | ({"reason": reason} if reason else {})
        self._notifications.add(1, attributes)
        if seconds is not None:
            _duration.record(seconds, {"outcome": outcome.value})

    def verified(self, seconds: float, age_seconds: float | None) -> None:
        """A signature was right; its `request-time` lay so far back, if it can be read."""
        _verification.record(seconds)
        if age_seconds is not None:
            _age.record(max(0.0, age_seconds))

    def stored(self, seconds: float) -> None:
        """A notification was committed."""
        _commit.record(seconds)

    def accepted(self, merchant_account: str, received_time: datetime) -> None:
        """It was news."""
        _last_accepted.set(received_time.timestamp(), {"merchant_account": merchant_account})

    def malformed(self, reason: str) -> None:
        """Count what the HTTP server refused."""
        self.add(Outcome.MALFORMED, reason)
