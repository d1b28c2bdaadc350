"""The checker finds what it is there to find: each kind of harm, planted in a run that was good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from invariants import (
    Acknowledged,
    AntomPayment,
    History,
    LoggedEvent,
    Received,
    StoredFact,
    StoredPayment,
    violations,
)

PAYMENT, CAPTURE = ("PAYMENT", "P-1", "SUCCEEDED"), ("CAPTURE", "C-1", "SUCCEEDED")
STEPS = [
    ("SESSION_CREATED", "CREATING", "AWAITING_BUYER", "API"),
    ("PAYMENT_AUTHORIZED", "AWAITING_BUYER", "AUTHORIZED", "NOTIFICATION"),
    ("CAPTURE_SUCCEEDED", "AUTHORIZED", "SUCCEEDED", "NOTIFICATION"),
]


def is_all(_: LoggedEvent) -> bool:
    return True


def is_capture(event: LoggedEvent) -> bool:
    return event.type == "CAPTURE_SUCCEEDED"


def good() -> History:
    """A card payment, from session to captured, and two subscribers, one of which reconnected."""
    return History(
        log=[
            LoggedEvent(n, f"e-{n}", "pay-1", n, kind, before, after, source)
            for n, (kind, before, after, source) in enumerate(STEPS, start=1)
        ],
        facts=[StoredFact(PAYMENT, "e-2", "pay-1"), StoredFact(CAPTURE, "e-3", "pay-1")],
        payments=[StoredPayment("pay-1", "P-1", "SUCCEEDED", 3, 4200, 4200)],
        antom=[AntomPayment("pay-1", "P-1", "SUCCESS", 4200, 4200, expects_capture=True)],
        accepted=frozenset({PAYMENT, CAPTURE}),
        told=frozenset({PAYMENT, CAPTURE}),
        acknowledged=[Acknowledged("pay-1", 1)],
        subscribers=[
            Received("all", is_all, [(1, "e-1"), (1, "e-2"), (2, "e-2"), (2, "e-3")]),
            Received("captures", is_capture, [(1, "e-3")]),
        ],
        outputs={"a server": "all is well"},
        secrets={"a password": "hunter2"},
    )


def changed(**what: object) -> Callable[[History], History]:
    return lambda history: replace(history, **what)  # type: ignore[arg-type] # of any field


def got(*events: tuple[int, str], wants: Callable[[LoggedEvent], bool] = is_all) -> object:
    return changed(subscribers=[Received("all", wants, list(events))])


def logged(number: int, **what: object) -> Callable[[History], History]:
    """The event of that number is otherwise."""

    def plant(history: History) -> History:
        log = list(history.log)
        log[number] = replace(log[number], **what)  # type: ignore[arg-type] # of any field
        return replace(history, log=log)

    return plant


def stored(**what: object) -> Callable[[History], History]:
    row = StoredPayment("pay-1", "P-1", "SUCCEEDED", 3, 4200, 4200)
    return changed(payments=[replace(row, **what)])  # type: ignore[arg-type] # of any field


def also(**what: tuple[object, ...]) -> Callable[[History], History]:
    """With more of what there is."""
    return lambda history: replace(
        history,
        **{name: [*getattr(history, name), *more] for name, more in what.items()},  # type: ignore[arg-type] # of any field
    )


def after(*plants: Callable[[History], History]) -> Callable[[History], History]:
    """One after the other."""

    def plant(history: History) -> History:
        for one in plants:
            history = one(history)
        return history

    return plant


def told_again(source: str, before: str) -> Callable[[History], History]:
    """The news of the capture once more; its fact names that event from now on."""
    again = LoggedEvent(4, "e-4", "pay-1", 4, "CAPTURE_SUCCEEDED", before, "SUCCEEDED", source)
    facts = [StoredFact(PAYMENT, "e-2", "pay-1"), StoredFact(CAPTURE, "e-4", "pay-1")]
    row = StoredPayment("pay-1", "P-1", "SUCCEEDED", 4, 4200, 4200)
    return after(also(log=(again,)), changed(facts=facts, payments=[row], subscribers=[]))


OTHER = ("PAYMENT", "P-2", "SUCCEEDED")


def elsewhere(kind: str = "") -> Callable[[History], History]:
    """Antom has a payment more, and told of it: another system's, or one that was forgotten."""
    payment = AntomPayment("pay-2", "P-2", "SUCCESS", 900, 0, expects_capture=False)
    told = frozenset({PAYMENT, CAPTURE, OTHER})
    return after(
        also(antom=(payment,), facts=(StoredFact(OTHER, None, "pay-2", "P-2"),)),
        changed(told=told, accepted=told),
        changed(**{kind: frozenset({("default", "pay-2")})} if kind else {}),
    )


