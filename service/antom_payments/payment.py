"""The domain: payments, their states and the legal steps between them. Pure.

A *fact* is one thing that Antom told (a payment authorised, a capture failed …), whatever told it.
`decide` turns a payment and a fact into the payment after it and exactly one event. The store runs
it under the payment's row lock, so that everything here is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from antom_payments.money import Money


class PaymentState(StrEnum):
    """Where a payment stands. `status` is Antom's word, `state` is ours."""

    CREATING = "CREATING"
    AWAITING_BUYER = "AWAITING_BUYER"
    PROCESSING = "PROCESSING"
    AUTHORIZED = "AUTHORIZED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether subscribers to final states hear of it. SUCCEEDED may still be cancelled."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {
        PaymentState.SUCCEEDED,
        PaymentState.FAILED,
        PaymentState.CANCELLED,
        PaymentState.EXPIRED,
    }
)


class CaptureState(StrEnum):
    """Where a capture stands."""

    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Source(StrEnum):
    """Where news came from."""

    NOTIFICATION = "NOTIFICATION"
    INQUIRY = "INQUIRY"
    API = "API"


class EventType(StrEnum):
    """What happened to a payment; the same names as the contract's PaymentEventType."""

    SESSION_CREATED = "SESSION_CREATED"
    SESSION_RENEWED = "SESSION_RENEWED"
    SESSION_REFUSED = "SESSION_REFUSED"
    PAYMENT_PROCESSING = "PAYMENT_PROCESSING"
    PAYMENT_PENDING = "PAYMENT_PENDING"
    PAYMENT_AUTHORIZED = "PAYMENT_AUTHORIZED"
    PAYMENT_SUCCEEDED = "PAYMENT_SUCCEEDED"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    PAYMENT_CANCELLED = "PAYMENT_CANCELLED"
    PAYMENT_EXPIRED = "PAYMENT_EXPIRED"
    CAPTURE_SUCCEEDED = "CAPTURE_SUCCEEDED"
    CAPTURE_FAILED = "CAPTURE_FAILED"
    CAPTURE_PROCESSING = "CAPTURE_PROCESSING"
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
    CONTRADICTION = "CONTRADICTION"


_P, _E = PaymentState, EventType
_UNPAID = (_P.CREATING, _P.AWAITING_BUYER, _P.PROCESSING)

