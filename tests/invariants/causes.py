"""I1 and I2: each thing that Antom told is one event, and each event was told, or asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from antom_payments.payment import EventType
from invariants.records import AntomPayment, History, LoggedEvent, PaymentKey, StoredFact

_TELLS: Mapping[str, frozenset[str]] = {
    "PAYMENT_PROCESSING": frozenset({"PROCESSING"}),
    # Whether a success is money held or money taken may not be known yet.
    "PAYMENT_PENDING": frozenset({"PENDING", "SUCCEEDED"}),
    "PAYMENT_AUTHORIZED": frozenset({"SUCCEEDED"}),
    "PAYMENT_SUCCEEDED": frozenset({"SUCCEEDED"}),
    "PAYMENT_FAILED": frozenset({"FAILED"}),
    "PAYMENT_CANCELLED": frozenset({"CANCELLED"}),
    "PAYMENT_EXPIRED": frozenset({"EXPIRED"}),
    "CAPTURE_SUCCEEDED": frozenset({"SUCCEEDED"}),
    "CAPTURE_FAILED": frozenset({"FAILED"}),
    "CAPTURE_PROCESSING": frozenset({"PROCESSING", "PENDING"}),
}
"""Outcomes that are told as an event of a type; of the types that are not here, any."""
_CONCLUDES_NOTHING = {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}
_TOLD_OFTEN = {"PAYMENT_PENDING", "CAPTURE_PROCESSING", "PAYMENT_CORRECTED", *_CONCLUDES_NOTHING}
"""What facts of several outcomes may be told as."""
_OVERTAKEN = {"PROCESSING", "PENDING"}
"""What may stay in quarantine: an inquiry tells no more than how it ended."""
_SESSIONS = {"SESSION_CREATED", "SESSION_RENEWED"}
_OF_CALLERS = {*_SESSIONS, "SESSION_REFUSED", "SDK_EVENT_REPORTED"}
"""What no fact tells: what came of a caller's own request."""
_WITHOUT_ANTOM = {"SESSION_REFUSED", "PAYMENT_EXPIRED", "SDK_EVENT_REPORTED"}
"""What may be told of a payment that never came to be at Antom."""


def each_fact_is_one_event(history: History) -> Iterator[str]:
    """I1: no fact without its event, none with two."""
    known = {fact.key: fact for fact in history.facts}
    logged = {event.event_id for event in history.log}
    orphans = _ids_of_orphans(history)
    overtaken = {key for key in history.held_back if key[2] in _OVERTAKEN}
    for key in sorted(history.accepted - known.keys() - overtaken):
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
        if event.type not in {*_TOLD_OFTEN, *_OF_CALLERS}:
            moves = event.source == "INQUIRY" and event.state_before != event.state
            if news in told and not moves:
                yield f"{event} was told before"
        told.add(news)


def nothing_is_invented(history: History) -> Iterator[str]:
    """I2: each event tells what Antom said, or what came of a caller's request."""
    at_antom = {payment.key: payment for payment in history.antom}
    facts = _Facts(history)
    for event in history.log:
        if event.key not in at_antom and event.type not in _WITHOUT_ANTOM:
            yield f"{event} is of a payment that Antom does not know"
        if event.source != "API":
            yield from _without_cause(event, facts, history)
            yield from _never_answered(event, facts.told_by(event), at_antom.get(event.key))
        elif event.type not in _OF_CALLERS:
            yield f"{event} is nothing that comes of a request"
    yield from _more_sessions_than_made(history)
    for delivery in history.taken_forged:
        yield f"{delivery} was not signed by Antom, and was acknowledged"


