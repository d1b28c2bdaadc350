"""What the stream keeps of an event: its bytes, ready to be sent, and what filters ask for.

And of a payment in a snapshot: its bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from opentelemetry.trace import Link

from antom_payments import telemetry
from antom_payments.cursor import (
    START,
    CursorSeal,
    Phase,
    Position,
    SnapshotPosition,
    fingerprint_of,
)
from antom_payments.payment import EventType, Payment, PaymentState
from antom_payments.payment_event import EventFilter, PaymentEvent

EVERYTHING = EventFilter()
"""Admits every event."""
Encode = Callable[[PaymentEvent | Payment, str], bytes]
"""Serialises an event, or a payment of a snapshot, with the cursor after it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the log with its cursor; everything up to `sequence` lies behind it."""

    sequence: int
    cursor: str
    append_time: datetime | None
    """When the event there was appended; before the oldest one kept, when that one was; None at the
    start of an empty log."""


@dataclass(frozen=True, slots=True)
class Entry(Mark):
    """An event, serialised once. The event itself is let go: it is twice the size of its bytes."""

    data: bytes
    merchant_account: str
    payment_request_id: str
    type: EventType
    state: PaymentState
    append_link: Link | None = None
    """To what appended it, where that is sampled: made once for all subscribers."""

    def place(self) -> Mark:
        """The place alone, without the event's bytes."""
        return Mark(self.sequence, self.cursor, self.append_time)


@dataclass(frozen=True, slots=True)
class SnapshotMark(Mark):
    """A place in a snapshot; every payment whose newest event is up to `sequence` lies behind it.

    No time is known of it: the event there may be pruned.
    """

    head: Position
    """The log's head when the snapshot began, or was last read: the witness."""
    filter_id: bytes
    """Of the filter that chose the payments."""


@dataclass(frozen=True, slots=True)
class PaymentEntry(SnapshotMark):
    """A payment of a snapshot, serialised, and the place after it."""

    data: bytes


class Encoder:
    """Makes entries and marks: seals their cursors, and serialises with what it was given."""

    def __init__(self, seal: CursorSeal, encode: Encode) -> None:
        self._seal = seal
        self._encode = encode

    def cursor(self, sequence: int, event_id: str) -> str:
        """The cursor directly after an event."""
        return self._seal.seal(Position(sequence, fingerprint_of(event_id)))

    def mark(self, event: PaymentEvent) -> Mark:
        """The place directly after an event."""
        cursor = self.cursor(event.sequence, event.event_id)
        return Mark(event.sequence, cursor, event.append_time)

    def mark_before(self, oldest: PaymentEvent | None) -> Mark:
        """The place before the oldest event kept, known again by that event; None is no event.

        The start of the log while nothing was pruned.
        """
        if oldest is None or oldest.sequence == 1:
            return Mark(0, self._seal.seal(START), oldest.append_time if oldest else None)
        fingerprint = fingerprint_of(oldest.event_id)
        before = Position(oldest.sequence - 1, fingerprint, Phase.BEFORE)
        return Mark(before.sequence, self._seal.seal(before), oldest.append_time)

    def entry(self, event: PaymentEvent) -> Entry:
        """The event as it is sent."""
        cursor = self.cursor(event.sequence, event.event_id)
        return Entry(
            sequence=event.sequence,
            cursor=cursor,
            append_time=event.append_time,
            data=self._encode(event, cursor),
            merchant_account=event.payment.merchant_account,
            payment_request_id=event.payment.payment_request_id,
            type=event.type,
            state=event.payment.state,
            append_link=telemetry.sampled_link_to(event.append_traceparent),
        )

    def mark_at(self, position: Position, append_time: datetime | None) -> Mark:
        """The place in the log that a position tells."""
        return Mark(position.sequence, self._seal.seal(position), append_time)

    def snapshot_mark(self, sequence: int, head: Position, filter_id: bytes) -> SnapshotMark:
        """The place in a snapshot after every payment whose newest event is up to ``sequence``."""
        cursor = self._seal.seal(SnapshotPosition(sequence, head, filter_id))
        return SnapshotMark(sequence, cursor, None, head, filter_id)

    def payment_entry(self, payment: Payment, head: Position, filter_id: bytes) -> PaymentEntry:
        """The payment as a snapshot sends it."""
        place = self.snapshot_mark(payment.last_sequence, head, filter_id)
        data = self._encode(payment, place.cursor)
        return PaymentEntry(place.sequence, place.cursor, None, head, filter_id, data)
