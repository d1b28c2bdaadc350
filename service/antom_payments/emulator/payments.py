"""Antom's own record of a payment: what was asked, what the buyer did, what was captured."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from antom_payments.emulator.cards import Card
from antom_payments.emulator.requests import Amount, SessionRequest
from antom_payments.emulator.results import Result


class PaymentStatus(StrEnum):
    """Antom's `paymentStatus` (antom-api 6.1)."""

    PROCESSING = "PROCESSING"
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    FAIL = "FAIL"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the buyer can do nothing more."""
        return self not in {PaymentStatus.PROCESSING, PaymentStatus.PENDING}


@dataclass(frozen=True, slots=True)
class Session:
    """A buyer's session; a payment may have several, all alive until they expire."""

    session_id: str = field(repr=False)
    session_data: str = field(repr=False)
    expiry_time: datetime


@dataclass(slots=True)
class Capture:
    """A capture; under way while it has no result."""

    capture_id: str
    capture_request_id: str
    amount: Amount
    result: Result | None = None
    capture_time: datetime | None = None


@dataclass(slots=True)
class Payment:
    """A payment, from its first session on. Its order exists once the buyer has submitted."""

    client_id: str
    payment_id: str
    request: SessionRequest = field(repr=False)
    """The first request; repetitions only add sessions."""
    create_time: datetime
    sessions: list[Session] = field(default_factory=list, repr=False)
    status: PaymentStatus | None = None
    """None until the buyer submits, or Antom closes the order."""
    result: Result | None = None
    payment_method_type: str = ""
    submit_time: datetime | None = None
    payment_time: datetime | None = None
    auth_expiry_time: datetime | None = None
    closing_time: datetime | None = None
    """When Antom closes the order, unless it is paid by then."""
    card: Card | None = None
    card_token: str = field(default="", repr=False)
    captures: list[Capture] = field(default_factory=list)

    @property
    def payment_request_id(self) -> str:
        """The merchant's id."""
        return self.request.payment_request_id

    @property
    def amount(self) -> Amount:
        """What is to be collected."""
        return self.request.payment_amount

    @property
    def has_open_or_successful_capture(self) -> bool:
        """Whether its money is taken, or may yet be."""
        return any(one.result is None or one.result.status == "S" for one in self.captures)

    def live_session(self, now: datetime) -> Session | None:
        """The newest session that has not expired."""
        return next((one for one in reversed(self.sessions) if one.expiry_time > now), None)