class _Facts:
    """The facts by the events that tell them."""

    def __init__(self, history: History) -> None:
        self._notifications = history.notifications
        self._named = {fact.event_id: fact for fact in history.facts if fact.event_id}
        inquired = [event for event in history.log if event.source == "INQUIRY"]
        self._retold = [
            (event, self._named[event.event_id])
            for event in inquired
            if event.event_id in self._named
        ]

    def told_by(self, event: LoggedEvent) -> StoredFact | None:
        """The fact whose event it is, or was until an inquiry told it anew, by another event."""
        if event.event_id in self._named:
            return self._named[event.event_id]
        retold = [
            fact
            for later, fact in self._retold
            if later.key == event.key and later.sequence > event.sequence and _may_tell(event, fact)
        ]
        key = self._notifications.get(event.notification_id)
        # Several may be told as one type: the notification says which it was.
        return next((fact for fact in retold if fact.key == key), next(iter(retold), None))


def _without_cause(event: LoggedEvent, facts: _Facts, history: History) -> Iterator[str]:
    fact = facts.told_by(event)
    if fact is None:
        yield f"{event} tells no fact"
        return
    if event.type in _OF_CALLERS or not _may_tell(event, fact):
        yield f"{event} tells {fact.key} of {fact.payment_request_id or fact.payment_id}"
    if event.source == "NOTIFICATION":
        if fact.key not in history.told:
            yield f"{event} tells {fact.key}, which Antom never said"
        if history.notifications.get(event.notification_id) != fact.key:
            yield f"{event} names no stored notification of {fact.key}"
        if (
            event.notification_id in history.of_other_amounts
            and event.type not in _CONCLUDES_NOTHING
        ):
            yield f"{event} concludes from an amount that nobody asked for"


def _never_answered(
    event: LoggedEvent, fact: StoredFact | None, payment: AntomPayment | None
) -> Iterator[str]:
    """Where no inquiry can have told it, whenever Antom was asked: how a thing ends there, stays.

    But that what was paid may be cancelled.
    """
    if event.source == "INQUIRY" and fact and not _may_be_answered(fact, payment):
        stands = payment.status if payment else "not known"
        yield f"{event} tells {fact.key}, which Antom never answered; there it is {stands}"


def _may_be_answered(fact: StoredFact, payment: AntomPayment | None) -> bool:
    kind, fact_id, outcome = fact.key[:3]
    if payment is None:
        return True  # that it may be told at all is looked at before
    if kind == "CAPTURE":
        ended = payment.captures.get(fact_id)
        return ended is not None and outcome in {ended, "PROCESSING"}
    return {
        "SUCCEEDED": payment.is_paid,
        "FAILED": payment.status == "FAIL",
        "CANCELLED": payment.status == "CANCELLED",
        # Of what was never paid, and can be no more.
        "EXPIRED": not payment.is_paid,
    }.get(outcome, True)


def _may_tell(event: LoggedEvent, fact: StoredFact) -> bool:
    """Whether an event is about the same thing as a fact, and has a type for its outcome."""
    kind, fact_id, outcome, *merchant = fact.key
    is_same_thing = (kind, fact_id) == ("CAPTURE", event.capture_id)
    if not event.capture_id:
        is_same_thing = kind == "PAYMENT"
    is_of_payment = fact.payment_request_id == event.payment_request_id
    if not fact.payment_request_id:
        # News of another amount binds no `paymentId` to the payment.
        is_unbound = event.type == EventType.AMOUNT_MISMATCH and not event.shown.payment_id
        is_of_payment = is_unbound or fact.payment_id == event.shown.payment_id
    is_of_merchant = merchant in ([], [event.merchant_account])
    outcomes = _TELLS.get(event.type)
    is_told_so = outcomes is None or outcome in outcomes
    return is_same_thing and is_of_payment and is_of_merchant and is_told_so


def _more_sessions_than_made(history: History) -> Iterator[str]:
    made: Counter[PaymentKey] = Counter()
    for payment in history.antom:
        made[payment.key] += payment.sessions
    told = Counter(event.key for event in history.log if event.type in _SESSIONS)
    for key, count in told.items():
        if count > made[key]:
            yield f"{key[1]} is told {count} sessions, Antom made {made[key]}"
