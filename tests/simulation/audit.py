"""Listens between the processes and Antom: what was acknowledged, and who asks whom."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from antom_payments.notifications.app import ACKNOWLEDGEMENT
from simulation.history import History
from simulation.loop import Process
from simulation.network import HttpAnswer
from simulation.owed import Owed
from simulation.replicas import next_antom_key
from simulation.seals import is_answer_sealed, is_notification_sealed
from simulation.truth import Truth
from simulation.witness import Witness

_SESSION = "createPaymentSession"
_LONGEST_CALL_SECONDS = 30.0
"""Three times the budget of a call to our processes."""


class Audit:
    """Judges each request and each answer as it passes."""

    def __init__(self, witness: Witness, truth: Truth, history: History) -> None:
        self.acknowledgements: Owed[str] = Owed()
        """Notifications that were acknowledged, by the hash of their body."""
        self.antom_keys: dict[Process, Sequence[RSAPublicKey]] = {}
        """Whose answers a process of ours may believe."""
        self.taken_forged: list[str] = []
        """What was acknowledged, and signed with no key that its receiver accepts."""
        self._witness = witness
        self._truth = truth
        self._history = history
        self._asking: dict[str, list[Process]] = {}
        self.ahead: set[Process] = set()
        """Whose clock was ever far ahead."""
        self.leases_hold_from = 0.0
        """When no server's clock is far ahead of others', and no call of before is under way."""
        self._sure_from = 0.0
        """When every call began after the last restore."""
        self._restore_time = -1.0

    def restored(self, dump_time: float, *, running: bool) -> None:
        """What was acknowledged since the dump is the operator's loss.

        A call that began before lost its intent and its lease, too, where processes ran on.
        """
        self.acknowledgements.take_back(dump_time)
        self._restore_time = self._history.clock()
        self._truth.lapses.disturbed(self._truth.now())
        self._asking.clear()
        if running:
            self._sure_from = self._history.clock() + _LONGEST_CALL_SECONDS

    def clocks_are_set(self) -> None:
        """No clock is far ahead any more."""
        self.leases_hold_from = self._history.clock() + _LONGEST_CALL_SECONDS

    def asks(self, operation: str, body: bytes, sender: Process) -> None:
        """The intent is stored before Antom hears of it, and one process asks for it."""
        self._history.count(operation)
        if operation != _SESSION or self._history.clock() < self._sure_from:
            return
        name = json.loads(body)["paymentRequestId"]
        known = self._one("SELECT count(*) FROM payments WHERE payment_request_id = ?", name)
        if known == 0:
            self._history.violated("the intent is stored before Antom is asked", name)
        asking = self._asking.setdefault(name, [])
        if any(one.is_alive for one in asking):
            # To a server whose clock is ahead, the leases of others are over.
            if self._history.clock() < self.leases_hold_from:
                self._history.count("session is asked for twice at once, by clocks that differ")
            else:
                self._history.violated("one call at a time asks for a session", name)
        asking.append(sender)

    def asked(self, operation: str, body: bytes, sender: Process) -> None:
        """It waits no more."""
        if operation == _SESSION:
            asking = self._asking.get(json.loads(body)["paymentRequestId"], [])
            if sender in asking:
                asking.remove(sender)

    def told(self, operation: str, body: bytes, answer: HttpAnswer) -> None:
        """Remember what Antom refused."""
        if operation == _SESSION and b'"resultStatus":"F"' in answer.body.replace(b" ", b""):
            self._truth.refused.add(json.loads(body)["paymentRequestId"])

    def reached(self, request: httpx.Request, answer: HttpAnswer, sender: Process) -> None:
        """Remember what a process of ours may conclude from: what Antom signed with its keys."""
        if not is_answer_sealed(request, answer, self.antom_keys[sender]):
            if is_answer_sealed(request, answer, [next_antom_key().public_key()]):
                self._history.count("an answer comes with the next key too early")
            return
        operation = request.url.path.rpartition("/")[2]
        told = json.loads(answer.body)
        asked = json.loads(request.content)
        name = asked.get("paymentRequestId") or told.get("paymentRequestId", "")
        self._truth.heard(
            operation,
            name,
            told,
            signed=datetime.fromisoformat(httpx.Headers(answer.headers)["response-time"]),
            is_to_one_ahead=sender in self.ahead,
        )

    def answered(
        self, request: httpx.Request, answer: HttpAnswer, receiver: Process, since: float
    ) -> None:
        """What a sidecar acknowledges is Antom's, is stored by now, and has its one event."""
        digest = hashlib.sha256(request.content).hexdigest()
        is_sealed = is_notification_sealed(request, self.antom_keys[receiver])
        if answer.status != 200 or answer.body != ACKNOWLEDGEMENT:
            self._history.count(f"notification answered {answer.status}")
            if answer.status == 401 and is_sealed:
                self._history.violated("what Antom signs is taken", digest[:12])
            if not is_sealed and is_notification_sealed(request, [next_antom_key().public_key()]):
                self._history.count("a notification comes with the next key too early")
            return
        self._history.count("notification acknowledged")
        if not is_sealed:
            self.taken_forged.append(digest[:12])
            self._history.violated("what is forged is refused", digest[:12])
        if since > self._restore_time:
            # Else what was stored for it may have been taken while it was answered.
            self.acknowledgements.owe(digest, self._history.clock())
            self._look_for(digest)

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
        if event_id is None and orphan_state in {None, "ADOPTED"}:
            self._history.violated("a notification has its event", f"{digest[:12]} {outcome}")

    def _one(self, query: str, *values: str) -> object:
        return self._witness.connection.execute(query, values).fetchone()[0]
