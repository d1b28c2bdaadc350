"""Facts: what Antom told, and the notifications that told it. Pure.

A *fact* is one thing that Antom told (a payment authorised, a capture failed …), whatever told it.
What it does to a payment is `decision.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from antom_payments.money import Money
from antom_payments.payment import Source


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
    """Antom has no such word: `expiry.expired` alone concludes it, from an inquiry's answer."""


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

    def __post_init__(self) -> None:
        is_inquired = self.kind is FactKind.PAYMENT and self.source is Source.INQUIRY
        if self.outcome is Outcome.EXPIRED and not is_inquired:
            raise ValueError("only an inquiry about a payment can end in EXPIRED; see expiry.py")

    @property
    def identity(self) -> tuple[str, FactKind, str, Outcome]:
        """What makes two tellings the same fact."""
        return (self.merchant_account, self.kind, self.fact_id, self.outcome)


OUTSIDE_WINDOW = "outside_window"
"""Why a verified and understood notification is held back: its `request-time` (antom-api 1.4)."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification whose signature was verified, as it came. Never logged: it is personal."""

    notification_id: str
    """Ours: a UUID made on receipt. Antom's notifications have no id (antom-api 4.1)."""
    merchant_account: str
    body: bytes = field(repr=False)
    """The exact bytes that were signed."""
    client_id: str
    request_time: str
    """Antom's `request-time` header, as text."""
    received_time: datetime
    key_fingerprint: str
    """Which of Antom's public keys verified it."""
