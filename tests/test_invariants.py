"""The checker finds what it is there to find: each kind of harm, planted in a run that was good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from invariants import (
    Acknowledged,
    History,
    Received,
    StoredFact,
    violations,
)
from planted import (
    CAPTURE,
    FAILED_AT_ANTOM,
    OTHER,
    PAYMENT,
    acknowledged,
    after,
    also,
    answered,
    answered_falsely,
    cancelled,
    changed,
    corrected,
    elsewhere,
    fact,
    failed,
    good,
    got,
    held_back,
    is_all,
    is_capture,
    logged,
    logged_with,
    more,
    refused_at_once,
    retold,
    retold_late,
    seen,
    seen_with,
    stored,
    taken_falsely,
    told_again,
    twice,
    used_again,
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
        retold(),
    ),
    ("two facts that are told alike, and anew by an inquiry", retold_late()),
    ("the same id of two merchants", twice("other")),
    ("another system's payment", elsewhere("foreign")),
    ("a payment that a restore forgot", elsewhere("forgotten")),
    ("an id that was used again with another amount", used_again("FAILED")),
    ("a payment that Antom refused", refused_at_once()),
    ("a payment that lapsed before Antom closed it", failed("EXPIRED", submitted=False)),
    ("a capture that was heard of after its cancellation", cancelled(0)),
    ("a payment that was declined", failed("FAILED", submitted=True)),
    ("an event that is shown as it is logged", seen()),
    ("news that a wrong clock held back, and that was overtaken", held_back("PENDING")),
    ("an intent that was told", answered(acknowledged(0, state="CREATING"))),
    (
        "a declined payment whose caller was sent away",
        after(failed("FAILED", submitted=True), changed(refused={("default", "pay-1")})),
    ),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in GOOD])
def test_what_may_be_is_no_violation(change: Callable[[History], History]) -> None:
    assert violations(change(good())) == []


PLANTED: list[tuple[str, str, object]] = [
    ("I1", "an accepted notification that left nothing", changed(facts=[])),
    ("I1", "a success that a wrong clock held back for ever", held_back("SUCCEEDED")),
    (
        "I1",
        "two facts with one event",
        changed(facts=[fact(PAYMENT, "e-2"), fact(CAPTURE, "e-2")]),
    ),
    ("I1", "a fact without an event", changed(facts=[fact(PAYMENT, None)])),
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
    ("I2", "money that a later correction makes good", corrected()),
    ("I2", "money of a request's own doing", more("PAYMENT_SUCCEEDED", "SUCCEEDED", "API")),
    ("I2", "a session that Antom never made", more("SESSION_RENEWED", "SUCCEEDED", "API")),
    ("I2", "an inquiry's news that is no fact", more("CONTRADICTION", "SUCCEEDED", "INQUIRY")),
    ("I2", "an event that names no notification", logged(1, notification_id="")),
    ("I2", "an event that names another's notification", logged(1, notification_id="n-3")),
    ("I2", "a fact that is told as another", logged(1, type="PAYMENT_FAILED")),
    ("I2", "a fact that is told of another payment", logged_with(2, payment_id="P-2")),
    ("I2", "a capture's fact that is told of another", logged(2, capture_id="C-2")),
    ("I2", "a forged delivery that was taken", changed(taken_forged=["notification 1 of pay-1"])),
    ("I2", "news that Antom never told", changed(told=frozenset({PAYMENT}))),
    (
        "I2",
        "money concluded from an amount that nobody asked for",
        changed(of_other_amounts=frozenset({"n-2"})),
    ),
    (
        "I2",
        "news that Antom never told, which an inquiry tells anew",
        after(retold(), changed(told=frozenset({PAYMENT}))),
    ),
    ("I2", "a payment that Antom does not know", changed(antom=[])),
    ("I2", "a failure that no inquiry can have told", answered_falsely("FAILED")),
    ("I2", "a cancellation that no inquiry can have told", answered_falsely("CANCELLED")),
    ("I2", "a lapse of what was paid", answered_falsely("EXPIRED")),
    ("I2", "a capture that no inquiry can have told", taken_falsely()),
    (
        "I2",
        "a success that no inquiry can have told",
        answered_falsely("SUCCEEDED", then="FAILED"),
    ),
    ("I3", "a hole in the log", logged(2, sequence=4)),
    ("I3", "a version that is missing", logged(2, version=4)),
    ("I3", "a step from another state", logged(2, state_before="PROCESSING")),
    ("I3", "a step that is not legal", logged(1, state="SUCCEEDED")),
    ("I3", "a correction that no inquiry tells", logged(2, type="PAYMENT_CORRECTED")),
    ("I3", "a part of a capture that ends a payment", logged(2, state="CANCELLED")),
    ("I3", "a row that its events do not explain", stored(state="AUTHORIZED")),
    ("I3", "a row that ends at another event", stored(last_sequence=2)),
    ("I3", "a row with other money than its events say", stored(captured_minor_units=4199)),
    ("I3", "a row in another currency than its events say", stored(currency_code="JPY")),
    ("I3", "an event with another payment in it", logged_with(1, payment_request_id="pay-9")),
    ("I3", "an event with an older payment in it", logged_with(1, version=1)),
    ("I4", "a payment that is shown otherwise", seen_with(captured_minor_units=4200)),
    ("I4", "a payment that is shown in another state", seen_with(state="SUCCEEDED")),
    ("I4", "an event that is shown as another type", seen(type="PAYMENT_SUCCEEDED")),
    ("I4", "an event that is shown of another payment", seen(payment_request_id="pay-9")),
    ("I4", "an event that is shown, and not logged", seen(event_id="e-9")),
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
    ("I5", "a paid payment whose caller was sent away", changed(refused={("default", "pay-1")})),
    (
        "I5",
        "a payment that can be paid, and whose caller was sent away",
        changed(
            refused={("default", "pay-1")},
            antom=[replace(FAILED_AT_ANTOM, status=None, is_submitted=False)],
        ),
    ),
    (
        "I6",
        "an acknowledged version that is gone",
        changed(acknowledged=[Acknowledged("pay-1", 4)]),
    ),
    ("I6", "an answer about another", answered(acknowledged(1, payment_request_id="pay-9"))),
    ("I6", "an answer with another amount", answered(acknowledged(1, minor_units=4201))),
    ("I6", "an answer in another currency", answered(acknowledged(1, currency_code="JPY"))),
    ("I6", "an answer in another state", answered(acknowledged(1, state="SUCCEEDED"))),
    ("I6", "an answer of money that was not taken", answered(acknowledged(2))),
    ("I6", "an intent told with another amount", answered(acknowledged(0, minor_units=1))),
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
    ("I7", "a payment in another currency", stored(currency_code="JPY")),
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
