"""Payments, their states and the legal steps between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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

    @property
    def is_open(self) -> bool:
        """Whether it may still end in any way: the whole is neither held, taken nor refused."""
        return self in OPEN_STATES


FINAL_STATES = frozenset(
    {
        PaymentState.SUCCEEDED,
        PaymentState.FAILED,
        PaymentState.CANCELLED,
        PaymentState.EXPIRED,
    }
)


OPEN_STATES = frozenset(
    {PaymentState.CREATING, PaymentState.AWAITING_BUYER, PaymentState.PROCESSING}
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
    PAYMENT_CORRECTED = "PAYMENT_CORRECTED"
    SDK_EVENT_REPORTED = "SDK_EVENT_REPORTED"


_P, _E = PaymentState, EventType


# The one table of legal steps: news → {state before: state after}. News that is not in the row of
# the present state is a contradiction: it is told, and changes nothing until an inquiry confirms.
# A step that keeps the state is late or repeated news, and is legal. PAYMENT_CORRECTED has no row:
# it is how a signed inquiry, the authority, overrules the table.
STEPS: Mapping[EventType, Mapping[PaymentState, PaymentState]] = MappingProxyType(
    {
        # The buyer may be faster than Antom's answer to us: only CREATING moves.
        _E.SESSION_CREATED: {
            **{state: state for state in _P},
            _P.CREATING: _P.AWAITING_BUYER,
        },
        _E.SESSION_RENEWED: {state: state for state in _P} | {_P.CREATING: _P.AWAITING_BUYER},
        # Of a payment that went on, a refusal says nothing: it is not told at all.
        _E.SESSION_REFUSED: {_P.CREATING: _P.FAILED},
        _E.PAYMENT_PROCESSING: {
            **dict.fromkeys(OPEN_STATES, _P.PROCESSING),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.FAILED: _P.FAILED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_PENDING: {
            **dict.fromkeys(OPEN_STATES, _P.PROCESSING),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.FAILED: _P.FAILED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_AUTHORIZED: {
            **dict.fromkeys(OPEN_STATES, _P.AUTHORIZED),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            # Antom: a late success does not revive a cancelled payment (antom-api 4.1).
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_SUCCEEDED: {
            **dict.fromkeys(OPEN_STATES, _P.SUCCEEDED),
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_FAILED: {
            **dict.fromkeys(OPEN_STATES, _P.FAILED),
            _P.FAILED: _P.FAILED,
            _P.EXPIRED: _P.EXPIRED,
        },
        _E.PAYMENT_CANCELLED: {
            **dict.fromkeys(OPEN_STATES, _P.CANCELLED),
            _P.AUTHORIZED: _P.CANCELLED,
            _P.SUCCEEDED: _P.CANCELLED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.PAYMENT_EXPIRED: {
            **dict.fromkeys(OPEN_STATES, _P.EXPIRED),
            _P.EXPIRED: _P.EXPIRED,
            _P.FAILED: _P.FAILED,
        },
        # A capture of the whole amount is money taken, also when its news outruns the payment's.
        _E.CAPTURE_SUCCEEDED: {
            **dict.fromkeys(OPEN_STATES, _P.SUCCEEDED),
            _P.AUTHORIZED: _P.SUCCEEDED,
            _P.SUCCEEDED: _P.SUCCEEDED,
        },
        # A failed capture leaves the authorisation; the payment may be captured again. News of any
        # capture proves that the buyer acted.
        _E.CAPTURE_FAILED: {
            **dict.fromkeys(OPEN_STATES, _P.PROCESSING),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.CANCELLED: _P.CANCELLED,
        },
        _E.CAPTURE_PROCESSING: {
            **dict.fromkeys(OPEN_STATES, _P.PROCESSING),
            _P.AUTHORIZED: _P.AUTHORIZED,
            _P.SUCCEEDED: _P.SUCCEEDED,
            _P.CANCELLED: _P.CANCELLED,
        },
        # A hint from the buyer's device proves nothing.
        _E.SDK_EVENT_REPORTED: {state: state for state in _P},
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


DEFAULT_SESSION_LIFE = timedelta(hours=1)
"""How long a session lives where Antom does not say (antom-api 6.5)."""


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

    @property
    def session_end(self) -> datetime:
        """When the buyer can pay no more; by Antom's default while no session is confirmed."""
        return self.payment_session_expiry_time or self.create_time + DEFAULT_SESSION_LIFE

    @property
    def taken_minor_units(self) -> int:
        """What the captures that succeeded took; `captured_minor_units` also counts other ways."""
        return sum(
            capture.amount.minor_units
            for capture in self.captures
            if capture.state is CaptureState.SUCCEEDED
        )


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
    if after is None:
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
