"""The books of a run, closed at its end: whatever is known, for the checker of all our runs."""

from __future__ import annotations

import json

import invariants
from antom_payments.payment import PaymentState
from invariants import FactKey, StoredFact, StoredPayment
from simulation.callers import SECRET
from simulation.room import Room
from simulation.witness import Witness


def close(room: Room) -> None:
    """Hold everything against everything, once nothing goes wrong any more."""
    for violation in invariants.violations(_history(room)):
        room.history.violated(violation.invariant, violation.what)


def _history(room: Room) -> invariants.History:
    witness, truth = room.witness, room.truth
    said = truth.said()
    payments = _payments(witness)
    for row in payments:
        room.history.note(f"ends {row.payment_request_id} {row.state} {row.captured_minor_units}")
        room.history.counts[f"ends {row.state}"] += 1
    return invariants.History(
        log=[row for _, row in sorted(witness.rows.items())],
        facts=_facts(room),
        payments=payments,
        notifications=_notifications(witness),
        of_other_amounts=_of_other_amounts(room),
        antom=truth.payments(),
        accepted=frozenset(said[one] for one in room.audit.acknowledgements if one in said),
        told=frozenset(said.values()),
        taken_forged=room.audit.taken_forged,
        refused=frozenset(room.callers.promises.refused),
        acknowledged=list(room.callers.promises.answers),
        subscribers=[chapter for reader in room.readers for chapter in reader.chapters],
        outputs=_outputs(room),
        secrets={f"{one[:8]}…": one for one in sorted({SECRET, *truth.secrets()})},
        foreign=frozenset(room.callers.foreign_payments),
        forgotten=frozenset(witness.forgotten),
        lost=frozenset(event_id for ids in witness.lost.values() for event_id in ids),
    )


def _payments(witness: Witness) -> list[StoredPayment]:
    query = (
        "SELECT payment_request_id, payment_id, state, version, currency_code, minor_units,"
        " captured_minor_units, inquiry_wanted, last_sequence, merchant_account"
        " FROM payments ORDER BY payment_request_id"
    )
    return [
        StoredPayment(*row[:2], PaymentState(row[2]), *row[3:7], bool(row[7]), *row[8:])
        for row in witness.connection.execute(query)
    ]


def _facts(room: Room) -> list[StoredFact]:
    query = (
        "SELECT kind, fact_id, outcome, merchant_account, event_id, payment_request_id,"
        " payment_id, orphan_state FROM facts ORDER BY kind, fact_id, outcome, merchant_account"
    )
    found = []
    for row in room.witness.connection.execute(query):
        found.append(StoredFact(tuple(row[:4]), *row[4:7]))
        if row[7] is not None:
            room.history.counts[f"orphan {row[7]}"] += 1
    return found


def _notifications(witness: Witness) -> dict[str, FactKey]:
    query = (
        "SELECT notification_id, fact_kind, fact_id, fact_outcome, merchant_account"
        " FROM notifications WHERE fact_id IS NOT NULL"
    )
    return {row[0]: tuple(row[1:]) for row in witness.connection.execute(query)}


def _of_other_amounts(room: Room) -> frozenset[str]:
    query = "SELECT notification_id, body_sha256 FROM notifications"
    wrong = room.truth.of_other_amounts()
    rows = room.witness.connection.execute(query)
    return frozenset(notification_id for notification_id, digest in rows if digest in wrong)


def _outputs(room: Room) -> dict[str, str]:
    """Everything that leaves the encrypted columns, but for a caller's own answer."""
    events = [json.dumps(row.body) for row in room.witness.rows.values()]
    streams = {reader.name: reader.received.decode("latin-1") for reader in room.readers}
    return {
        "the log of a process": "\n".join(room.log_lines.all),
        "the events": "\n".join(events),
    } | streams
