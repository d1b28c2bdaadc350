"""What callers give a transaction to apply, and what became of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from antom_payments.fact import Fact, FactKind, Notification, Outcome
from antom_payments.payment import Payment
from antom_payments.payment_event import PaymentEvent
from antom_payments.session import Session

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


class OrphanState(StrEnum):
    """Where a fact stands that came before its payment was known (design 9)."""

    WAITING = "WAITING"
    """Antom is asked whose it is."""
    ADOPTED = "ADOPTED"
    """Its payment became known, and it made its event."""
    FOREIGN = "FOREIGN"
    """Antom knows the payment, and it is not one of ours."""
    UNATTRIBUTED = "UNATTRIBUTED"
    """Nobody knew the payment in time."""


UNADOPTED = (OrphanState.WAITING, OrphanState.FOREIGN, OrphanState.UNATTRIBUTED)
"""Whatever was concluded of them, a payment that binds their `paymentId` later adopts them."""


class InquiryKind(StrEnum):
    """Which id Antom is asked by."""

    PAYMENT = "PAYMENT"
    """By the merchant's `paymentRequestId`."""
    ORPHAN = "ORPHAN"
    """By Antom's `paymentId`: news of a payment that is not known here (yet)."""


@dataclass(frozen=True, slots=True, order=True)
class WantedInquiry:
    """What Antom is to be asked about: the key of a row of `inquiries`."""

    merchant_account: str
    kind: InquiryKind
    subject_id: str


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
    is_undecided: bool = False
    """Whether that span is sampled only if the payment's session is; set by the store."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a member, and the event that tells its fact (now or earlier)."""

    outcome: AppliedOutcome
    event: PaymentEvent | None = None
    payment: Payment | None = None
    adopted: tuple[PaymentEvent, ...] = ()
    """The events of orphans that it brought home."""
    wanted: WantedInquiry | None = None
    """What it leaves to be asked: news that is held back, or whose payment is not known."""
    is_leased: bool = False
    """Of a session's result: whether it came under the lease that it was asked with."""
    newest_event_id: str = ""
    """Of the event at the payment's `last_sequence`, when this transaction appended it."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A payment whose session is stored."""

    payment: Payment
    event_id: str = ""
    """Of the event at the payment's `last_sequence`, when it was appended with the session; empty
    when it was not, as for a session that was stored before."""
