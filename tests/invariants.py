"""What must hold of every run, whatever went wrong in it (design 7, R-03): the invariants I1 to I9.

Pure: plain data in, violations out. `make chaos` takes the data from real processes; whoever has
another way to run the product gives the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from antom_payments.payment import STEPS, EventType, PaymentState

FactKey = tuple[str, str, str]
"""A fact's kind, Antom's id of what it is about, and its outcome."""

_KEEPS_THE_STATE = {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}


@dataclass(frozen=True)
class LoggedEvent:
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


@dataclass(frozen=True)
class StoredFact:
    """A row of facts; no event while it is an orphan's."""

    key: FactKey
    event_id: str | None
    payment_request_id: str | None


@dataclass(frozen=True)
class StoredPayment:
    """A row of payments."""

    payment_request_id: str
    payment_id: str | None
    state: str
    version: int
    minor_units: int
    captured_minor_units: int


@dataclass(frozen=True)
class AntomPayment:
    """A payment in Antom's own books."""

    payment_request_id: str
    payment_id: str
    status: str | None
    minor_units: int
    captured_minor_units: int
    expects_capture: bool
    """Whether the money is only held until a capture takes it."""


@dataclass(frozen=True)
class Acknowledged:
    """A caller was told that a payment is there, at this version."""

    payment_request_id: str
    version: int


@dataclass
class Received:
    """What one subscriber was given, in order: the number of the connection, and the event."""

    name: str
    wants: Callable[[LoggedEvent], bool]
    events: list[tuple[int, str]] = field(default_factory=list)


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
    for key in sorted(history.accepted - known.keys()):
        yield f"{key} was accepted, and is no fact"
    for key, fact in known.items():
        if fact.event_id is None:
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


def _nothing_is_invented(history: History) -> Iterator[str]:
    of_facts = {fact.event_id: fact.key for fact in history.facts}
    at_antom = {payment.payment_request_id for payment in history.antom}
    for event in history.log:
        if event.payment_request_id not in at_antom:
            yield f"{_shown(event)} is of a payment that Antom does not know"
        if event.source == "API":
            continue
        if event.event_id not in of_facts:
            yield f"{_shown(event)} tells no fact"
        elif event.source == "NOTIFICATION" and of_facts[event.event_id] not in history.told:
            yield f"{_shown(event)} tells {of_facts[event.event_id]}, which Antom never said"


def _payments_take_legal_steps(history: History) -> Iterator[str]:
    for before, after in pairwise(event.sequence for event in history.log):
        if after != before + 1:
            yield f"the log goes from {before} to {after}"
    by_payment: dict[str, list[LoggedEvent]] = defaultdict(list)
    for event in history.log:
        by_payment[event.payment_request_id].append(event)
    for events in by_payment.values():
        yield from _wrong_steps(events)
    for row in history.payments:
        last = by_payment[row.payment_request_id][-1:]
        told = (last[0].state, last[0].version) if last else (PaymentState.CREATING.value, 0)
        if (row.state, row.version) != told:
            yield f"{row.payment_request_id} is {row.state} {row.version}, its events say {told}"


def _wrong_steps(events: Sequence[LoggedEvent]) -> Iterator[str]:
    """Of one payment."""
    state, version = PaymentState.CREATING.value, 0
    for event in events:
        if event.version != version + 1:
            yield f"{_shown(event)} comes after version {version}"
        if event.state_before != state:
            yield f"{_shown(event)} begins at {event.state_before}, the payment was {state}"
        if not _is_legal(event):
            yield f"{_shown(event)} is no legal step from {event.state_before}"
        state, version = event.state, event.version


def _is_legal(event: LoggedEvent) -> bool:
    news, before = EventType(event.type), PaymentState(event.state_before)
    if news is EventType.PAYMENT_CORRECTED:
        return event.source == "INQUIRY"
    if news in _KEEPS_THE_STATE:
        return event.state == event.state_before
    after = STEPS[news].get(before)
    # Of a part of the amount, a capture is news and no step.
    keeps = news is EventType.CAPTURE_SUCCEEDED and event.state == event.state_before
    return keeps or after == event.state


def _subscribers_have_the_log(history: History) -> Iterator[str]:
    order = {event.event_id: event.sequence for event in history.log}
    for one in history.subscribers:
        wanted = [event.event_id for event in history.log if one.wants(event)]
        got = {event_id for _, event_id in one.events}
        yield from _some(f"{one.name} never got", [e for e in wanted if e not in got])
        strangers = [event_id for event_id in got if event_id not in order]
        yield from _some(f"{one.name} got what is not in the log:", strangers)
        connections: dict[int, list[int]] = defaultdict(list)
        for connection, event_id in one.events:
            connections[connection].append(order.get(event_id, 0))
        for connection, sequences in connections.items():
            for before, after in pairwise(sequences):
                if after <= before:
                    yield f"{one.name} got {after} after {before} on connection {connection}"
        first = list(dict.fromkeys(event_id for _, event_id in one.events))
        if [e for e in first if e in order] != sorted(
            (e for e in first if e in order), key=order.__getitem__
        ):
            yield f"{one.name} got events for the first time in another order than the log's"


def _an_id_is_one_payment_at_antom(history: History) -> Iterator[str]:
    ids: dict[str, set[str]] = defaultdict(set)
    for payment in history.antom:
        ids[payment.payment_request_id].add(payment.payment_id)
    for payment_request_id, payment_ids in ids.items():
        if len(payment_ids) > 1:
            yield f"{payment_request_id} is {len(payment_ids)} payments at Antom"
    for row in history.payments:
        if row.payment_id and row.payment_id not in ids[row.payment_request_id]:
            yield f"{row.payment_request_id} is bound to a payment that is not its own"


def _nothing_acknowledged_is_lost(history: History) -> Iterator[str]:
    versions = {row.payment_request_id: row.version for row in history.payments}
    for told in history.acknowledged:
        if versions.get(told.payment_request_id, -1) < told.version:
            yield f"{told.payment_request_id} was acknowledged at version {told.version}"


def _all_ends_as_antom_says(history: History) -> Iterator[str]:
    rows = {row.payment_request_id: row for row in history.payments}
    for payment in history.antom:
        row = rows.get(payment.payment_request_id)
        if row is None:
            yield f"{payment.payment_request_id} is at Antom, and not here"
            continue
        expected = _states_of(payment)
        if row.state not in expected:
            yield f"{row.payment_request_id} is {row.state}, at Antom {payment.status}"
        if row.minor_units != payment.minor_units:
            yield f"{row.payment_request_id} is of another amount at Antom"
        if payment.expects_capture and row.captured_minor_units != payment.captured_minor_units:
            yield (
                f"{row.payment_request_id} took {row.captured_minor_units}, "
                f"at Antom {payment.captured_minor_units}"
            )


def _states_of(payment: AntomPayment) -> set[str]:
    """Where a payment may stand here, once all is told."""
    match payment.status:
        case "SUCCESS":
            is_taken = payment.captured_minor_units >= payment.minor_units
            return {"SUCCEEDED"} if is_taken or not payment.expects_capture else {"AUTHORIZED"}
        case "FAIL":
            return {"FAILED", "EXPIRED"}
        case "CANCELLED":
            return {"CANCELLED"}
        case "PROCESSING" | "PENDING":
            return {"PROCESSING", "AWAITING_BUYER"}
    return {"CREATING", "AWAITING_BUYER", "EXPIRED", "FAILED"}


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
