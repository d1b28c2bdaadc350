"""Everything that can go wrong, in words of payments.

PaymentsError
├── InvalidRequest              fields are missing or wrong
├── NotFound
│   ├── PaymentNotFound
│   └── MerchantNotFound
├── PaymentRequestIdReused      the id belongs to another payment
├── SessionInFlight             another call with the id is under way
├── AntomError
│   ├── AntomSaidNo
│   │   ├── AntomRefused        a signed F: final for this id
│   │   └── NewPaymentRequestIdNeeded
│   ├── OutcomeUnknown          U, timeout, cut connection: may have worked
│   ├── AntomUnavailable        nothing was sent, or Antom is left alone for a while
│   └── AntomUntrusted          unsigned, badly signed, or our key is not accepted
├── StoreUnavailable            the database cannot be used now
│   └── StoreOverloaded         too many wait for it
├── Undecipherable              what is stored needs a key that the key file does not hold
├── SchemaOutdated              the database needs `antom-payments migrate`
├── IndexBeingBuilt             the migration would stop all use of payments behind a build
├── LogCorrupt                  the event log has a hole: never skipped
├── CursorError
│   ├── CursorInvalid           garbled or foreign
│   ├── CursorExpired           the log no longer reaches back
│   └── LogRewound              the log was restored to an older point
├── StreamEnded
│   ├── SubscriberTooSlow
│   ├── StreamLifetimeReached
│   └── ServerDraining
├── LimitReached                own admission control
├── DeadlineExceeded            the caller's time is up
└── ConfigurationError          a setting is wrong; names it

Errors carry data, not sentences: message and metadata are built here, once. What they hold may
reach callers and logs, so it never includes personal data, keys, tokens or bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


class PaymentsError(Exception):
    """Any error of this service."""

    retry_after_seconds: float | None = None
    """Seconds after which the same call may work, when waiting helps."""

    metadata: Mapping[str, str] = MappingProxyType({})
    """Variables of the message, for machines (AIP-193)."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: ``field`` is its path, as in ``order.goods[0].goods_name``."""

    field: str
    description: str


class InvalidRequest(PaymentsError):
    """Fields of the request are missing or wrong; nothing was stored or sent."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))


class NotFound(PaymentsError):
    """Something that the caller named does not exist for the caller."""


class PaymentNotFound(NotFound):
    """No such payment that the caller may see."""

    def __init__(self) -> None:
        super().__init__("there is no such payment")


class MerchantNotFound(NotFound):
    """The merchant is not configured, or not the caller's."""

    def __init__(self, merchant_account: str) -> None:
        self.merchant_account = merchant_account
        self.metadata = {"merchant_account": self.merchant_account}
        if merchant_account:
            super().__init__(f"there is no merchant account {merchant_account!r}")
        else:
            super().__init__("several merchant accounts are configured: name one")


class PaymentRequestIdReused(PaymentsError):
    """The id was used for a payment with another fingerprint."""

    def __init__(self, payment_request_id: str, differing: str) -> None:
        self.payment_request_id = payment_request_id
        self.differing = differing
        self.metadata = {"payment_request_id": self.payment_request_id, "differing": self.differing}
        super().__init__(f"payment_request_id was used before with another {differing}")


class SessionInFlight(PaymentsError):
    """Another call with the same id holds the lease."""

    def __init__(self, payment_request_id: str, retry_after_seconds: float) -> None:
        self.payment_request_id = payment_request_id
        self.retry_after_seconds = retry_after_seconds
        self.metadata = {"payment_request_id": self.payment_request_id}
        super().__init__("a call with this payment_request_id is under way")


class AntomError(PaymentsError):
    """Antom did not do what was asked; ``result_code`` is Antom's, or empty."""

    text = "Antom failed"

    def __init__(self, result_code: str = "") -> None:
        self.result_code = result_code
        self.metadata = {"result_code": self.result_code} if self.result_code else {}
        super().__init__(f"{self.text} ({result_code})" if result_code else self.text)


class AntomSaidNo(AntomError):
    """A signed F about the request itself."""

    def __init__(self, result_code: str = "", *, was_sent_before: bool = False) -> None:
        self.was_sent_before = was_sent_before
        """Whether an earlier attempt of the same call had an unknown outcome."""
        super().__init__(result_code)


class AntomRefused(AntomSaidNo):
    """A signed answer with ``resultStatus`` F: final for this id."""

    text = "Antom refused the request"


