"""One transaction's worth of facts, decided in memory between its reads and its writes. Pure.

Copies of a fact within the batch share its outcome: a batch is reduced to distinct facts by what it
already knows (50 copies in one multi-row statement would otherwise make 50 events).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from antom_payments.fact import Fact, FactKind, Notification, Outcome, contradicted, decide
from antom_payments.payment import (
    Decision,
    EventType,
    Payment,
    Source,
    with_refusal,
    with_session,
)
from antom_payments.payment_event import PaymentEvent
from antom_payments.session import Session

DEFAULT_SESSION_LIFE = timedelta(hours=1)
"""Antom's default (antom-api 6.5), for an answer that names no expiry."""

Identity = tuple[str, FactKind, str, Outcome]
PaymentKey = tuple[str, str]
"""(`merchant_account`, `payment_request_id`), or (`merchant_account`, `payment_id`)."""


class AppliedOutcome(StrEnum):
    """What became of a member."""

    APPLIED = "APPLIED"
    """A new fact: it made its event."""
    DUPLICATE = "DUPLICATE"
    """The fact was known; nothing changed."""
    CONFLICT = "CONFLICT"
    """The fact was known with other content: kept, nothing concluded, an inquiry is wanted."""
    ORPHANED = "ORPHANED"
    """No payment is known for it yet: kept until one adopts it."""
    QUARANTINED = "QUARANTINED"
    """Verified, but not understood or not to be applied: kept for an operator."""


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What Antom answered to whoever asked for a session under a lease: the session, or no."""

    merchant_account: str
    payment_request_id: str
    lease_token: str
    session: Session | None = None
    """None: a definite refusal, with its `result_code`."""
    result_code: str = ""

    @property
    def key(self) -> PaymentKey:
        """The payment that it is about."""
        return (self.merchant_account, self.payment_request_id)


@dataclass(frozen=True, slots=True)
class Member:
    """Something to apply: a fact, the notification that told it, or both; or a session's result.

    With `not_understood` set, which is the reason, nothing follows but, for a fact that is known
    already, a duplicate: the notification is quarantined.
    """

    fact: Fact | None = None
    notification: Notification | None = None
    not_understood: str = ""
    session_result: SessionResult | None = None
    traceparent: str = ""
    """W3C text of the span that appends it; set by the store."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a member, and the event that tells its fact (now or earlier)."""

    outcome: AppliedOutcome
    event: PaymentEvent | None = None
    payment: Payment | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a member, before anything is written."""

    outcome: AppliedOutcome
    known: KnownFact | None = None
    key: PaymentKey | None = None


@dataclass(slots=True)
class KnownFact:
    """A fact that the database has, or will have with this transaction."""

    fact: Fact
    event_id: str | None
    notification_id: str | None
    told_time: datetime
    is_orphan: bool
    is_conclusive: bool
    """False while its meaning is open (another amount, a contradiction, a capture in doubt)."""
    is_new: bool = False
    is_adopted: bool = False
    """Adopted in this transaction."""
    is_retold: bool = False
    """Told again in this transaction, by an inquiry that knows more."""
    told_again: int = 0
    """How often this transaction told it again."""


@dataclass(slots=True)
class Batch:
    """What a transaction has read, and what it is about to write."""

    facts: dict[Identity, KnownFact] = field(default_factory=dict)
    payments: dict[PaymentKey, Payment] = field(default_factory=dict)
    by_payment_id: dict[PaymentKey, PaymentKey] = field(default_factory=dict)
    changed: set[PaymentKey] = field(default_factory=set)
    drafts: list[PaymentEvent] = field(default_factory=list)
    leases: dict[PaymentKey, str | None] = field(default_factory=dict)
    """Who is asking Antom for the payment's session."""
    session_ids: dict[PaymentKey, str] = field(default_factory=dict)
    """`payment_session_id` of the sessions that are stored, where it matters."""
    sessions: dict[PaymentKey, Session] = field(default_factory=dict)
    """Sessions to store."""
    released: set[PaymentKey] = field(default_factory=set)
    """Payments whose lease ends with this transaction."""

    def add_payment(self, payment: Payment) -> None:
        """Know a payment that was read under its lock."""
        key = (payment.merchant_account, payment.payment_request_id)
        self.payments[key] = payment
        if payment.payment_id:
            self.by_payment_id[(payment.merchant_account, payment.payment_id)] = key

    def tell(self, member: Member, now: datetime) -> Verdict:
        """Decide one member, given all before it."""
        if member.session_result is not None:
            return self._tell_session(member.session_result, member.traceparent, now)
        fact = member.fact
        if fact is None:
            return Verdict(AppliedOutcome.QUARANTINED)
        key = self._payment_of(fact)
        known = self.facts.get(fact.identity)
        if known is not None:
            return self._tell_again(known, member, key, now)
        if member.not_understood:
            return Verdict(AppliedOutcome.QUARANTINED)
        notification = member.notification
        known = KnownFact(
            fact=fact,
            event_id=None,
            notification_id=notification.notification_id if notification else None,
            told_time=now,
            is_orphan=key is None,
            is_conclusive=False,
            is_new=True,
        )
        self.facts[fact.identity] = known
        if key is None:
            return Verdict(AppliedOutcome.ORPHANED, known)
        self._conclude(known, key, member.traceparent, now)
        return Verdict(AppliedOutcome.APPLIED, known, key)

    def _tell_session(self, told: SessionResult, traceparent: str, now: datetime) -> Verdict:
        """Antom's answer to CreateSession. Told twice by the same asker, it changes nothing."""
        key = told.key
        payment = self.payments[key]
        is_leased = self.leases.get(key) == told.lease_token
        decision: Decision | None = None
        if told.session is not None:
            if is_leased or self.session_ids.get(key) != told.session.payment_session_id:
                expiry = told.session.payment_session_expiry_time or now + DEFAULT_SESSION_LIFE
                decision = with_session(payment, expiry, now)
                self.sessions[key] = told.session
                self.session_ids[key] = told.session.payment_session_id
        elif is_leased:
            # Without the lease somebody else may have a session by now: nothing is concluded.
            decision = with_refusal(payment, told.result_code, now)
        if is_leased:
            self.leases[key] = None
            self.released.add(key)
        if decision is None:
            return Verdict(AppliedOutcome.DUPLICATE, key=key)
        self.add_payment(decision.payment)
        self.changed.add(key)
        self.drafts.append(
            PaymentEvent(
                event_id=str(uuid.uuid4()),
                type=decision.type,
                payment=decision.payment,
                state_before=decision.state_before,
                source=Source.API,
                append_traceparent=traceparent,
                result_code=decision.payment.result_code,
            )
        )
        return Verdict(AppliedOutcome.APPLIED, key=key)

    def _tell_again(
        self, known: KnownFact, member: Member, key: PaymentKey | None, now: datetime
    ) -> Verdict:
        """A fact told again changes nothing, unless it is told otherwise, or by an inquiry."""
        assert member.fact is not None  # noqa: S101 - `tell` looked
        fact = member.fact
        known.told_again += 1
        if key and known.is_orphan and not member.not_understood:
            # Its payment is known by now: of a restored database, or bound by other news.
            known.is_orphan, known.is_adopted = False, True
            self._conclude(known, key, member.traceparent, now)
            return Verdict(AppliedOutcome.APPLIED, known, key)
        if key and fact.source is Source.INQUIRY:
            if self._closes(known, fact, key, now):
                known.fact, known.is_retold, known.notification_id = fact, True, None
                self._conclude(known, key, member.traceparent, now)
                return Verdict(AppliedOutcome.APPLIED, known, key)
            self._note_confirmed(known, fact, key)
        if _same_content(fact, known.fact):
            outcome = AppliedOutcome.ORPHANED if known.is_orphan else AppliedOutcome.DUPLICATE
            return Verdict(outcome, known, key)
        if key is not None:
            payment = self.payments[key]
            self.payments[key] = replace(payment, inquiry_wanted=True)
            self.changed.add(key)
        return Verdict(AppliedOutcome.CONFLICT, known, key)

    def _closes(self, known: KnownFact, told: Fact, key: PaymentKey, now: datetime) -> bool:
        """Whether a signed inquiry settles what was told before and left open, or told wrongly."""
        payment = self.payments[key]
        is_payment = told.kind is FactKind.PAYMENT
        if known.is_orphan or (is_payment and told.amount != payment.amount):
            return False
        decision = decide(payment, told, now)
        settles = decision.is_conclusive and not known.is_conclusive
        return settles or decision.type is EventType.PAYMENT_CORRECTED

    def _note_confirmed(self, known: KnownFact, told: Fact, key: PaymentKey) -> None:
        """An inquiry that says what is known already ends the wish for one."""
        payment = self.payments[key]
        is_told = known.is_conclusive and told.kind is FactKind.PAYMENT
        if is_told and payment.inquiry_wanted and _same_content(told, known.fact):
            self.payments[key] = replace(payment, inquiry_wanted=False)
            self.changed.add(key)

    def _conclude(self, known: KnownFact, key: PaymentKey, traceparent: str, now: datetime) -> None:
        """Let the domain decide, and conclude what waited for the payment's `paymentId`, too."""
        self._decide(known, key, traceparent, now)
        self._adopt(key, traceparent, now)

    def _decide(self, known: KnownFact, key: PaymentKey, traceparent: str, now: datetime) -> None:
        """Let the domain decide; note the change and its one event."""
        fact = known.fact
        # paymentRequestId and paymentId are one-to-one (antom-api 4.2).
        owner = self.by_payment_id.get((fact.merchant_account, fact.payment_id), key)
        if owner == key:
            decision = decide(self.payments[key], fact, now)
        else:
            decision = contradicted(self.payments[key], now)
        self.add_payment(decision.payment)
        self.changed.add(key)
        known.event_id = str(uuid.uuid4())
        known.is_conclusive = decision.is_conclusive
        self.drafts.append(
            PaymentEvent(
                event_id=known.event_id,
                type=decision.type,
                payment=decision.payment,
                state_before=decision.state_before,
                source=fact.source,
                antom_time=fact.antom_time,
                notification_id=known.notification_id or "",
                append_traceparent=traceparent,
                result_code=fact.result_code,
                reported_amount=decision.reported_amount,
                capture_id=fact.fact_id if fact.kind is FactKind.CAPTURE else "",
            )
        )

    def _adopt(self, key: PaymentKey, traceparent: str, now: datetime) -> None:
        """Conclude the orphans that waited for this payment's `paymentId`, oldest first."""
        payment_id = self.payments[key].payment_id
        waiting = [
            known
            for known in self.facts.values()
            if known.is_orphan
            and known.fact.payment_id == payment_id
            and known.fact.merchant_account == key[0]
            and known.fact.payment_request_id in {None, key[1]}
        ]
        for known in sorted(waiting, key=lambda known: known.told_time):
            known.is_orphan = False
            known.is_adopted = True
            self._decide(known, key, traceparent, now)

    def _payment_of(self, fact: Fact) -> PaymentKey | None:
        """The payment of a fact: by the merchant's id if it names one, else by Antom's."""
        if fact.payment_request_id:
            key = (fact.merchant_account, fact.payment_request_id)
            return key if key in self.payments else None
        return self.by_payment_id.get((fact.merchant_account, fact.payment_id))


def _same_content(told: Fact, known: Fact) -> bool:
    """Whether a fact is told as it was told before, in what matters."""
    requests = {told.payment_request_id, known.payment_request_id} - {None}
    return told.amount == known.amount and told.payment_id == known.payment_id and len(requests) < 2
