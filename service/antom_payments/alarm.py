"""What a person must look at, whatever told it: news that contradicts what is stored.

One line at error level and one count for each, after the commit, for the sidecar and the server
alike. Copies of such news are duplicates, and silent; a fact told otherwise (a conflict) makes no
event, and speaks each time.
"""

from __future__ import annotations

from collections.abc import Iterator

from antom_payments import instruments, telemetry
from antom_payments.instruments import Process
from antom_payments.payment import EventType, Source
from antom_payments.payment_event import PaymentEvent
from antom_payments.store import Applied, AppliedOutcome

ALARMING = frozenset(
    {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION, EventType.PAYMENT_CORRECTED}
)
"""News that a person must look at; the last is an inquiry's alone."""
_CONFLICT = "CONFLICT"

_log = telemetry.logger(__name__)
_contradictions = instruments.counter(
    "antom_payments.contradictions",
    "{contradiction}",
    "News that contradicts what is stored, by its kind and by what told it.",
    labels={"event_type": sorted({*ALARMING, _CONFLICT}), "source": list(Source)},
    alert="Contradiction",
    process=Process.BOTH,
)


def sound(applied: Applied, source: Source) -> None:
    """Tell operators of what ``source`` told and an inquiry or a person must clear up. Ids only."""
    for event_type, event in _alarming(applied):
        # What it adopted was told before, by a source of its own.
        told_by = source
        if event is not None and applied.outcome is not AppliedOutcome.CONFLICT:
            told_by = event.source
        _contradictions.add(1, {"event_type": event_type, "source": told_by.value})
        payment = applied.payment
        fields = {
            "merchant_account": payment.merchant_account if payment else "",
            "payment_request_id": payment.payment_request_id if payment else "",
            "event_id": event.event_id if event else "",
            "state_before": event.state_before.value if event else "",
            "state": event.state.value if event else "",
        }
        _log.error(
            "contradiction",
            event_type=event_type,
            source=told_by.value,
            **{name: value for name, value in fields.items() if value},
        )


def _alarming(applied: Applied) -> Iterator[tuple[str, PaymentEvent | None]]:
    """Each alarm of an answer: its kind, and its event unless it was pruned since."""
    if applied.outcome is AppliedOutcome.CONFLICT:
        yield _CONFLICT, applied.event
    told = [applied.event] if applied.outcome is AppliedOutcome.APPLIED else []
    for event in (*told, *applied.adopted):
        if event is not None and event.type in ALARMING:
            yield event.type.value, event
