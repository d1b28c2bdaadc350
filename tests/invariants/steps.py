"""I3: payments take legal steps, one after the other, and their rows are where the steps end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from antom_payments.payment import STEPS, EventType, PaymentState
from invariants.records import History, LoggedEvent, PaymentKey, Shown, StoredPayment

_KEEPS_THE_STATE = {EventType.AMOUNT_MISMATCH, EventType.CONTRADICTION}


def payments_take_legal_steps(history: History) -> Iterator[str]:
    """I3: the log is dense, each step is one that the table allows, and rows are its end."""
    for before, after in pairwise(event.sequence for event in history.log):
        if after != before + 1:
            yield f"the log goes from {before} to {after}"
    newest: dict[PaymentKey, LoggedEvent] = {}
    for event in history.log:
        yield from wrong_step(event, newest.get(event.key))
        newest[event.key] = event
    for row in history.payments:
        yield from _wrong_row(row, newest.get(row.key))


def _wrong_row(row: StoredPayment, last: LoggedEvent | None) -> Iterator[str]:
    """Where a row is not what its newest event says."""
    state, version, sequence = PaymentState.CREATING.value, 0, 0
    if last:
        state, version, sequence = last.state, last.version, last.sequence
    if (row.state, row.version) != (state, version):
        yield f"{row.payment_request_id} is {row.state} {row.version}, its events say {state}"
    if row.last_sequence != sequence:
        yield f"{row.payment_request_id} ends at {row.last_sequence}, not at {sequence}"
    money = (row.payment_id or "", row.currency_code, row.minor_units, row.captured_minor_units)
    shown = last.shown if last else Shown(row.payment_request_id, 0, state, *money[:3], 0)
    told = (
        *(shown.payment_id, shown.currency_code),
        *(shown.minor_units, shown.captured_minor_units),
    )
    if money != told:
        yield f"{row.payment_request_id} has {money}, its events say {told}"


def wrong_step(event: LoggedEvent, before: LoggedEvent | None) -> Iterator[str]:
    """What is wrong with ``event`` after the one before it of the same payment, if any was."""
    state, version = (before.state, before.version) if before else (PaymentState.CREATING, 0)
    if event.version != version + 1:
        yield f"{event} comes after version {version}"
    if event.state_before != state:
        yield f"{event} begins at {event.state_before}, the payment was {state}"
    shown = event.shown
    if (shown.key, shown.version, shown.state) != (event.key, event.version, event.state):
        yield f"{event} holds {shown}"
    if not _is_legal(event):
        yield f"{event} is no legal step from {event.state_before} to {event.state}"


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