# The one table of legal steps: news → {state before: state after}. News that is not in the row of
# the present state is a contradiction: it is told, and changes nothing until an inquiry confirms.
# A step that keeps the state is late or repeated news, and is legal.
STEPS: Mapping[EventType, Mapping[PaymentState, PaymentState]] = MappingProxyType(
    {
        # The buyer may be faster than Antom's answer to us: only CREATING moves.
        _E.SESSION_CREATED: {
            **{state: state for state in _P},
            _P.CREATING: _P.AWAITING_BUYER,
        },
        _E.SESSION_RENEWED: {state: state for state in _P} | {_P.CREATING: _P.AWAITING_BUYER},
        _E.SESSION_REFUSED: {_P.CREATING: _P.FAILED, _P.FAILED: _P.FAILED},
        _E.PAYMENT_PROCESSING: {
            **dict.fromkeys(_UNPAID, _P.PROCESSING),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.FAILED: _P.FAILED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_PENDING: {
            **dict.fromkeys(_UNPAID, _P.PROCESSING),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.FAILED: _P.FAILED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_AUTHORIZED: {
            **dict.fromkeys(_UNPAID, _P.AUTHORIZED),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            # Antom: a late success does not revive a cancelled payment (antom-api 4.1).
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_SUCCEEDED: {
            **dict.fromkeys(_UNPAID, _P.SUCCEEDED),
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_FAILED: {
            **dict.fromkeys(_UNPAID, _P.FAILED),
            _P.FAILED: _P.FAILED,
            _P.EXPIRED: _P.EXPIRED,
        },
        _E.PAYMENT_CANCELLED: {
            **dict.fromkeys(_UNPAID, _P.CANCELLED),
            _P.AUTHORIZED: _P.CANCELLED,
            _P.SUCCEEDED: _P.CANCELLED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_EXPIRED: {
            **dict.fromkeys(_UNPAID, _P.EXPIRED),
            _P.EXPIRED: _P.EXPIRED,
            _P.FAILED: _P.FAILED,
        },
        # A capture of the whole amount is money taken, also when its news outruns the payment's.
        _E.CAPTURE_SUCCEEDED: {
            **dict.fromkeys(_UNPAID, _P.SUCCEEDED),
            _P.AUTHORIZED: _P.SUCCEEDED,
            _P.SUCCEEDED: _P.SUCCEEDED,
        },
        # A failed capture leaves the authorisation; the payment may be captured again.
        _E.CAPTURE_FAILED: {
            state: state for state in (*_UNPAID, _P.AUTHORIZED, _P.SUCCEEDED, _P.CANCELLED)
        },
        _E.CAPTURE_PROCESSING: {
            state: state for state in (*_UNPAID, _P.AUTHORIZED, _P.SUCCEEDED, _P.CANCELLED)
        },
    }
)


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture and where it stands."""

    capture_id: str
    capture_request_id: str
    state: CaptureState
    amount: Money
    result_code: str = ""
    capture_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """One attempt to collect one amount. Key: (`merchant_account`, `payment_request_id`).

    Times are aware UTC. Amounts of minor units share `amount`'s currency.
    """

    merchant_account: str
    payment_request_id: str
    amount: Money
    reference_order_id: str
    payment_method_type: str
    capture_mode: str
    """AUTOMATIC, MANUAL or empty (Antom's default, automatic)."""
    capture_expected: bool | None
    """Whether a capture follows the authorisation; None while it is not known."""
    create_time: datetime
    update_time: datetime
    state: PaymentState = PaymentState.CREATING
    version: int = 0
    """Number of events so far; dense."""
    payment_id: str | None = None
    authorized_minor_units: int = 0
    captured_minor_units: int = 0
    refunded_minor_units: int = 0
    result_code: str = ""
    captures: tuple[Capture, ...] = ()
    payment_session_expiry_time: datetime | None = None
    payment_create_time: datetime | None = None
    payment_time: datetime | None = None
    auth_expiry_time: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    last_sequence: int = 0
    """The log's number of the newest event; 0 while there is none. Set by the store."""
    inquiry_wanted: bool = False
    """Whether something asks for an inquiry: a contradiction, a mismatch."""


class FactKind(StrEnum):
    """What a fact is about."""

    PAYMENT = "PAYMENT"
    CAPTURE = "CAPTURE"


class Outcome(StrEnum):
    """What a fact says."""

    PROCESSING = "PROCESSING"
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that Antom told, whatever told it.

    Its identity is (`merchant_account`, `kind`, `fact_id`, `outcome`): one row and one event,
    whether a notification, its repetition or an inquiry told it.
    """

    merchant_account: str
    kind: FactKind
    outcome: Outcome
    payment_id: str
    """Antom's id of the payment; empty only in an inquiry answer that names none."""
    fact_id: str
    """Antom's id of what the fact is about: `payment_id`, or the capture's `capture_id`."""
    source: Source
    amount: Money | None
    payment_request_id: str | None = None
    """None when the news names only `payment_id`, as CAPTURE_RESULT does (antom-api 4.3)."""
    request_id: str = ""
    """`capture_request_id` of a capture; Antom chose it for an automatic one."""
    result_code: str = ""
    antom_time: datetime | None = None
    payment_create_time: datetime | None = None
    payment_time: datetime | None = None
    auth_expiry_time: datetime | None = None
    capture_expected: bool | None = None
    """True when the news itself shows a capture (inquiry: authExpiryTime or a CAPTURE)."""

    @property
    def identity(self) -> tuple[str, FactKind, str, Outcome]:
        """What makes two tellings the same fact."""
        return (self.merchant_account, self.kind, self.fact_id, self.outcome)


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """A committed change, or committed news. `sequence` and `append_time` are set by the log."""

    event_id: str
    type: EventType
    payment: Payment
    """The payment after the event."""
    state_before: PaymentState
    source: Source
    antom_time: datetime | None = None
    notification_id: str = ""
    append_traceparent: str = ""
    result_code: str = ""
    reported_amount: Money | None = None
    capture_id: str = ""
    sequence: int = 0
    append_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants, within what it may see. None means no restriction."""

    merchant_accounts: frozenset[str] | None = None
    payment_request_ids: frozenset[str] | None = None
    types: frozenset[EventType] | None = None
    final_states_only: bool = False

    def admits(self, event: PaymentEvent) -> bool:
        """Whether the reader gets ``event``."""
        payment = event.payment
        return (
            (self.merchant_accounts is None or payment.merchant_account in self.merchant_accounts)
            and (
                self.payment_request_ids is None
                or payment.payment_request_id in self.payment_request_ids
            )
            and (self.types is None or event.type in self.types)
            and (not self.final_states_only or payment.state.is_final)
        )


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification whose signature was verified, as it came. Never logged: it is personal."""

    notification_id: str
    """Ours: a UUID made on receipt. Antom's notifications have no id (antom-api 4.1)."""
    merchant_account: str
    body: bytes
    """The exact bytes that were signed."""
    client_id: str
    request_time: str
    """Antom's `request-time` header, as text."""
    received_time: datetime
    key_fingerprint: str
    """Which of Antom's public keys verified it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a fact does: the payment after it, and the one event that tells it (without ids)."""

    payment: Payment
    type: EventType
    state_before: PaymentState
    reported_amount: Money | None = None
    is_conclusive: bool = True
    """False when the news is told but its meaning is open: only a signed inquiry closes it."""


def step(state: PaymentState, news: EventType) -> PaymentState | None:
    """The state after ``news``, or None when the step is not legal."""
    return STEPS[news].get(state)


def decide(payment: Payment, fact: Fact, now: datetime) -> Decision:
    """What ``fact`` does to ``payment``: exactly one event, whatever it says.

    Amounts are compared first, value and currency: a fact about another amount concludes nothing.
    A step that the table does not allow concludes nothing either; both want an inquiry.
    """
    if payment.payment_id and fact.payment_id and fact.payment_id != payment.payment_id:
        return contradicted(payment, now)
    told = replace(payment, version=payment.version + 1, update_time=now)
    if _is_about_another_amount(payment, fact):
        return _inconclusive(told, EventType.AMOUNT_MISMATCH, reported=fact.amount)
    known = _with_knowledge(told, fact)
    news = _news(known, fact)
    after = step(payment.state, news)
    if after is None or _contradicts_capture(payment, fact):
        return _inconclusive(told, EventType.CONTRADICTION)
    if fact.kind is FactKind.CAPTURE:
        changed = _with_capture(known, fact, after)
        if _taken(changed) > payment.amount.minor_units:
            return _inconclusive(told, EventType.AMOUNT_MISMATCH, reported=fact.amount)
    else:
        changed = _with_payment_result(known, fact, news, after)
    in_doubt = fact.outcome is Outcome.SUCCEEDED and news is EventType.PAYMENT_PENDING
    return Decision(changed, news, state_before=payment.state, is_conclusive=not in_doubt)


def contradicted(payment: Payment, now: datetime) -> Decision:
    """News that cannot be about ``payment``: told, and nothing concluded from it."""
    told = replace(payment, version=payment.version + 1, update_time=now)
    return _inconclusive(told, EventType.CONTRADICTION)


def with_session(payment: Payment, session_expiry_time: datetime, now: datetime) -> Decision:
    """What Antom's confirmation of a session does: the first makes it, later ones renew it."""
    renewed = payment.payment_session_expiry_time is not None
    news = EventType.SESSION_RENEWED if renewed else EventType.SESSION_CREATED
    after = step(payment.state, news) or payment.state
    return Decision(
        payment=replace(
            payment,
            state=after,
            version=payment.version + 1,
            update_time=now,
            payment_session_expiry_time=session_expiry_time,
        ),
        type=news,
        state_before=payment.state,
    )


def with_refusal(payment: Payment, result_code: str, now: datetime) -> Decision | None:
    """What Antom's refusal of the first session does; None when the payment went on already."""
    after = step(payment.state, EventType.SESSION_REFUSED)
    if after is None or payment.state.is_final:
        return None
    return Decision(
        payment=replace(
            payment,
            state=after,
            version=payment.version + 1,
            update_time=now,
            result_code=result_code,
        ),
        type=EventType.SESSION_REFUSED,
        state_before=payment.state,
    )


def _inconclusive(told: Payment, news: EventType, *, reported: Money | None = None) -> Decision:
    """News that is told and changes nothing but that Antom must be asked."""
    return Decision(
        payment=replace(told, inquiry_wanted=True),
        type=news,
        state_before=told.state,
        reported_amount=reported,
        is_conclusive=False,
    )


def _is_about_another_amount(payment: Payment, fact: Fact) -> bool:
    """Whether the fact names another amount. A capture may be partial, never more."""
    if fact.amount is None:
        # Only a failure may come without an amount: money that moved must be named.
        return fact.outcome is Outcome.SUCCEEDED
    if fact.kind is FactKind.PAYMENT:
        return fact.amount != payment.amount
    return (
        fact.amount.currency_code != payment.amount.currency_code
        or not 0 < fact.amount.minor_units <= payment.amount.minor_units
    )


def _contradicts_capture(payment: Payment, fact: Fact) -> bool:
    """Whether a capture that is over is now said to have ended otherwise."""
    if fact.kind is not FactKind.CAPTURE or fact.outcome is Outcome.PROCESSING:
        return False
    over = {Outcome.SUCCEEDED: CaptureState.FAILED, Outcome.FAILED: CaptureState.SUCCEEDED}
    return any(
        capture.capture_id == fact.fact_id and capture.state is over.get(fact.outcome)
        for capture in payment.captures
    )


def _with_knowledge(payment: Payment, fact: Fact) -> Payment:
    """The payment with what the fact tells beside its outcome."""
    expected = payment.capture_expected
    if expected is None:
        expected = True if fact.kind is FactKind.CAPTURE else fact.capture_expected
    return replace(
        payment,
        payment_id=payment.payment_id or fact.payment_id or None,
        payment_create_time=payment.payment_create_time or fact.payment_create_time,
        payment_time=payment.payment_time or fact.payment_time,
        auth_expiry_time=fact.auth_expiry_time or payment.auth_expiry_time,
        capture_expected=expected,
    )


def _news(payment: Payment, fact: Fact) -> EventType:
    """The event that a fact is, given whether a capture is expected."""
    if fact.kind is FactKind.CAPTURE:
        return {
            Outcome.SUCCEEDED: EventType.CAPTURE_SUCCEEDED,
            Outcome.FAILED: EventType.CAPTURE_FAILED,
        }.get(fact.outcome, EventType.CAPTURE_PROCESSING)
    if fact.outcome is Outcome.SUCCEEDED:
        if payment.capture_expected is None:
            # Authorised or paid? Only an inquiry tells; until then it is neither.
            return EventType.PAYMENT_PENDING
        return (
            EventType.PAYMENT_AUTHORIZED
            if payment.capture_expected
            else EventType.PAYMENT_SUCCEEDED
        )
    return {
        Outcome.PROCESSING: EventType.PAYMENT_PROCESSING,
        Outcome.PENDING: EventType.PAYMENT_PENDING,
        Outcome.FAILED: EventType.PAYMENT_FAILED,
        Outcome.CANCELLED: EventType.PAYMENT_CANCELLED,
        Outcome.EXPIRED: EventType.PAYMENT_EXPIRED,
    }[fact.outcome]


def _with_payment_result(
    payment: Payment, fact: Fact, news: EventType, after: PaymentState
) -> Payment:
    """The payment after a payment fact, with its amounts."""
    whole = payment.amount.minor_units
    held = news is EventType.PAYMENT_AUTHORIZED and after is not PaymentState.CANCELLED
    taken = news is EventType.PAYMENT_SUCCEEDED and after is PaymentState.SUCCEEDED
    # Late news does not overwrite the code of what was concluded.
    moved = after is not payment.state
    return replace(
        payment,
        state=after,
        authorized_minor_units=whole if held else payment.authorized_minor_units,
        captured_minor_units=whole if taken else payment.captured_minor_units,
        result_code=fact.result_code if held or taken or moved else payment.result_code,
        inquiry_wanted=payment.inquiry_wanted
        or (fact.outcome is Outcome.SUCCEEDED and payment.capture_expected is None),
    )


def _with_capture(payment: Payment, fact: Fact, after: PaymentState) -> Payment:
    """The payment after a capture fact: SUCCEEDED once the captures make up the amount."""
    captures = {capture.capture_id: capture for capture in payment.captures}
    known = captures.get(fact.fact_id)
    if known is None or known.state is CaptureState.PROCESSING:
        captures[fact.fact_id] = Capture(
            capture_id=fact.fact_id,
            capture_request_id=fact.request_id,
            state={
                Outcome.SUCCEEDED: CaptureState.SUCCEEDED,
                Outcome.FAILED: CaptureState.FAILED,
            }.get(fact.outcome, CaptureState.PROCESSING),
            amount=fact.amount or payment.amount,
            result_code=fact.result_code,
            capture_time=fact.antom_time,
        )
    changed = replace(payment, captures=tuple(captures.values()))
    taken = _taken(changed)
    return replace(
        changed,
        state=after if taken >= payment.amount.minor_units else payment.state,
        # What was taken was held before, and what is known to be taken stays so: the news of
        # captures and of the payment may come in any order.
        authorized_minor_units=max(payment.authorized_minor_units, taken),
        captured_minor_units=max(payment.captured_minor_units, taken),
    )


def _taken(payment: Payment) -> int:
    """Minor units of the captures that succeeded."""
    return sum(
        capture.amount.minor_units
        for capture in payment.captures
        if capture.state is CaptureState.SUCCEEDED
    )