def used_again(state: str) -> Callable[[History], History]:
    """The forgotten payment's id was used again, with another amount."""
    refused = LoggedEvent(4, "e-4", "pay-2", 1, "SESSION_REFUSED", "CREATING", "FAILED", "API")
    told = replace(refused, sequence=5, event_id="e-5", version=2, source="NOTIFICATION")
    told = replace(told, type="AMOUNT_MISMATCH", state_before="FAILED")
    return after(
        elsewhere("forgotten"),
        also(payments=(StoredPayment("pay-2", None, state, 2, 700, 0),), log=(refused, told)),
        changed(facts=[*good().facts, StoredFact(OTHER, "e-5", "pay-2", "P-2")], subscribers=[]),
    )


def refused_at_once(state: str = "FAILED") -> Callable[[History], History]:
    """A payment of which Antom never made anything."""
    row = StoredPayment("pay-3", None, state, 1, 700, 0)
    event = LoggedEvent(4, "e-4", "pay-3", 1, "SESSION_REFUSED", "CREATING", "FAILED", "API")
    return after(also(payments=(row,), log=(event,)), changed(subscribers=[]))


def failed(state: str, *, submitted: bool) -> Callable[[History], History]:
    """A payment that failed at Antom."""
    kind = f"PAYMENT_{state}"
    source = "NOTIFICATION" if state == "FAILED" else "INQUIRY"
    fact = ("PAYMENT", "P-1", state)
    session = good().log[0]
    return changed(
        log=[session, LoggedEvent(2, "e-2", "pay-1", 2, kind, session.state, state, source)],
        facts=[StoredFact(fact, "e-2", "pay-1")],
        payments=[StoredPayment("pay-1", "P-1", state, 2, 4200, 0)],
        antom=[AntomPayment("pay-1", "P-1", "FAIL", 4200, 0, False, is_submitted=submitted)],
        accepted=frozenset(),
        told=frozenset({fact}),
        subscribers=[],
    )


def twice(*fact: str) -> Callable[[History], History]:
    """Another merchant has the same: the id, the steps, and facts with ``fact`` in their keys."""
    first = good()
    log = [
        replace(event, sequence=n, event_id=f"o-{n}", merchant_account="other")
        for n, event in enumerate(first.log, start=4)
    ]
    facts = [
        StoredFact((*key, *fact), f"o-{n}", "pay-1", "P-1")
        for n, key in enumerate((PAYMENT, CAPTURE), start=5)
    ]
    return after(
        also(
            log=tuple(log),
            facts=tuple(facts),
            payments=(replace(first.payments[0], merchant_account="other"),),
            antom=(replace(first.antom[0], merchant_account="other"),),
            acknowledged=(Acknowledged("pay-1", 3, "other"),),
        ),
        changed(told=first.told | {one.key for one in facts}, subscribers=[]),
    )


def cancelled(taken: int) -> Callable[[History], History]:
    """Antom cancelled what it had taken; here it was known that ``taken`` was."""
    steps = ("PAYMENT_CANCELLED", "AUTHORIZED", "CANCELLED", "INQUIRY")
    return changed(
        log=[*good().log[:2], LoggedEvent(3, "e-3", "pay-1", 3, *steps)],
        payments=[StoredPayment("pay-1", "P-1", "CANCELLED", 3, 4200, taken)],
        antom=[replace(good().antom[0], status="CANCELLED")],
        subscribers=[],
    )


GOOD: list[tuple[str, Callable[[History], History]]] = [
    ("nothing went wrong", changed()),
    (
        "a subscriber that began later",
        changed(subscribers=[Received("late", is_all, [(1, "e-3")], since=2)]),
    ),
    (
        "a subscriber that ended",
        changed(subscribers=[Received("early", is_all, [(1, "e-1")], through=1)]),
    ),
    (
        "events that a restore took",
        after(got(*[(1, f"e-{n}") for n in (1, 8, 9, 2, 3)]), changed(lost={"e-8", "e-9"})),
    ),
    (
        "a fact that an inquiry tells anew, for it moves the payment",
        after(logged(2, state="AUTHORIZED"), told_again("INQUIRY", "AUTHORIZED")),
    ),
    ("the same id of two merchants", twice("other")),
    ("another system's payment", elsewhere("foreign")),
    ("a payment that a restore forgot", elsewhere("forgotten")),
    ("an id that was used again with another amount", used_again("FAILED")),
    ("a payment that Antom refused", refused_at_once()),
    ("a payment that lapsed before Antom closed it", failed("EXPIRED", submitted=False)),
    ("a capture that was heard of after its cancellation", cancelled(0)),
    ("a payment that was declined", failed("FAILED", submitted=True)),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in GOOD])
def test_what_may_be_is_no_violation(change: Callable[[History], History]) -> None:
    assert violations(change(good())) == []


