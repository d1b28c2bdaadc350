"""Payments in the order of their newest events: what a snapshot of the stream pages by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, Select, func, select, text

from antom_payments.payment import FINAL_STATES, Payment
from antom_payments.payment_event import EventFilter
from antom_payments.store.rows import payment_from_row
from antom_payments.store.tables import events, payments

WINDOW = 20_000
"""Sequences, hence rows at most, that one statement looks at: a filter that admits little must not
walk through all payments."""
_FINAL = sorted(state.value for state in FINAL_STATES)


@dataclass(frozen=True, slots=True)
class PaymentsPage:
    """Payments whose newest event lies in a stretch of the log, that a filter admits, in its order.

    All that lie up to `through` are in `payments`. `head` is the log's last sequence, with its
    event's id and time; 0 when the log is empty. `witness_event_id` is the id of the event that was
    asked for, empty when it is not kept, with its time. All were read in one statement.
    """

    payments: tuple[Payment, ...]
    through: int
    head: int
    head_event_id: str
    head_append_time: datetime | None
    witness_event_id: str
    witness_append_time: datetime | None


def payments_statement(
    after: int, witness: int, limit: int, event_filter: EventFilter, up_to: int | None
) -> Select[tuple[object, ...]]:
    """Payments and the log's head in one statement, hence of one snapshot of the database."""
    log = _log_statement(witness).subquery("log")
    place: ColumnElement[int] = payments.c.last_sequence
    if _is_looked_up(event_filter):
        # Not by the index of places: SQLite would walk through all of it for one payment.
        place = place + 0
        wanted = select(payments).where(place > after)
    else:
        wanted = select(payments).where(place > after, place <= after + WINDOW)
    if up_to is not None:
        wanted = wanted.where(place <= up_to)
    if event_filter.merchant_accounts is not None:
        merchants = sorted(event_filter.merchant_accounts)
        wanted = wanted.where(payments.c.merchant_account.in_(merchants))
    if event_filter.payment_request_ids is not None:
        ids = sorted(event_filter.payment_request_ids)
        wanted = wanted.where(payments.c.payment_request_id.in_(ids))
    if event_filter.final_states_only:
        wanted = wanted.where(payments.c.state.in_(_FINAL))
    page = wanted.order_by(place).limit(limit).subquery("page")
    return (
        select(log, page)
        .select_from(log.outerjoin(page, text("true")))
        .order_by(page.c.last_sequence)
    )


def _log_statement(witness: int) -> Select[tuple[object, ...]]:
    newest = events.c.sequence.desc()
    return select(
        select(func.max(events.c.sequence)).scalar_subquery().label("log_head"),
        select(events.c.event_id)
        .order_by(newest)
        .limit(1)
        .scalar_subquery()
        .label("head_event_id"),
        select(events.c.append_time)
        .order_by(newest)
        .limit(1)
        .scalar_subquery()
        .label("head_append_time"),
        select(events.c.event_id)
        .where(events.c.sequence == witness)
        .scalar_subquery()
        .label("witness_event_id"),
        select(events.c.append_time)
        .where(events.c.sequence == witness)
        .scalar_subquery()
        .label("witness_append_time"),
    )


def payments_page(
    rows: Sequence[RowMapping],
    after: int,
    limit: int,
    event_filter: EventFilter,
    up_to: int | None,
) -> PaymentsPage:
    """What the statement found."""
    found = tuple(payment_from_row(row) for row in rows if row["last_sequence"] is not None)
    log = rows[0]
    head = log["log_head"] or 0
    end = head if up_to is None else min(up_to, head)
    if len(found) == limit:
        through = found[-1].last_sequence
    elif _is_looked_up(event_filter):
        through = max(after, end)
    else:
        through = max(after, min(after + WINDOW, end))
    return PaymentsPage(
        found,
        through,
        head,
        log["head_event_id"] or "",
        log["head_append_time"],
        log["witness_event_id"] or "",
        log["witness_append_time"],
    )


def _is_looked_up(event_filter: EventFilter) -> bool:
    """Whether the filter names the rows by their key, so that nothing else is looked at."""
    named = (event_filter.merchant_accounts, event_filter.payment_request_ids)
    return None not in named
