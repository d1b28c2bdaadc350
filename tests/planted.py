"""A run that was good, and the harms that are planted in it for its checker to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from invariants import (
    Acknowledged,
    AntomPayment,
    History,
    LoggedEvent,
    Received,
    Shown,
    StoredFact,
    StoredPayment,
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


def event(sequence: int, name: str, version: int, *told: str) -> LoggedEvent:
    """An event of the 4200 that all is about: bound by its first news, taken once it succeeded.

    Args:
        told: its type, the states before and after it, and its source.
    """
    kind, _, after, source = told
    payment_id = f"P-{name[-1]}" if source != "API" else ""
    taken = 4200 if after == "SUCCEEDED" else 0
    return LoggedEvent(
        *(sequence, f"e-{sequence}", name, version, *told),
        shown=Shown(name, version, after, payment_id, "SGD", 4200, taken),
        capture_id="C-1" if kind.startswith("CAPTURE") else "",
        notification_id=f"n-{sequence}" if source == "NOTIFICATION" else "",
    )


def row(state: str, version: int, taken: int) -> StoredPayment:
    return StoredPayment(
        *("pay-1", "P-1", state, version, "SGD", 4200, taken),
        inquiry_wanted=False,
        last_sequence=version,
    )


def fact(key: tuple[str, ...], event_id: str | None) -> StoredFact:
    """Of the payment that all is about; a capture's names Antom's id alone."""
    return StoredFact(key, event_id, "pay-1" if key[0] == "PAYMENT" else None, "P-1")


AT_ANTOM = AntomPayment(
    *("pay-1", "P-1", "SUCCESS", "SGD", 4200, 4200),
    expects_capture=True,
    is_submitted=True,
    sessions=1,
    is_paid=True,
    captures={"C-1": "SUCCEEDED"},
)
FAILED_AT_ANTOM = replace(
    AT_ANTOM,
    status="FAIL",
    captured_minor_units=0,
    expects_capture=False,
    is_paid=False,
    captures={},
)


def acknowledged(version: int, **what: object) -> Acknowledged:
    """That somebody who asked was shown the session."""
    told = Shown("pay-1", version, "AWAITING_BUYER", "", "SGD", 4200, 0)
    return Acknowledged("pay-1", version, shown=replace(told, **what))  # type: ignore[arg-type] # of any field


def good() -> History:
    """A card payment, from session to captured, and two subscribers, one of which reconnected."""
    return History(
        log=[
            event(n, "pay-1", n, kind, before, after, source)
            for n, (kind, before, after, source) in enumerate(STEPS, start=1)
        ],
        facts=[fact(PAYMENT, "e-2"), fact(CAPTURE, "e-3")],
        payments=[row("SUCCEEDED", 3, 4200)],
        notifications={"n-2": PAYMENT, "n-3": CAPTURE},
        antom=[AT_ANTOM],
        accepted=frozenset({PAYMENT, CAPTURE}),
        told=frozenset({PAYMENT, CAPTURE}),
        acknowledged=[acknowledged(1)],
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
        same = {name: what[name] for name in ("version", "state") if name in what}
        log[number] = replace(log[number], shown=replace(log[number].shown, **same))
        return replace(history, log=log)

    return plant


def logged_with(number: int, **what: object) -> Callable[[History], History]:
    """The payment in the event of that number is otherwise."""

    def plant(history: History) -> History:
        log = list(history.log)
        shown = replace(log[number].shown, **what)  # type: ignore[arg-type] # of any field
        log[number] = replace(log[number], shown=shown)
        return replace(history, log=log)

    return plant


def stored(**what: object) -> Callable[[History], History]:
    return changed(payments=[replace(row("SUCCEEDED", 3, 4200), **what)])  # type: ignore[arg-type] # of any field


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
    again = event(4, "pay-1", 4, "CAPTURE_SUCCEEDED", before, "SUCCEEDED", source)
    facts = [fact(PAYMENT, "e-2"), fact(CAPTURE, "e-4")]
    rows = [row("SUCCEEDED", 4, 4200)]
    return after(also(log=(again,)), changed(facts=facts, payments=rows, subscribers=[]))


def retold() -> Callable[[History], History]:
    """A fact that an inquiry tells anew, for it moves the payment."""
    return after(logged(2, state="AUTHORIZED"), told_again("INQUIRY", "AUTHORIZED"))


def retold_late() -> Callable[[History], History]:
    """Two facts are told as one type of event, and an inquiry tells both anew."""
    pending, paid = ("PAYMENT", "P-1", "PENDING"), PAYMENT
    told = ("PAYMENT_PENDING", "PROCESSING", "PROCESSING")
    log = [
        good().log[0],
        event(2, "pay-1", 2, "PAYMENT_PENDING", "AWAITING_BUYER", "PROCESSING", "NOTIFICATION"),
        event(3, "pay-1", 3, *told, "NOTIFICATION"),
        event(4, "pay-1", 4, *told, "INQUIRY"),
        event(5, "pay-1", 5, "PAYMENT_SUCCEEDED", "PROCESSING", "SUCCEEDED", "INQUIRY"),
    ]
    return changed(
        log=log,
        facts=[fact(pending, "e-4"), fact(paid, "e-5")],
        payments=[row("SUCCEEDED", 5, 4200)],
        notifications={"n-2": pending, "n-3": paid},
        accepted=frozenset({pending, paid}),
        told=frozenset({pending, paid}),
        subscribers=[],
    )


def more(kind: str, state: str, source: str) -> Callable[[History], History]:
    """An event more, at the end, that no fact names."""
    last = event(4, "pay-1", 4, kind, "SUCCEEDED", state, source)
    taken = replace(last.shown, payment_id="P-1", captured_minor_units=4200)
    rows = [row(state, 4, 4200)]
    return after(also(log=(replace(last, shown=taken),)), changed(payments=rows, subscribers=[]))


def corrected() -> Callable[[History], History]:
    """An inquiry corrects what nothing told: Antom has the payment as failed."""
    wrong = event(2, "pay-1", 2, "PAYMENT_SUCCEEDED", "AWAITING_BUYER", "SUCCEEDED", "NOTIFICATION")
    right = event(3, "pay-1", 3, "PAYMENT_CORRECTED", "SUCCEEDED", "FAILED", "INQUIRY")
    failed = ("PAYMENT", "P-1", "FAILED")
    return changed(
        log=[good().log[0], wrong, right],
        facts=[fact(failed, "e-3")],
        payments=[row("FAILED", 3, 0)],
        antom=[FAILED_AT_ANTOM],
        notifications={"n-2": failed},
        accepted=frozenset(),
        told=frozenset({PAYMENT}),
        subscribers=[],
    )


def held_back(outcome: str) -> Callable[[History], History]:
    """News of another of the buyer's tries is in quarantine, and no inquiry told it."""
    told = frozenset({("PAYMENT", "P-0", outcome)})
    return changed(accepted=good().accepted | told, told=good().told | told, held_back=told)


