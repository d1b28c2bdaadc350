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


def test_a_good_run_has_no_violation() -> None:
    assert violations(good()) == []


PLANTED: list[tuple[str, str, object]] = [
    ("I1", "an accepted notification that left nothing", changed(facts=[])),
    (
        "I1",
        "two facts with one event",
        changed(facts=[StoredFact(PAYMENT, "e-2", "pay-1"), StoredFact(CAPTURE, "e-2", "pay-1")]),
    ),
    ("I1", "a fact without an event", changed(facts=[StoredFact(PAYMENT, None, None)])),
    ("I2", "news that Antom never told", changed(told=frozenset({PAYMENT}))),
    ("I2", "a payment that Antom does not know", changed(antom=[])),
    ("I3", "a hole in the log", logged(2, sequence=4)),
    ("I3", "a version that is missing", logged(2, version=4)),
    ("I3", "a step from another state", logged(2, state_before="PROCESSING")),
    ("I3", "a step that is not legal", logged(1, state="SUCCEEDED")),
    ("I3", "a row that its events do not explain", stored(state="AUTHORIZED")),
    ("I4", "a lost event", got((1, "e-1"), (1, "e-3"))),
    ("I4", "an event twice on one connection", got((1, "e-1"), (1, "e-1"), (1, "e-2"), (1, "e-3"))),
    ("I4", "events in another order", got((1, "e-2"), (1, "e-1"), (1, "e-3"))),
    ("I4", "another order over a reconnect", got((1, "e-2"), (2, "e-1"), (2, "e-2"), (2, "e-3"))),
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
    ("I7", "money taken that is not known here", stored(captured_minor_units=0)),
    ("I7", "a payment still open", stored(state="PROCESSING")),
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
