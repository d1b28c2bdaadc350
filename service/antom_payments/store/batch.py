"""One transaction's worth of facts, decided in memory between its reads and its writes. Pure.

Copies of a fact within the batch share its outcome: a batch is reduced to distinct facts by what it
already knows (50 copies in one multi-row statement would otherwise make 50 events).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from antom_payments import telemetry
from antom_payments.decision import contradicted, decide, shows_only_held
from antom_payments.errors import PaymentNotFound
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.payment import (
    DEFAULT_SESSION_LIFE,
    Decision,
    EventType,
    Payment,
    Source,
    with_refusal,
    with_session,
)
from antom_payments.payment_event import PaymentEvent
from antom_payments.session import Session
from antom_payments.store.members import (
    AppliedOutcome,
    Identity,
    InquiryKind,
    Member,
    PaymentKey,
    SessionResult,
    WantedInquiry,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a member, before anything is written."""

    outcome: AppliedOutcome
    known: KnownFact | None = None
    key: PaymentKey | None = None
    adopted: tuple[KnownFact, ...] = ()
    wanted: WantedInquiry | None = None
    is_leased: bool = False


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
    found: dict[PaymentKey, Payment] = field(default_factory=dict)
    """The payments as they were read."""
    changed: set[PaymentKey] = field(default_factory=set)
    drafts: list[PaymentEvent] = field(default_factory=list)
    wanted: set[WantedInquiry] = field(default_factory=set)
    """What Antom is to be asked because of this transaction; also in each answer."""
    leases: dict[PaymentKey, str | None] = field(default_factory=dict)
    """Who is asking Antom for the payment's session."""
    session_ids: dict[PaymentKey, str] = field(default_factory=dict)
    """`payment_session_id` of the sessions that are stored, where it matters."""
    sessions: dict[PaymentKey, Session] = field(default_factory=dict)
    """Sessions to store."""
    released: set[PaymentKey] = field(default_factory=set)
    """Payments whose lease ends with this transaction."""
    traceparent: str = ""
    """Of whoever told the member that is looked at."""
    is_undecided: bool = False
    """Whether that trace is kept only with the payment's session."""

    def find_payment(self, payment: Payment) -> None:
        """Know a payment that was read under its lock."""
        self.found[payment.merchant_account, payment.payment_request_id] = payment
        self.add_payment(payment)

    def changes(self) -> list[tuple[Payment, Payment]]:
        """The payments that change, before and after."""
        return [(self.found[key], self.payments[key]) for key in sorted(self.changed)]

    def add_payment(self, payment: Payment) -> None:
        """Know a payment as it stands after what was told."""
        key = (payment.merchant_account, payment.payment_request_id)
        self.payments[key] = payment
        if payment.payment_id:
            self.by_payment_id[(payment.merchant_account, payment.payment_id)] = key

    def named(self, member: Member) -> Member:
        """The member, its fact under the `paymentId` that its payment has, when it names none.

        An inquiry's answer may leave it out (antom-api 3.3); the fact is the same. Not of EXPIRED:
        that Antom knows no `paymentId` may be what it says.
        """
        fact = member.fact
        if fact is None or fact.payment_id or fact.outcome is Outcome.EXPIRED:
            return member
        payment = self.payments.get((fact.merchant_account, fact.payment_request_id or ""))
        if payment is None or not payment.payment_id:
            return member
        fact_id = payment.payment_id if fact.kind is FactKind.PAYMENT else fact.fact_id
        fact = replace(fact, payment_id=payment.payment_id, fact_id=fact_id)
        return replace(member, fact=fact)

    def tell(self, member: Member, now: datetime) -> Verdict:
        """Decide one member, given all before it.

        Raises PaymentNotFound for what an inquiry or a session's answer tells of a payment that a
        restore took away meanwhile.
        """
        self.traceparent, self.is_undecided = member.traceparent, member.is_undecided
        if member.session_result is not None:
            return self._tell_session(member.session_result, now)
        fact = member.fact
        if fact is None:
            return Verdict(AppliedOutcome.QUARANTINED)
        key = self._payment_of(fact)
        if key is None and (fact.outcome is Outcome.EXPIRED or not fact.payment_id):
            # Of an inquiry about a payment that is gone. That it lapsed is no news of another that
            # takes its id, and whose it is cannot be asked without Antom's id.
            raise PaymentNotFound
        known = self.facts.get(fact.identity)
        if known is not None:
            return self._tell_again(known, member, key, now)
        if member.not_understood:
            return Verdict(AppliedOutcome.QUARANTINED, wanted=self._want(fact, key))
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
            return Verdict(AppliedOutcome.ORPHANED, known, wanted=self._want(fact, key))
        return self._applied(known, key, now)

    def _applied(self, known: KnownFact, key: PaymentKey, now: datetime) -> Verdict:
        """Conclude a fact, and the orphans that waited for it."""
        self._conclude(known, key, now)
        return Verdict(AppliedOutcome.APPLIED, known, key, self._adopt(key, now))

    def _want(self, fact: Fact, key: PaymentKey | None) -> WantedInquiry:
        """Note that Antom is to be asked: about the fact's payment, or whose it is."""
        kind, subject_id = InquiryKind.ORPHAN, fact.payment_id
        if key is not None:
            kind, subject_id = InquiryKind.PAYMENT, key[1]
        wanted = WantedInquiry(fact.merchant_account, kind, subject_id)
        self.wanted.add(wanted)
        return wanted

    def _tell_session(self, told: SessionResult, now: datetime) -> Verdict:
        """Antom's answer to CreateSession. Told twice by the same asker, it changes nothing."""
        key = told.key
        payment = self.payments.get(key)
        if payment is None:
            raise PaymentNotFound
        is_leased = self.leases.get(key) == told.lease_token
        decision: Decision | None = None
        if told.session is not None:
            expiry = told.session.payment_session_expiry_time or now + DEFAULT_SESSION_LIFE
            if is_leased or self._is_newer(key, told.session, expiry):
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
            return Verdict(AppliedOutcome.DUPLICATE, key=key, is_leased=is_leased)
        self.add_payment(decision.payment)
        self.changed.add(key)
        self._draft(decision, Source.API, result_code=decision.payment.result_code)
        return Verdict(AppliedOutcome.APPLIED, key=key, is_leased=is_leased)

    def _is_newer(self, key: PaymentKey, session: Session, expiry: datetime) -> bool:
        """Whether a session that comes without its lease outlives the one that is stored."""
        if self.session_ids.get(key) == session.payment_session_id:
            return False
        stored = self.payments[key].payment_session_expiry_time
        return stored is None or expiry > stored

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
            return self._applied(known, key, now)
        if key and fact.source is Source.INQUIRY:
            decision = self._decide(fact, key, now)
            if _settles(decision, known):
                known.fact, known.is_retold, known.notification_id = fact, True, None
                return self._applied(known, key, now)
            # That a payment's capture came to be listed after its end is told once.
            if fact.kind is FactKind.PAYMENT or decision.type is not EventType.CONTRADICTION:
                self._want_inquiry(key, wanted=decision.payment.inquiry_wanted)
        is_held = key is not None and shows_only_held(self.payments[key], fact)
        if _same_content(fact, known.fact) and not is_held:
            outcome = AppliedOutcome.ORPHANED if known.is_orphan else AppliedOutcome.DUPLICATE
            return Verdict(outcome, known, key)
        if key is not None:
            self._want_inquiry(key, wanted=True)
        return Verdict(AppliedOutcome.CONFLICT, known, key)

    def _want_inquiry(self, key: PaymentKey, *, wanted: bool) -> None:
        payment = self.payments[key]
        if payment.inquiry_wanted is not wanted:
            self.payments[key] = replace(payment, inquiry_wanted=wanted)
            self.changed.add(key)

    def _decide(self, fact: Fact, key: PaymentKey, now: datetime) -> Decision:
        """Let the domain decide; paymentRequestId and paymentId are one-to-one (antom-api 4.2)."""
        owner = self.by_payment_id.get((fact.merchant_account, fact.payment_id), key)
        if owner == key:
            return decide(self.payments[key], fact, now)
        return contradicted(self.payments[key], now)

    def _conclude(self, known: KnownFact, key: PaymentKey, now: datetime) -> None:
        """Note what the domain decides, and its one event."""
        fact = known.fact
        decision = self._decide(fact, key, now)
        self.add_payment(decision.payment)
        self.changed.add(key)
        known.event_id = str(uuid.uuid4())
        known.is_conclusive = decision.is_conclusive
        self._draft(
            decision,
            fact.source,
            event_id=known.event_id,
            antom_time=fact.antom_time,
            notification_id=known.notification_id or "",
            result_code=fact.result_code,
            capture_id=fact.fact_id if fact.kind is FactKind.CAPTURE else "",
        )

    def _draft(self, decision: Decision, source: Source, **more: Any) -> None:
        """Note the one event of a decision."""
        traceparent = self.traceparent
        if self.is_undecided:
            traceparent = telemetry.kept_with(traceparent, decision.payment.traceparent)
        event = PaymentEvent(
            event_id=str(uuid.uuid4()),
            type=decision.type,
            payment=decision.payment,
            state_before=decision.state_before,
            source=source,
            append_traceparent=traceparent,
            reported_amount=decision.reported_amount,
        )
        self.drafts.append(replace(event, **more))

    def _adopt(self, key: PaymentKey, now: datetime) -> tuple[KnownFact, ...]:
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
        waiting.sort(key=lambda known: known.told_time)
        for known in waiting:
            known.is_orphan = False
            known.is_adopted = True
            self._conclude(known, key, now)
        return tuple(waiting)

    def _payment_of(self, fact: Fact) -> PaymentKey | None:
        """The payment of a fact: by the merchant's id if it names one, else by Antom's."""
        if fact.payment_request_id:
            key = (fact.merchant_account, fact.payment_request_id)
            return key if key in self.payments else None
        return self.by_payment_id.get((fact.merchant_account, fact.payment_id))


def _settles(decision: Decision, known: KnownFact) -> bool:
    """Whether an inquiry that tells a known fact again makes it news: by an event of its own.

    It closes what was left open, corrects the state, or leads where a correction led away from.
    """
    moves = decision.payment.state is not decision.state_before
    is_news = moves or not known.is_conclusive
    return decision.type is EventType.PAYMENT_CORRECTED or (decision.is_conclusive and is_news)


def _same_content(told: Fact, known: Fact) -> bool:
    """Whether a fact is told as it was told before, in what matters; what is not said differs not.

    Only money that moved must be named.
    """
    requests = {told.payment_request_id, known.payment_request_id} - {None}
    payments = {told.payment_id, known.payment_id} - {""}
    amounts = {told.amount, known.amount}
    if told.outcome is not Outcome.SUCCEEDED:
        amounts -= {None}
    return len(amounts) < 2 and len(payments) < 2 and len(requests) < 2
