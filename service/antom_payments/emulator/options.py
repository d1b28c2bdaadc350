"""What an emulator is given at its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from math import inf

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from antom_payments.emulator.faults import FaultPlan
from antom_payments.emulator.results import CAPTURE_FAILURES, CAPTURED
from antom_payments.errors import ConfigurationError


class CaptureOrder(StrEnum):
    """In which order the news of a payment and of its automatic capture leave."""

    PAYMENT_FIRST = "PAYMENT_FIRST"
    CAPTURE_FIRST = "CAPTURE_FIRST"
    SAME_INSTANT = "SAME_INSTANT"


class BeforeSubmission(StrEnum):
    """What inquiryPayment answers while the buyer has not submitted; Antom documents neither."""

    ORDER_NOT_EXIST = "ORDER_NOT_EXIST"
    PROCESSING = "PROCESSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorOptions:
    """Keys, time and habits of an emulator.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    antom_private_key: RSAPrivateKey = field(repr=False)
    """Signs answers and notifications. Give its public half to the merchant."""
    merchant_public_keys: Mapping[str, Sequence[RSAPublicKey]] = field(repr=False)
    """By client id; a request may be signed with any of its client's keys."""
    antom_next_private_key: RSAPrivateKey | None = field(default=None, repr=False)
    """What Antom rotates to, for the faults NEXT_KEY."""
    default_notify_url: str = ""
    """Where notifications go when the session names no `paymentNotifyUrl`; empty: nowhere."""
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    """The time outside, aware."""
    clock_scale: float = 1.0
    """Seconds that pass at Antom for one outside; 0 stops the clock: it is moved by hand only."""
    seed: int | None = None
    """Makes ids, session data and faults repeatable; None draws new ones at every start."""
    faults: FaultPlan = field(default_factory=FaultPlan)
    """What goes wrong from the start on."""
    before_submission: BeforeSubmission = BeforeSubmission.ORDER_NOT_EXIST
    capture_order: CaptureOrder = CaptureOrder.PAYMENT_FIRST
    capture_delay_seconds: float = 1.0
    """Between the two news of a card payment, in Antom's time; none for SAME_INSTANT."""
    capture_result_code: str = "SUCCESS"
    """SUCCESS, or the code with which automatic captures fail (antom-api 5.2)."""
    closing_seconds: float = 14 * 60
    """From a session's expiry, or from the buyer's leaving, to the closing of the unpaid order."""
    acknowledgement_timeout_seconds: float = 10.0
    """Longest wait for the answer to a notification, in time outside. Antom's is not known."""

    def __post_init__(self) -> None:
        if not self.merchant_public_keys or not all(self.merchant_public_keys.values()):
            raise ConfigurationError(
                "merchant_public_keys", "must name at least one client id, each with a public key"
            )
        for name in ("clock_scale", "capture_delay_seconds", "closing_seconds"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigurationError(name, "must be a number of 0 or more")
        if not 0 < self.acknowledgement_timeout_seconds < inf:
            raise ConfigurationError("acknowledgement_timeout_seconds", "must be more than 0")
        if self.faults.needs_the_next_key and not self.antom_next_private_key:
            raise ConfigurationError("faults", "NEXT_KEY needs antom_next_private_key")
        if self.capture_result_code not in {CAPTURED.code, *CAPTURE_FAILURES}:
            raise ConfigurationError(
                "capture_result_code", "must be SUCCESS or a code with which captures fail"
            )
