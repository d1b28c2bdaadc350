"""Listens between the processes and Antom, and closes the books at the end of a run."""

from __future__ import annotations

import hashlib
import json

from antom_payments.notifications.app import ACKNOWLEDGEMENT
from antom_payments.payment import FINAL_STATES, PaymentState
from simulation.callers import SECRET, Promises
from simulation.history import History
from simulation.loop import Process
from simulation.network import HttpAnswer
from simulation.readers import Reader
from simulation.truth import Truth, states_of, taken
from simulation.witness import Witness

_SESSION = "createPaymentSession"


class Audit:
    """What was acknowledged, who asks whom, and whether it all adds up."""

    def __init__(self, witness: Witness, truth: Truth, history: History) -> None:
        self.acknowledgements: dict[str, float] = {}
        """Notifications by the hash of their body, and when they were acknowledged last."""
        self.forged: set[str] = set()
        self.log_lines: list[str] = []
        self._witness = witness
        self._truth = truth
        self._history = history
        self._asking: dict[str, list[Process]] = {}

    def restored(self, dump_time: float) -> None:
        """What was acknowledged since the dump is the operator's loss."""
        kept = {one: at for one, at in self.acknowledgements.items() if at < dump_time}
        self.acknowledgements = kept

    def asks(self, operation: str, body: bytes, sender: Process) -> None:
        """The intent is stored before Antom hears of it, and one process asks for it."""
        self._history.count(operation)
        if operation != _SESSION:
            return
        name = json.loads(body)["paymentRequestId"]
        known = self._one("SELECT count(*) FROM payments WHERE payment_request_id = ?", name)
        if known == 0 and not self._witness.epoch:
            self._history.violated("the intent is stored before Antom is asked", name)
        asking = self._asking.setdefault(name, [])
        if any(one.is_alive for one in asking) and not self._witness.epoch:
            self._history.violated("one call at a time asks for a session", name)
        asking.append(sender)

    def asked(self, operation: str, body: bytes, sender: Process) -> None:
        """It waits no more."""
        if operation == _SESSION:
            self._asking[json.loads(body)["paymentRequestId"]].remove(sender)

    def told(self, operation: str, body: bytes, answer: HttpAnswer) -> None:
        """Remember what Antom refused."""
        if operation == _SESSION and b'"resultStatus":"F"' in answer.body.replace(b" ", b""):
            self._truth.refused.add(json.loads(body)["paymentRequestId"])

    def acknowledged(self, body: bytes, answer: HttpAnswer) -> None:
        """What a sidecar acknowledges is stored by now, and has its one event."""
        if answer.status != 200 or answer.body != ACKNOWLEDGEMENT:
            self._history.count(f"notification answered {answer.status}")
            return
        self._history.count("notification acknowledged")
        digest = hashlib.sha256(body).hexdigest()
        if digest in self.forged:
            self._history.violated("what is forged is refused", digest[:12])
        self.acknowledgements[digest] = self._history.clock()
        self._look_for(digest)

    def close(self, promises: Promises, readers: list[Reader]) -> None:
        """Hold everything against everything, once nothing goes wrong any more."""
        for digest in self.acknowledgements:
            self._look_for(digest)
        for merchant, name in promises.sessions:
            query = "SELECT count(*) FROM payments WHERE payment_request_id = ?"
            if not self._one(query, name):
                self._history.violated("what was told is not lost", f"{merchant} {name}")
        self._close_payments()
        self._close_facts()
        self._close_readers(readers)
        self._close_secrets(readers)

    def _look_for(self, digest: str) -> None:
        query = (
            "SELECT n.outcome, f.event_id, f.orphan_state FROM notifications n LEFT JOIN facts f"
            " ON f.merchant_account = n.merchant_account AND f.kind = n.fact_kind"
            " AND f.fact_id = n.fact_id AND f.outcome = n.fact_outcome WHERE n.body_sha256 = ?"
        )
        found = self._witness.connection.execute(query, (digest,)).fetchone()
        if found is None:
            self._history.violated("what was acknowledged is stored", digest[:12])
            return
        outcome, event_id, orphan_state = found
        if orphan_state is not None:
            self._history.counts[f"orphan {orphan_state}"] += 1
        if event_id is None and orphan_state in {None, "ADOPTED"}:
            self._history.violated("a notification has its event", f"{digest[:12]} {outcome}")
        if event_id is not None and not self._witness.knows(event_id):
            self._history.violated("a notification has its event", f"{digest[:12]} {event_id}")

    def _close_payments(self) -> None:
        """Each payment stands as it stands at Antom, and as its newest event says."""
        query = (
            "SELECT merchant_account, payment_request_id, state, version, captured_minor_units,"
            " inquiry_wanted, last_sequence, minor_units FROM payments ORDER BY payment_request_id"
        )
        for row in self._witness.connection.execute(query):
            merchant, name, text, version, captured, wanted, sequence, amount = row
            state = PaymentState(text)
            payment = self._truth.payment(name)
            self._history.note(f"ends {name} {state} {captured}")
            self._history.counts[f"ends {state}"] += 1
            expected = states_of(payment)
            if payment and self._witness.epoch and int(payment.amount.value) != amount:
                # A restore forgot the payment, and its id was taken for another amount since.
                self._history.counts["ends with another amount than Antom's"] += 1
                if state in {PaymentState.AUTHORIZED, PaymentState.SUCCEEDED}:
                    self._history.violated("amounts are compared", f"{merchant} {name} {state}")
                wanted = False
            elif state not in expected:
                at_antom = payment.status if payment else "not known"
                wanted_states = sorted(expected)
                told = f"{merchant} {name} is {state}, Antom: {at_antom}, hence {wanted_states}"
                self._history.violated("all ends as it stands at Antom", told)
            elif payment and state in FINAL_STATES | {PaymentState.AUTHORIZED}:
                real = taken(payment)
                if state is not PaymentState.CANCELLED and captured != real:
                    told = f"{merchant} {name} took {captured}, Antom {real}"
                    self._history.violated("money adds up", told)
            if wanted and state in FINAL_STATES:
                self._history.violated("nothing stays in doubt", f"{merchant} {name} {state}")
            self._close_versions(merchant, name, state, version, sequence)

    def _close_versions(
        self, merchant: str, name: str, state: PaymentState, version: int, sequence: int
    ) -> None:
        newest = self._witness.newest(merchant, name)
        if newest is None:
            if version:
                self._history.violated("a payment is its newest event", f"{merchant} {name}")
        elif (newest.state, newest.version, newest.sequence) != (state, version, sequence):
            self._history.violated("a payment is its newest event", f"{newest.told}; {state}")

    def _close_facts(self) -> None:
        """Each fact names one event, and no two the same."""
        query = "SELECT kind, fact_id, outcome, event_id, orphan_state FROM facts"
        seen: set[str] = set()
        for kind, fact_id, outcome, event_id, orphan_state in self._witness.connection.execute(
            query
        ):
            fact = f"{kind} {fact_id} {outcome}"
            if event_id is None:
                if orphan_state in {None, "ADOPTED"}:
                    self._history.violated("a fact has its event", fact)
                continue
            if event_id in seen or not self._witness.knows(event_id):
                self._history.violated("a fact has its event", fact)
            seen.add(event_id)
        told: set[tuple[str, ...]] = set()
        for _, row in sorted(self._witness.rows.items()):
            if row.is_repetition and row.tells in told:
                self._history.violated("a fact makes one event", row.told)
            told.add(row.tells)

    def _close_readers(self, readers: list[Reader]) -> None:
        """Each subscriber has processed everything."""
        for reader in readers:
            since = self._witness.pruned_through if reader.since is None else reader.since
            for row in self._witness.after(since, reader.event_filter):
                if row.event_id not in reader.processed:
                    told = f"{reader.name} never processed {row.told}"
                    self._history.violated("readers get everything", told)
                    break

    def _close_secrets(self, readers: list[Reader]) -> None:
        """Nothing personal left the encrypted columns."""
        told = "\n".join(self.log_lines)
        rows = "\n".join(json.dumps(row.body) for row in self._witness.rows.values())
        received = b"".join(bytes(reader.received) for reader in readers)
        for secret in {SECRET, *self._truth.secrets()}:
            if secret in told or secret in rows or secret.encode() in received:
                self._history.violated("secrets stay secret", f"{secret[:8]}…")

    def _one(self, query: str, *values: str) -> object:
        return self._witness.connection.execute(query, values).fetchone()[0]