def seen(**what: object) -> Callable[[History], History]:
    """A subscriber is shown the second event, changed."""
    return _seen(replace(good().log[1], sequence=0, **what))  # type: ignore[arg-type] # of any field


def seen_with(**what: object) -> Callable[[History], History]:
    """A subscriber is shown the second event with its payment changed."""
    told = replace(good().log[1].shown, **what)  # type: ignore[arg-type] # of any field
    return seen(shown=told)


def _seen(event: LoggedEvent) -> Callable[[History], History]:
    got = [(1, f"e-{n}") for n in (1, 2, 3)]
    return changed(subscribers=[Received("all", is_all, got, wire=[event])])


def answered(answer: Acknowledged) -> Callable[[History], History]:
    return changed(acknowledged=[answer])


def answered_falsely(state: str, *, then: str = "SUCCEEDED") -> Callable[[History], History]:
    """An inquiry is said to have told an end that Antom never had; another puts it right."""
    log = [
        good().log[0],
        event(2, "pay-1", 2, f"PAYMENT_{state}", "AWAITING_BUYER", state, "INQUIRY"),
        event(3, "pay-1", 3, "PAYMENT_CORRECTED", state, then, "INQUIRY"),
    ]
    return changed(
        log=log,
        facts=[fact(("PAYMENT", "P-1", one), f"e-{n}") for n, one in ((2, state), (3, then))],
        payments=[row(then, 3, 4200 if then == "SUCCEEDED" else 0)],
        antom=[AT_ANTOM if then == "SUCCEEDED" else FAILED_AT_ANTOM],
        notifications={},
        accepted=frozenset(),
        subscribers=[],
    )


def taken_falsely() -> Callable[[History], History]:
    """An inquiry is said to have told of a capture; Antom's only one failed."""
    return after(
        logged(2, source="INQUIRY", notification_id=""),
        changed(
            antom=[replace(AT_ANTOM, captured_minor_units=0, captures={"C-1": "FAILED"})],
            subscribers=[],
        ),
    )


OTHER = ("PAYMENT", "P-2", "SUCCEEDED")


