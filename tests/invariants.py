"""What must hold of every run, whatever went wrong in it (design 7, R-03): the invariants I1 to I9.

Pure: plain data in, violations out. `make chaos` takes it from real processes, `make simulate` from
simulated ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from antom_payments.payment import FINAL_STATES, STEPS, EventType, PaymentState

FactKey = tuple[str, ...]
"""A fact's kind, Antom's id of what it is about, its outcome; of several merchants, whose it is."""
PaymentKey = tuple[str, str]
"""A payment's merchant, and the merchant's id of it."""

_KEEPS_THE_STATE = {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}
_TOLD_OFTEN = {"PAYMENT_PENDING", "CAPTURE_PROCESSING", "PAYMENT_CORRECTED", *_KEEPS_THE_STATE}
"""What facts of several outcomes may be told as."""
_WITHOUT_ANTOM = {"SESSION_REFUSED", "PAYMENT_EXPIRED", "SDK_EVENT_REPORTED"}
"""What may be told of a payment that never came to be at Antom."""


class _OfPayment:
    payment_request_id: str
    merchant_account: str

    @property
    def key(self) -> PaymentKey:
        """Which payment it is about."""
        return (self.merchant_account, self.payment_request_id)


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
    merchant_account: str = "default"
    capture_id: str = ""


@dataclass(frozen=True)
class StoredFact:
    """A row of facts; no event while it is an orphan's."""

    key: FactKey
    event_id: str | None
    payment_request_id: str | None
    payment_id: str | None = None
    """Antom's id of the payment, of a capture's fact, too."""


@dataclass(frozen=True)
class StoredPayment(_OfPayment):
    """A row of payments."""

    payment_request_id: str
    payment_id: str | None
    state: str
    version: int
    minor_units: int
    captured_minor_units: int
    merchant_account: str = "default"
    inquiry_wanted: bool = False
    last_sequence: int | None = None
    """Of its newest event; None when that was not looked at."""


@dataclass(frozen=True)
class AntomPayment(_OfPayment):
    """A payment in Antom's own books."""

    payment_request_id: str
    payment_id: str
    status: str | None
    minor_units: int
    captured_minor_units: int
    expects_capture: bool
    """Whether the money is only held until a capture takes it."""
    merchant_account: str = "default"
    is_submitted: bool = False
    """Whether the buyer is known to have acted: what fails then has not lapsed."""


@dataclass(frozen=True)
class Acknowledged(_OfPayment):
    """A caller was told that a payment is there, at this version."""

    payment_request_id: str
    version: int
    merchant_account: str = "default"


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
    antom: Sequence[AntomPayment] = ()
    accepted: frozenset[FactKey] = frozenset()
    """What notifications told that were answered with Antom's acknowledgement."""
    told: frozenset[FactKey] = frozenset()
    """What Antom ever said of its own accord, accepted or not."""
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


def violations(history: History) -> list[Violation]:
    """Whatever does not hold, each with the name of its invariant."""
    checks: Mapping[str, Callable[[History], Iterator[str]]] = {
        "I1": _each_fact_is_one_event,
        "I2": _nothing_is_invented,
        "I3": _payments_take_legal_steps,
        "I4": _subscribers_have_the_log,
        "I5": _an_id_is_one_payment_at_antom,
        "I6": _nothing_acknowledged_is_lost,
        "I7": _all_ends_as_antom_says,
        "I8": _nobody_sees_what_is_not_asked_for,
        "I9": _no_secret_is_shown,
    }
    return [Violation(name, what) for name, check in checks.items() for what in check(history)]


def _each_fact_is_one_event(history: History) -> Iterator[str]:
    known = {fact.key: fact for fact in history.facts}
    logged = {event.event_id for event in history.log}
    orphans = _ids_of_orphans(history)
    for key in sorted(history.accepted - known.keys()):
        yield f"{key} was accepted, and is no fact"
    for key, fact in known.items():
        if fact.event_id is None:
            if fact.payment_id not in orphans:
                yield f"{key} has no event"
        elif fact.event_id not in logged:
            yield f"{key} names an event that is not in the log"
    shared = Counter(fact.event_id for fact in history.facts if fact.event_id)
    for event_id, count in shared.items():
        if count > 1:
            yield f"{count} facts share event {event_id}"
    for event_id, count in Counter(event.event_id for event in history.log).items():
        if count > 1:
            yield f"event {event_id} is {count} times in the log"
    yield from _told_again(history.log)


def _ids_of_orphans(history: History) -> set[str | None]:
    """Antom's ids of payments that are none of ours: their facts wait for ever."""
    here = {row.key for row in history.payments}
    not_ours = (history.foreign | history.forgotten) - here
    return {payment.payment_id for payment in history.antom if payment.key in not_ours}


