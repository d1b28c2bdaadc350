"""Sees every commit to the log as it happens, holds it against the rules, and remembers it.

Pruning and restores take rows away; the witness knows what was there, hence what a reader must have
got and which cursors may be refused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import views
from antom_payments.payment import EventType, PaymentState
from antom_payments.payment_event import EventFilter
from invariants import LoggedEvent, PaymentKey, wrong_step
from simulation.history import History

_COLUMNS = (
    "sequence, event_id, merchant_account, payment_request_id, payment_version, type, state,"
    " append_time, body"
)


@dataclass(frozen=True)
class Row(LoggedEvent):
    """An event as it was committed."""

    append_time: str = ""
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """In a few words."""
        what = f"{self.payment_request_id} {self.type} {self.state}"
        return f"#{self.sequence} {what} ({self.source})"


def _row(found: tuple[Any, ...]) -> Row:
    """Of what is selected as ``_COLUMNS`` say."""
    *words, append_time, text = found
    sequence, event_id, merchant_account, payment_request_id, version, type_, state = words
    body = json.loads(text)
    return Row(
        sequence,
        event_id,
        payment_request_id,
        version,
        EventType(type_),
        PaymentState(body["state_before"]),
        PaymentState(state),
        body["source"],
        views.of_log(body),
        merchant_account,
        body["capture_id"],
        body["notification_id"],
        append_time,
        body,
    )


class Witness:
    """Knows the whole log, of this epoch: a restore begins another."""

    def __init__(self, file: Path, history: History, judge: Any) -> None:
        self.file = file
        self.history = history
        self.judge = judge
        """Told of each new row, and of the outcome of its fact."""
        self.rows: dict[int, Row] = {}
        self.head = 0
        self.pruned_through = 0
        self.epoch = 0
        self.lost: dict[int, set[str]] = {}
        """What restores took away, by sequence."""
        self.forgotten: set[PaymentKey] = set()
        """Payments of which a restore took the intent."""
        self.kept_through = 0
        """The head of the log as it was restored last."""
        self._payments: dict[tuple[str, str], Row] = {}
        self._ids: set[str] = set()
        self._connection: sqlite3.Connection | None = None

    def committed(self) -> None:
        """Read what a commit brought."""
        query = f"SELECT {_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence"
        for found in self.connection.execute(query, (self.head,)):
            row = _row(found)
            self._judge(row)
            self.rows[row.sequence] = row
            self.head = row.sequence
            self._payments[row.key] = row
            self.history.note(f"log {row.told}")
            self.history.counts[f"event {row.type}"] += 1
            self.history.counts[f"source {row.source}"] += 1
            self.judge(row, self._outcome_of(row))
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

    def payments(self) -> dict[PaymentKey, tuple[int, str]]:
        """The payments that are stored: their versions, and when they changed last."""
        query = "SELECT merchant_account, payment_request_id, version, update_time FROM payments"
        rows = self.connection.execute(query)
        return {(merchant, name): (version, time) for merchant, name, version, time in rows}

    def restored(self, known: Iterable[PaymentKey]) -> None:
        """The database was brought back to an older point; before, it had ``known`` payments."""
        self.close()
        self.forgotten |= set(known) - self.payments().keys()
        head, oldest = self.connection.execute(
            "SELECT max(sequence), min(sequence) FROM events"
        ).fetchone()
        self.epoch += 1
        self.head = self.kept_through = head or 0
        self.pruned_through = (oldest or 1) - 1
        for number in self.rows.keys() - range(self.head + 1):
            self.lost.setdefault(number, set()).add(self.rows[number].event_id)
        self.rows = {n: row for n, row in self.rows.items() if n <= self.head}
        self._ids = {row.event_id for row in self.rows.values()}
        self._payments = {row.key: row for _, row in sorted(self.rows.items())}

    def has_lost(self, event_id: str) -> bool:
        """Whether a restore took an event away."""
        return any(event_id in ids for ids in self.lost.values())

    def version(self, key: PaymentKey, version: int) -> Row | None:
        """A payment's event with that version."""
        found = (row for row in self.rows.values() if (row.key, row.version) == (key, version))
        return next(found, None)

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

    def _outcome_of(self, row: Row) -> str:
        """Of the fact that an event tells; empty when it tells none, or another event tells it."""
        query = "SELECT outcome FROM facts WHERE event_id = ?"
        found = self.connection.execute(query, (row.event_id,)).fetchone()
        return found[0] if found else ""

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
        for wrong in wrong_step(row, self._payments.get(row.key)):
            self.history.violated("steps are legal", wrong)