class NewPaymentRequestIdNeeded(AntomSaidNo):
    """Antom says that the id is used up: start again with a new one."""

    text = "Antom needs a new payment_request_id"


class OutcomeUnknown(AntomError):
    """The call left, and nobody told what became of it: U, a timeout, a cut connection, 5xx."""

    text = "the outcome is unknown; repeat the call with the same payment_request_id"
    retry_after_seconds = 1.0


class AntomUnavailable(AntomError):
    """This attempt sent nothing: no connection was made, or Antom has not answered for a while.

    It says nothing of earlier attempts with the same id.
    """

    text = "Antom cannot be reached"

    def __init__(self, retry_after_seconds: float = 1.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__()


class AntomUntrusted(AntomError):
    """The answer is not Antom's, or Antom does not accept our key or client id."""

    text = "Antom's answer cannot be trusted"


class StoreUnavailable(PaymentsError):
    """The database is down, too slow, read-only or full."""

    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__("the database cannot be used now")


class StoreOverloaded(StoreUnavailable):
    """Too much waits for the database; this was not begun. ``limit`` says what is counted."""

    def __init__(self, limit: str = "database_in_flight") -> None:
        self.metadata = {"limit": limit}
        super().__init__()


class Undecipherable(PaymentsError):
    """What is stored was encrypted with a key that this process's key file does not hold.

    Guessing would lose it. Another process, started with a newer file, may know the key.
    """

    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__("what is stored cannot be read now")


class SchemaOutdated(PaymentsError):
    """The database's schema is older than this version needs."""

    def __init__(self, found: str | None, needed: str) -> None:
        super().__init__(
            f"the database schema is {found or 'empty'}, {needed} is needed: "
            "run `antom-payments migrate`"
        )


class IndexBeingBuilt(PaymentsError):
    """A migration would wait for an index that is being built, and everybody else behind it."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"an index of {table} is being built: run `antom-payments migrate` again when it is "
            "done; nothing was changed"
        )


class LogCorrupt(PaymentsError):
    """The event log misses a sequence; reading on would lose an event silently."""

    def __init__(self, after_sequence: int) -> None:
        super().__init__(f"the event log has a hole after sequence {after_sequence}")


class CursorError(PaymentsError):
    """A cursor cannot be used."""


class CursorInvalid(CursorError):
    """Garbled, or made by another log."""

    def __init__(self) -> None:
        super().__init__("the cursor is not one of this log")


class CursorExpired(CursorError):
    """The events after the cursor were pruned; ``oldest_cursor`` is where the log begins."""

    def __init__(self, oldest_cursor: str) -> None:
        self.oldest_cursor = oldest_cursor
        self.metadata = {"oldest_cursor": self.oldest_cursor}
        super().__init__("the log no longer reaches back to this cursor")


class LogRewound(CursorError):
    """The cursor is of a future that this log lost, for instance in a restore."""

    def __init__(self) -> None:
        super().__init__("the log was restored to an older point than this cursor")


class StreamEnded(PaymentsError):
    """The server ends a stream; call again with the last cursor."""


class SubscriberTooSlow(StreamEnded):
    """A write made no progress; ``last_sent`` is informative, not a resume point."""

    def __init__(self, last_sent: str) -> None:
        self.last_sent = last_sent
        self.retry_after_seconds = 1.0
        self.metadata = {"last_sent": self.last_sent}
        super().__init__("the subscriber does not read; resume from the cursor it stored")


class StreamLifetimeReached(StreamEnded):
    """A stream's planned end."""

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__("the stream reached its planned end; resume from the last cursor")


class ServerDraining(StreamEnded):
    """The server stops."""

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__("the server stops; resume from the last cursor")


class LimitReached(PaymentsError):
    """Own admission control said no; nothing was done."""

    def __init__(self, limit: str, retry_after_seconds: float = 1.0) -> None:
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        self.metadata = {"limit": self.limit}
        super().__init__(f"the limit {limit} is reached")


class DeadlineExceeded(PaymentsError):
    """The caller's deadline passed before the work was done; what was sent goes on."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before the work was done")


class ConfigurationError(PaymentsError):
    """A setting is wrong; says which one and what was expected."""

    def __init__(self, setting: str, expected: str) -> None:
        self.setting = setting
        self.expected = expected
        super().__init__(f"{setting}: {expected}")