def _told_again(log: Sequence[LoggedEvent]) -> Iterator[str]:
    """The same news twice; an inquiry's is another where it moves the payment."""
    told: set[tuple[str, ...]] = set()
    for event in log:
        news = (*event.key, event.type, event.capture_id)
        if event.source != "API" and event.type not in _TOLD_OFTEN:
            moves = event.source == "INQUIRY" and event.state_before != event.state
            if news in told and not moves:
                yield f"{_shown(event)} was told before"
        told.add(news)


def _nothing_is_invented(history: History) -> Iterator[str]:
    of_facts = {fact.event_id: fact.key for fact in history.facts}
    at_antom = {payment.key for payment in history.antom}
    # A fact that an inquiry tells anew, for it knows more, names that event from then on.
    retold = {
        (event.key, event.capture_id): event.sequence
        for event in history.log
        if event.source == "INQUIRY" and event.event_id in of_facts
    }
    for event in history.log:
        if event.key not in at_antom and event.type not in _WITHOUT_ANTOM:
            yield f"{_shown(event)} is of a payment that Antom does not know"
        if event.source == "API":
            continue
        if event.event_id not in of_facts:
            if retold.get((event.key, event.capture_id), 0) < event.sequence:
                yield f"{_shown(event)} tells no fact"
        elif event.source == "NOTIFICATION" and of_facts[event.event_id] not in history.told:
            yield f"{_shown(event)} tells {of_facts[event.event_id]}, which Antom never said"


def _payments_take_legal_steps(history: History) -> Iterator[str]:
    for before, after in pairwise(event.sequence for event in history.log):
        if after != before + 1:
            yield f"the log goes from {before} to {after}"
    newest: dict[PaymentKey, LoggedEvent] = {}
    for event in history.log:
        yield from wrong_step(event, newest.get(event.key))
        newest[event.key] = event
    for row in history.payments:
        last = newest.get(row.key)
        told = (last.state, last.version) if last else (PaymentState.CREATING.value, 0)
        if (row.state, row.version) != told:
            yield f"{row.payment_request_id} is {row.state} {row.version}, its events say {told}"
        if last and row.last_sequence not in {None, last.sequence}:
            yield f"{row.payment_request_id} ends at {row.last_sequence}, not at {last.sequence}"


def wrong_step(event: LoggedEvent, before: LoggedEvent | None) -> Iterator[str]:
    """What is wrong with ``event`` after the one before it of the same payment, if any was."""
    state, version = (before.state, before.version) if before else (PaymentState.CREATING, 0)
    if event.version != version + 1:
        yield f"{_shown(event)} comes after version {version}"
    if event.state_before != state:
        yield f"{_shown(event)} begins at {event.state_before}, the payment was {state}"
    if not _is_legal(event):
        yield f"{_shown(event)} is no legal step from {event.state_before} to {event.state}"


def _is_legal(event: LoggedEvent) -> bool:
    news, before = EventType(event.type), PaymentState(event.state_before)
    if news is EventType.PAYMENT_CORRECTED:
        return event.source == "INQUIRY"
    if news in _KEEPS_THE_STATE:
        return event.state == event.state_before
    after = STEPS[news].get(before)
    legal = {after}
    if news is EventType.CAPTURE_SUCCEEDED and after:
        # Of a part of the amount it proves no more than that the buyer acted.
        legal.add(PaymentState.PROCESSING if before.is_open else before)
    return event.state in legal


def _subscribers_have_the_log(history: History) -> Iterator[str]:
    order = {event.event_id: event.sequence for event in history.log}
    end = max(order.values(), default=0)
    for one in history.subscribers:
        through = end if one.through is None else one.through
        owed = [event for event in history.log if one.since < event.sequence <= through]
        wanted = [event.event_id for event in owed if one.wants(event)]
        got = {event_id for _, event_id in one.events}
        yield from _some(f"{one.name} never got", [e for e in wanted if e not in got])
        strangers = [e for e in got if e not in order and e not in history.lost]
        yield from _some(f"{one.name} got what is not in the log:", sorted(strangers))
        connections: dict[int, list[int]] = defaultdict(list)
        for connection, event_id in one.events:
            if event_id not in history.lost:
                connections[connection].append(order.get(event_id, 0))
        for connection, sequences in connections.items():
            for before, after in pairwise(sequences):
                if after <= before:
                    yield f"{one.name} got {after} after {before} on connection {connection}"
        first = [e for e in dict.fromkeys(e for _, e in one.events) if e in order]
        if first != sorted(first, key=order.__getitem__):
            yield f"{one.name} got events for the first time in another order than the log's"


