"""Lists of payments, page by page: each page begins after a payment's place, never at a number.

A list of one merchant, in one state or in any, is a stretch of one index. A list of several is
merged from the beginnings of theirs, so that nobody's payments are read to be passed over, however
many others there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, and_, literal, select, tuple_, union_all

from antom_payments.payment import Payment, PaymentState
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, Place, TimeRange
from antom_payments.store.database import Database
from antom_payments.store.rows import payment_from_row
from antom_payments.store.tables import payments

_MOST_STRETCHES = 100
"""SQLite merges at most 500. Beyond this, states are looked for in their merchants' stretches."""
_KEY = (payments.c.merchant_account, payments.c.payment_request_id)
_RANK = "merchant_rank"


class PaymentListing:
    """Reads payments in order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: PaymentFilter, order: PaymentOrder, *, after: Place | None, limit: int
    ) -> list[Payment]:
        """At most ``limit`` payments that ``wanted`` admits, in order, after a place or the first.

        Of the merchants that ``wanted`` names, and of no others. Raises StoreUnavailable.
        """
        if not wanted.merchant_accounts:
            return []
        statement = page_statement(wanted, order, after=after, limit=limit)
        result = await self._database.read(lambda connection: connection.execute(statement))
        return [payment_from_row(row) for row in result.mappings()]


def page_statement(
    wanted: PaymentFilter, order: PaymentOrder, *, after: Place | None, limit: int
) -> Select[*tuple[Any, ...]]:
    """The page, as one statement: of one moment."""
    newest_first = order is PaymentOrder.CREATE_TIME_DESC
    # By code points: databases sort texts each in its own way.
    merchants = sorted(wanted.merchant_accounts, reverse=newest_first)
    alternatives = list(_alternatives(wanted))
    is_one = len(merchants) * len(alternatives) == 1
    time = payments.c[_time_of(order)]
    conditions = _conditions(wanted)
    stretches = [
        select(*(payments.c if is_one else (*_KEY, time, literal(rank).label(_RANK))))
        .where(
            payments.c.merchant_account == merchant,
            *conditions,
            *_in_states(states),
            *_behind(after, merchant, order),
        )
        .order_by(*_directed(order, time, payments.c.payment_request_id))
        .limit(limit)
        for rank, merchant in enumerate(merchants)
        for states in alternatives
    ]
    return stretches[0] if is_one else _merged(stretches, order, limit)


def _merged(
    stretches: Sequence[Select[*tuple[Any, ...]]], order: PaymentOrder, limit: int
) -> Select[*tuple[Any, ...]]:
    """The payments of the first of several stretches' keys.

    Of keys alone: a statement of every column a hundred times takes longer to put together than to
    run.
    """
    keys = union_all(*(select(stretch.subquery()) for stretch in stretches)).subquery("keys")
    time, payment_request_id = _directed(order, keys.c[_time_of(order)], keys.c.payment_request_id)
    first = select(keys).order_by(time, keys.c[_RANK], payment_request_id).limit(limit)
    page = first.subquery("page")
    time, payment_request_id = _directed(order, page.c[_time_of(order)], page.c.payment_request_id)
    return (
        select(payments)
        .join(page, and_(*(column == page.c[column.name] for column in _KEY)))
        .order_by(time, page.c[_RANK], payment_request_id)
    )


def _time_of(order: PaymentOrder) -> str:
    return "create_time" if order is PaymentOrder.CREATE_TIME_DESC else "update_time"


def _directed(order: PaymentOrder, *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    if order is PaymentOrder.CREATE_TIME_DESC:
        return [column.desc() for column in columns]
    return [column.asc() for column in columns]


def _alternatives(wanted: PaymentFilter) -> Iterator[frozenset[PaymentState]]:
    """The states of each of a merchant's stretches: one by one while the stretches are few."""
    if not wanted.states or len(wanted.merchant_accounts) * len(wanted.states) > _MOST_STRETCHES:
        yield wanted.states
    else:
        yield from (frozenset({state}) for state in sorted(wanted.states))


def _in_states(states: frozenset[PaymentState]) -> Iterator[ColumnElement[bool]]:
    if len(states) == 1:
        # Part of the statement: which index is best depends on how rare the state is.
        state = next(iter(states)).value
        yield payments.c.state == literal(state, payments.c.state.type, literal_execute=True)
    elif states:
        yield payments.c.state.in_(sorted(state.value for state in states))


def _conditions(wanted: PaymentFilter) -> list[ColumnElement[bool]]:
    """What holds in every stretch."""
    found = [
        *_within(payments.c.create_time, wanted.create_time),
        *_within(payments.c.update_time, wanted.update_time),
    ]
    if wanted.reference_order_id:
        found.append(payments.c.reference_order_id == wanted.reference_order_id)
    return found


def _within(column: Column[Any], span: TimeRange) -> Iterator[ColumnElement[bool]]:
    if span.start is not None:
        yield column >= span.start
    if span.end is not None:
        yield column < span.end


def _behind(
    after: Place | None, merchant: str, order: PaymentOrder
) -> Iterator[ColumnElement[bool]]:
    """Behind a place that may be of another merchant, in the order of the merged list."""
    if after is None:
        return
    time = payments.c[_time_of(order)]
    newest_first = order is PaymentOrder.CREATE_TIME_DESC
    if merchant == after.merchant_account:
        key = tuple_(time, payments.c.payment_request_id)
        place = tuple_(
            literal(after.time, time.type),
            literal(after.payment_request_id, payments.c.payment_request_id.type),
        )
        # The time alone as well: not every planner takes it from the pair.
        yield and_(
            time <= after.time if newest_first else time >= after.time,
            key < place if newest_first else key > place,
        )
    elif (merchant < after.merchant_account) == newest_first:
        # Those of the very same time are still to come.
        yield time <= after.time if newest_first else time >= after.time
    else:
        yield time < after.time if newest_first else time > after.time
