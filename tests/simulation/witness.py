"""Sees every commit to the log as it happens, holds it against the rules, and remembers it.

Pruning and restores take rows away; the witness knows what was there, hence what a reader must have
got and which cursors may be refused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antom_payments.payment import EventType, PaymentState, step
from antom_payments.payment_event import EventFilter
from simulation.history import History

_COLUMNS = (
    "sequence, event_id, merchant_account, payment_request_id, payment_version, type, state,"
    " append_time, body"
)
_TOLD_ONLY = {EventType.CONTRADICTION, EventType.AMOUNT_MISMATCH}
_TOLD_OFTEN = {
    *_TOLD_ONLY,
    EventType.PAYMENT_PENDING,
    EventType.CAPTURE_PROCESSING,
    EventType.PAYMENT_CORRECTED,
}
_PARTLY = {EventType.CAPTURE_SUCCEEDED, EventType.CAPTURE_FAILED, EventType.CAPTURE_PROCESSING}


@dataclass(frozen=True)
class Row:
    """An event as it was committed."""

    sequence: int
    event_id: str
    merchant_account: str
    payment_request_id: str
    version: int
    type: EventType
    state: PaymentState
    append_time: str
    body: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Which payment it is about."""
        return (self.merchant_account, self.payment_request_id)

    @property
    def tells(self) -> tuple[str, ...]:
        """The news that it is."""
        return (*self.key, self.type, self.body["capture_id"])

    @property
    def is_repetition(self) -> bool:
        """Whether it is wrong when the same news was told before.

        Not what an inquiry tells again because it moves the payment, nor what is told of facts of
        several outcomes.
        """
        is_moved = self.body["source"] == "INQUIRY" and self.body["state_before"] != self.state
        return self.body["source"] != "API" and self.type not in _TOLD_OFTEN and not is_moved

    @property
    def told(self) -> str:
        """In a few words."""
        source = self.body["source"]
        return f"#{self.sequence} {self.payment_request_id} {self.type} {self.state} ({source})"


class Witness:
    """Knows the whole log, of this epoch: a restore begins another."""

    def __init__(self, file: Path, history: History, judge: Any) -> None:
        self.file = file
        self.history = history
        self.judge = judge
        """Told of each new row."""
        self.rows: dict[int, Row] = {}
        self.head = 0
        self.pruned_through = 0
        self.epoch = 0
        self.lost: dict[int, set[str]] = {}
        """What restores took away, by sequence."""
        self._payments: dict[tuple[str, str], Row] = {}
        self._ids: set[str] = set()
        self._connection: sqlite3.Connection | None = None

    def committed(self) -> None:
        """Read what a commit brought."""
        query = f"SELECT {_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence"
        for found in self.connection.execute(query, (self.head,)):
            *words, body = found
            row = Row(
                *words[:5], EventType(words[5]), PaymentState(words[6]), words[7], json.loads(body)
            )
            self._judge(row)
            self.rows[row.sequence] = row
            self.head = row.sequence
            self._payments[row.key] = row
            self.history.note(f"log {row.told}")
            self.history.counts[f"event {row.type}"] += 1
            self.history.counts[f"source {row.body['source']}"] += 1
            self.judge(row)
        oldest = self.connection.execute("SELECT min(sequence) FROM events").fetchone()[0]
        if oldest and oldest - 1 > self.pruned_through:
            self.history.count("pruned")
            self.pruned_through = oldest - 1

    @property
    def connection(self) -> sqlite3.Connection:
        """For looking at what is committed."""
        if self._connection is None:
            self._connection = sqlite3.connect(self.file, timeout=0, isolation_level=None)
        return self._connection

    def close(self) -> None:
        """Hold the file no longer."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def restored(self) -> None:
        """The database was brought back to an older point."""
        self.close()
        head, oldest = self.connection.execute(
            "SELECT max(sequence), min(sequence) FROM events"
        ).fetchone()
        self.epoch += 1
        self.head = head or 0
        self.pruned_through = (oldest or 1) - 1
        for number in self.rows.keys() - range(self.head + 1):
            self.lost.setdefault(number, set()).add(self.rows[number].event_id)
        self.rows = {n: row for n, row in self.rows.items() if n <= self.head}
        self._ids = {row.event_id for row in self.rows.values()}
        self._payments = {row.key: row for _, row in sorted(self.rows.items())}

    def knows(self, event_id: str) -> bool:
        """Whether an event was ever in this log."""
        return event_id in self._ids

    def has_lost(self, event_id: str) -> bool:
        """Whether a restore took an event away."""
        return any(event_id in ids for ids in self.lost.values())

    def newest(self, merchant_account: str, payment_request_id: str) -> Row | None:
        """A payment's newest event."""
        return self._payments.get((merchant_account, payment_request_id))

    def event_id(self, sequence: int) -> str:
        """Which event stands there; empty when none does."""
        row = self.rows.get(sequence)
        return row.event_id if row else ""

    def after(self, sequence: int, event_filter: EventFilter) -> Iterator[Row]:
        """What a reader gets after ``sequence``."""
        for number in range(sequence + 1, self.head + 1):
            row = self.rows[number]
            if event_filter.admits(row):
                yield row

    def _judge(self, row: Row) -> None:
        """Dense, in order, each event once, each payment's steps legal."""
        if row.sequence != self.head + 1:
            self.history.violated("the log is dense", f"{row.told} after #{self.head}")
        last = self.rows.get(row.sequence - 1)
        if last and row.append_time < last.append_time:
            self.history.violated("append times never go back", row.told)
        if row.event_id in self._ids:
            self.history.violated("an event is appended once", row.told)
        self._ids.add(row.event_id)
        self._judge_step(row, self._payments.get(row.key))

    def _judge_step(self, row: Row, before: Row | None) -> None:
        state_before = PaymentState(row.body["state_before"])
        known = before.state if before else state_before
        if row.version != (before.version + 1 if before else 1) or known != state_before:
            self.history.violated("a payment's events are dense", f"{row.told} after {before}")
        if row.type in _TOLD_ONLY:
            legal = {state_before}
        elif row.type is EventType.PAYMENT_CORRECTED:
            legal = set(PaymentState)
        else:
            legal = {step(state_before, row.type) or row.state}
            if step(state_before, row.type) is None:
                legal = set()
            if row.type in _PARTLY and state_before.is_open:
                legal.add(PaymentState.PROCESSING)
            elif row.type in _PARTLY:
                legal.add(state_before)
        if row.state not in legal:
            self.history.violated("steps are legal", f"{row.told} from {state_before}")