def _an_id_is_one_payment_at_antom(history: History) -> Iterator[str]:
    ids: dict[PaymentKey, set[str]] = defaultdict(set)
    for payment in history.antom:
        ids[payment.key].add(payment.payment_id)
    for (_, payment_request_id), payment_ids in ids.items():
        if len(payment_ids) > 1:
            yield f"{payment_request_id} is {len(payment_ids)} payments at Antom"
    for row in history.payments:
        if row.payment_id and row.payment_id not in ids[row.key]:
            yield f"{row.payment_request_id} is bound to a payment that is not its own"


def _nothing_acknowledged_is_lost(history: History) -> Iterator[str]:
    versions = {row.key: row.version for row in history.payments}
    for told in history.acknowledged:
        if versions.get(told.key, -1) < told.version:
            yield f"{told.payment_request_id} was acknowledged at version {told.version}"


def _all_ends_as_antom_says(history: History) -> Iterator[str]:
    at_antom = {payment.key: payment for payment in history.antom}
    rows = {row.key: row for row in history.payments}
    for key in sorted(at_antom.keys() - rows.keys() - history.foreign - history.forgotten):
        yield f"{key[1]} is at Antom, and not here"
    for key, row in rows.items():
        payment = at_antom.get(key)
        if key in history.foreign:
            yield f"{row.payment_request_id} is here, and another system's"
        elif payment and row.minor_units != payment.minor_units and key in history.forgotten:
            # The id was used again, with another amount: that is never taken for paid.
            if row.state in {"AUTHORIZED", "SUCCEEDED"}:
                yield f"{row.payment_request_id} is {row.state}, paid at Antom with another amount"
        else:
            yield from _wrong_end(row, payment)


def _wrong_end(row: StoredPayment, payment: AntomPayment | None) -> Iterator[str]:
    """Where one payment does not stand as Antom's does."""
    if row.state not in states_of(payment):
        told = payment.status if payment else "not known"
        yield f"{row.payment_request_id} is {row.state}, at Antom {told}"
    if row.inquiry_wanted and row.state in FINAL_STATES:
        yield f"{row.payment_request_id} is {row.state}, and still in doubt"
    if payment is None:
        return
    if row.minor_units != payment.minor_units:
        yield f"{row.payment_request_id} is of another amount at Antom"
    taken = _taken(payment)
    # Of what was taken and then cancelled, we may have heard a part, or nothing, before.
    least = 0 if payment.status == "CANCELLED" else taken
    if not least <= row.captured_minor_units <= taken:
        yield f"{row.payment_request_id} took {row.captured_minor_units}, at Antom {taken}"


def _taken(payment: AntomPayment) -> int:
    """What Antom took, in minor units, whether or not it was cancelled then."""
    if payment.expects_capture:
        return payment.captured_minor_units
    return payment.minor_units if payment.status in {"SUCCESS", "CANCELLED"} else 0


def states_of(payment: AntomPayment | None) -> set[str]:
    """Where a payment may stand here, once all is told; None is one that Antom does not know."""
    if payment is None:
        return {"EXPIRED", "FAILED"}
    match payment.status:
        case "SUCCESS":
            return {"SUCCEEDED" if _taken(payment) >= payment.minor_units else "AUTHORIZED"}
        case "FAIL":
            # Whether we saw that it lapsed before Antom closed it is a race.
            return {"FAILED"} if payment.is_submitted else {"FAILED", "EXPIRED"}
        case "CANCELLED":
            return {"CANCELLED"}
        case "PROCESSING" | "PENDING":
            return {"PROCESSING"}
    return {"EXPIRED"}


def _nobody_sees_what_is_not_asked_for(history: History) -> Iterator[str]:
    logged = {event.event_id: event for event in history.log}
    for one in history.subscribers:
        foreign = [e for _, e in one.events if e in logged and not one.wants(logged[e])]
        yield from _some(f"{one.name} was not to see", foreign)


def _no_secret_is_shown(history: History) -> Iterator[str]:
    for name, text in history.outputs.items():
        for what, secret in history.secrets.items():
            if secret in text:
                yield f"{name} shows {what}"


def _some(words: str, event_ids: Iterable[str]) -> Iterator[str]:
    """One line for many, with how many and the first."""
    found = list(event_ids)
    if found:
        yield f"{words} {len(found)}, as {found[0]}"


def _shown(event: LoggedEvent) -> str:
    return f"event {event.sequence} ({event.type} of {event.payment_request_id})"