def elsewhere(kind: str = "") -> Callable[[History], History]:
    """Antom has a payment more, and told of it: another system's, or one that was forgotten."""
    payment = replace(
        AT_ANTOM, payment_request_id="pay-2", payment_id="P-2", minor_units=900, sessions=1
    )
    payment = replace(payment, captured_minor_units=0, expects_capture=False, captures={})
    told = frozenset({PAYMENT, CAPTURE, OTHER})
    return after(
        also(antom=(payment,), facts=(StoredFact(OTHER, None, "pay-2", "P-2"),)),
        changed(told=told, accepted=told),
        changed(**{kind: frozenset({("default", "pay-2")})} if kind else {}),
    )


def used_again(state: str) -> Callable[[History], History]:
    """The forgotten payment's id was used again, with another amount."""
    refused = event(4, "pay-2", 1, "SESSION_REFUSED", "CREATING", "FAILED", "API")
    told = event(5, "pay-2", 2, "AMOUNT_MISMATCH", "FAILED", "FAILED", "NOTIFICATION")
    # A mismatch binds nothing.
    told = replace(told, shown=replace(told.shown, payment_id=""))
    here = replace(row(state, 2, 0), payment_request_id="pay-2", payment_id=None, last_sequence=5)
    return after(
        elsewhere("forgotten"),
        also(payments=(here,), log=(refused, told)),
        changed(facts=[*good().facts, StoredFact(OTHER, "e-5", "pay-2", "P-2")], subscribers=[]),
        changed(notifications={**good().notifications, "n-5": OTHER}),
    )


def refused_at_once(state: str = "FAILED") -> Callable[[History], History]:
    """A payment of which Antom never made anything."""
    here = replace(row(state, 1, 0), payment_request_id="pay-3", payment_id=None, last_sequence=4)
    refused = event(4, "pay-3", 1, "SESSION_REFUSED", "CREATING", "FAILED", "API")
    return after(also(payments=(here,), log=(refused,)), changed(subscribers=[]))


def failed(state: str, *, submitted: bool) -> Callable[[History], History]:
    """A payment that failed at Antom."""
    kind = f"PAYMENT_{state}"
    source = "NOTIFICATION" if state == "FAILED" else "INQUIRY"
    told = ("PAYMENT", "P-1", state)
    session = good().log[0]
    return changed(
        log=[session, event(2, "pay-1", 2, kind, session.state, state, source)],
        facts=[fact(told, "e-2")],
        payments=[row(state, 2, 0)],
        antom=[replace(FAILED_AT_ANTOM, is_submitted=submitted)],
        notifications={"n-2": told},
        accepted=frozenset(),
        told=frozenset({told}),
        subscribers=[],
    )


def twice(*of: str) -> Callable[[History], History]:
    """Another merchant has the same: the id, the steps, and facts with ``of`` in their keys."""
    first = good()
    log = [
        replace(
            one,
            sequence=n,
            event_id=f"o-{n}",
            merchant_account="other",
            notification_id=f"n-{n}" if one.notification_id else "",
            shown=replace(one.shown, merchant_account="other"),
        )
        for n, one in enumerate(first.log, start=4)
    ]
    facts = [
        StoredFact((*key, *of), f"o-{n}", "pay-1", "P-1")
        for n, key in enumerate((PAYMENT, CAPTURE), start=5)
    ]
    stored = {f"n-{n}": one.key for n, one in enumerate(facts, start=5)}
    return after(
        also(
            log=tuple(log),
            facts=tuple(facts),
            payments=(replace(first.payments[0], merchant_account="other", last_sequence=6),),
            antom=(replace(first.antom[0], merchant_account="other"),),
            acknowledged=(Acknowledged("pay-1", 3, "other"),),
        ),
        changed(told=first.told | {one.key for one in facts}, subscribers=[]),
        changed(notifications={**first.notifications, **stored}),
    )


def cancelled(taken: int) -> Callable[[History], History]:
    """Antom cancelled what it had taken; here it was known that ``taken`` was."""
    last = event(3, "pay-1", 3, "PAYMENT_CANCELLED", "AUTHORIZED", "CANCELLED", "INQUIRY")
    last = replace(last, shown=replace(last.shown, captured_minor_units=taken))
    cancellation = ("PAYMENT", "P-1", "CANCELLED")
    return changed(
        log=[*good().log[:2], last],
        facts=[fact(PAYMENT, "e-2"), fact(cancellation, "e-3")],
        accepted=frozenset({PAYMENT}),
        payments=[row("CANCELLED", 3, taken)],
        antom=[replace(good().antom[0], status="CANCELLED")],
        subscribers=[],
    )