PLANTED: list[tuple[str, str, object]] = [
    ("I1", "an accepted notification that left nothing", changed(facts=[])),
    (
        "I1",
        "two facts with one event",
        changed(facts=[StoredFact(PAYMENT, "e-2", "pay-1"), StoredFact(CAPTURE, "e-2", "pay-1")]),
    ),
    ("I1", "a fact without an event", changed(facts=[StoredFact(PAYMENT, None, None)])),
    (
        "I1",
        "an orphan whose payment is here",
        also(facts=(StoredFact(OTHER, None, "pay-1", "P-1"),)),
    ),
    ("I1", "an orphan of a payment that is nobody's", elsewhere()),
    ("I1", "news that is told again", told_again("NOTIFICATION", "SUCCEEDED")),
    ("I1", "an inquiry's news that moves nothing", told_again("INQUIRY", "SUCCEEDED")),
    (
        "I2",
        "an event whose fact names another that no inquiry told",
        told_again("API", "SUCCEEDED"),
    ),
    ("I2", "news that Antom never told", changed(told=frozenset({PAYMENT}))),
    ("I2", "a payment that Antom does not know", changed(antom=[])),
    ("I3", "a hole in the log", logged(2, sequence=4)),
    ("I3", "a version that is missing", logged(2, version=4)),
    ("I3", "a step from another state", logged(2, state_before="PROCESSING")),
    ("I3", "a step that is not legal", logged(1, state="SUCCEEDED")),
    ("I3", "a correction that no inquiry tells", logged(2, type="PAYMENT_CORRECTED")),
    ("I3", "a part of a capture that ends a payment", logged(2, state="CANCELLED")),
    ("I3", "a row that its events do not explain", stored(state="AUTHORIZED")),
    ("I3", "a row that ends at another event", stored(last_sequence=2)),
    ("I4", "a lost event", got((1, "e-1"), (1, "e-3"))),
    ("I4", "an event twice on one connection", got((1, "e-1"), (1, "e-1"), (1, "e-2"), (1, "e-3"))),
    ("I4", "events in another order", got((1, "e-2"), (1, "e-1"), (1, "e-3"))),
    ("I4", "another order over a reconnect", got((1, "e-2"), (2, "e-1"), (2, "e-2"), (2, "e-3"))),
    (
        "I4",
        "an event that is owed after a later start",
        changed(subscribers=[Received("late", is_all, [(1, "e-3")], since=1)]),
    ),
    (
        "I4",
        "an event that is owed before an end",
        changed(subscribers=[Received("early", is_all, [(1, "e-1")], through=2)]),
    ),
    ("I4", "an invented event", got((1, "e-1"), (1, "e-2"), (1, "e-3"), (1, "e-9"))),
    (
        "I5",
        "two payments at Antom under one id",
        changed(antom=[*good().antom, replace(good().antom[0], payment_id="P-2")]),
    ),
    ("I5", "a payment bound to another's", stored(payment_id="P-9")),
    (
        "I6",
        "an acknowledged version that is gone",
        changed(acknowledged=[Acknowledged("pay-1", 4)]),
    ),
    ("I6", "an acknowledged payment that is gone", changed(payments=[])),
    (
        "I6",
        "an acknowledged payment that another merchant has",
        also(acknowledged=(Acknowledged("pay-1", 1, "other"),)),
    ),
    ("I7", "money taken that is not known here", stored(captured_minor_units=0)),
    ("I7", "a payment still open", stored(state="PROCESSING")),
    ("I7", "more than was taken before it was cancelled", cancelled(5000)),
    ("I7", "a payment still in doubt", stored(inquiry_wanted=True)),
    ("I7", "a payment of another amount", stored(minor_units=900)),
    ("I7", "a payment that is at Antom alone", elsewhere()),
    ("I7", "a payment that was declined, and is told as lapsed", failed("EXPIRED", submitted=True)),
    ("I7", "a payment that Antom never had, and is told as paid", refused_at_once("SUCCEEDED")),
    ("I7", "an id used again that is told as paid", used_again("SUCCEEDED")),
    (
        "I7",
        "another system's payment among ours",
        changed(foreign=frozenset({("default", "pay-1")})),
    ),
    ("I8", "an event that was not asked for", got((1, "e-1"), (1, "e-3"), wants=is_capture)),
    ("I9", "a secret in a log", changed(outputs={"a server": "password=hunter2"})),
]


@pytest.mark.parametrize(
    ("invariant", "plant"),
    [pytest.param(name, plant, id=f"{name} {what}") for name, what, plant in PLANTED],
)
def test_what_is_planted_is_found(invariant: str, plant: Callable[[History], History]) -> None:
    found = violations(plant(good()))
    assert invariant in {violation.invariant for violation in found}, found
