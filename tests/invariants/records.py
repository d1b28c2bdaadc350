"""What is known of a run, as plain data: the log, the rows, Antom's books, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FactKey = tuple[str, ...]
"""A fact's kind, Antom's id of what it is about, its outcome; of several merchants, whose it is."""
PaymentKey = tuple[str, str]
"""A payment's merchant, and the merchant's id of it."""


class _OfPayment:
    payment_request_id: str
    merchant_account: str

    @property
    def key(self) -> PaymentKey:
        """Which payment it is about."""
        return (self.merchant_account, self.payment_request_id)


@dataclass(frozen=True)
class Shown(_OfPayment):
    """A payment at one of its versions: as the log has it, or as somebody was shown it."""

    payment_request_id: str
    version: int
    state: str
    payment_id: str
    """Antom's; empty until it is known."""
    currency_code: str
    minor_units: int
    captured_minor_units: int
    merchant_account: str = "default"


@dataclass(frozen=True)
class LoggedEvent(_OfPayment):
    """A row of the log."""

    sequence: int
    event_id: str
    payment_request_id: str
    version: int
    type: str
    state_before: str
    state: str
    source: str
    shown: Shown
    """The payment after it."""
    merchant_account: str = "default"
    capture_id: str = ""
    notification_id: str = ""
    """Of the stored notification that told it first, if one did."""

    @property
    def content(self) -> tuple[object, ...]:
        """All that a subscriber is told of it: its number is not."""
        return (
            *(self.event_id, self.key, self.version, self.type, self.state_before, self.state),
            *(self.source, self.shown, self.capture_id, self.notification_id),
        )

    def __str__(self) -> str:
        return f"event {self.sequence} ({self.type} of {self.payment_request_id})"


@dataclass(frozen=True)
class StoredFact:
    """A row of facts; no event while it is an orphan's."""

    key: FactKey
    event_id: str | None
    payment_request_id: str | None
    """None where the news named Antom's id alone."""
    payment_id: str | None
    """Antom's id of the payment, of a capture's fact, too."""


@dataclass(frozen=True)
class StoredPayment(_OfPayment):
    """A row of payments."""

    payment_request_id: str
    payment_id: str | None
    state: str
    version: int
    currency_code: str
    minor_units: int
    captured_minor_units: int
    inquiry_wanted: bool
    last_sequence: int
    """Of its newest event; 0 while there is none."""
    merchant_account: str = "default"


@dataclass(frozen=True)
class AntomPayment(_OfPayment):
    """A payment in Antom's own books."""

    payment_request_id: str
    payment_id: str
    status: str | None
    currency_code: str
    minor_units: int
    captured_minor_units: int
    expects_capture: bool
    """Whether the money is only held until a capture takes it."""
    is_submitted: bool
    """Whether the buyer is known to have acted: what fails then has not lapsed."""
    sessions: int
    """How many sessions Antom made of it."""
    is_paid: bool
    """Whether the buyer's money was held or taken, whatever became of it then."""
    captures: Mapping[str, str]
    """How each ended, as a fact's outcome, by Antom's id of it; PROCESSING is under way."""
    merchant_account: str = "default"


@dataclass(frozen=True)
class Acknowledged(_OfPayment):
    """A caller who asked about a payment was told that it is there, at this version."""

    payment_request_id: str
    version: int
    merchant_account: str = "default"
    shown: Shown | None = None
    """What the answer said; None where a restore may have taken that version."""


@dataclass
class Received:
    """What one subscriber was given, in order: the number of the connection, and the event."""

    name: str
    wants: Callable[[LoggedEvent], bool]
    events: list[tuple[int, str]] = field(default_factory=list)
    since: int = 0
    """After which sequence it must have everything,"""
    through: int | None = None
    """and up to which; None is the end."""
    wire: list[LoggedEvent] = field(default_factory=list)
    """Events as they came over the wire."""


@dataclass(frozen=True)
class Violation:
    """What did not hold."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass
class History:
    """All that is known of a run once it is quiet."""

    log: Sequence[LoggedEvent] = ()
    facts: Sequence[StoredFact] = ()
    payments: Sequence[StoredPayment] = ()
    notifications: Mapping[str, FactKey] = field(default_factory=dict)
    """What each stored notification tells, by our id of it."""
    of_other_amounts: frozenset[str] = frozenset()
    """Those of an amount that is not the payment's, under Antom's own signature; by our id."""
    antom: Sequence[AntomPayment] = ()
    accepted: frozenset[FactKey] = frozenset()
    """What notifications told that were answered with Antom's acknowledgement."""
    told: frozenset[FactKey] = frozenset()
    """What Antom ever said of its own accord, accepted or not."""
    held_back: frozenset[FactKey] = frozenset()
    """What is in quarantine for its `request-time`, as where a clock was wrong."""
    taken_forged: Sequence[str] = ()
    """Deliveries that were acknowledged, though not signed with Antom's key."""
    refused: frozenset[PaymentKey] = frozenset()
    """Payments whose callers were told to take another id."""
    acknowledged: Sequence[Acknowledged] = ()
    subscribers: Sequence[Received] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Whatever processes printed, by a name to find it."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """What no output may hold, by what it is."""
    foreign: frozenset[PaymentKey] = frozenset()
    """Payments that another system made at Antom, with the same client id."""
    forgotten: frozenset[PaymentKey] = frozenset()
    """Payments of which a restore took the intent; their ids may have been used again since."""
    lost: frozenset[str] = frozenset()
    """Events that a restore took, by id."""
