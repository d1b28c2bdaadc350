"""Lists of payments: whatever is asked for, in whichever pages, while others are created."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antom_payments.antom import AntomClient
from antom_payments.caller import EVERYONE, Caller
from antom_payments.event_stream import EventStream
from antom_payments.listing import Listing, PaymentListRequest
from antom_payments.payment import Payment, PaymentState
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, TimeRange, place_of
from antom_payments.service import Merchant, PaymentService
from antom_payments.store import PaymentStore
from clock import FrozenClock
from event_stream.watching import running
from facts import NOW
from grpc_api.world import POLICY
from listed import fill, numbered_payment

MERCHANTS = ("books", "music", "Tea")
ORDERS = ("order-1", "order-2")
HOURS = 5
PAYMENT_BYTES = 1_000

_examples = itertools.count()


@dataclass(frozen=True)
class Row:
    """A payment to be; few times, so that many are of the same."""

    merchant: str
    state: PaymentState
    order: str
    created: int
    changed_after: int


rows_of_payments = st.lists(
    st.builds(
        Row,
        st.sampled_from(MERCHANTS),
        st.sampled_from([PaymentState.CREATING, PaymentState.FAILED, PaymentState.SUCCEEDED]),
        st.sampled_from(ORDERS),
        st.integers(0, HOURS),
        st.integers(0, 2),
    ),
    min_size=8,
    max_size=25,
)
more_rows = st.lists(rows_of_payments.map(lambda rows: rows[:3]), max_size=3)
bounds = st.none() | st.integers(0, HOURS).map(lambda hour: NOW + timedelta(hours=hour))
# Mostly none: what is filtered away leaves no pages.
ranges = st.sampled_from([False, False, True]).flatmap(
    lambda some: st.builds(TimeRange, bounds, bounds) if some else st.just(TimeRange())
)
filters = st.builds(
    PaymentFilter,
    merchant_accounts=st.frozensets(st.sampled_from(MERCHANTS)),
    states=st.frozensets(st.sampled_from([PaymentState.FAILED, PaymentState.SUCCEEDED])),
    reference_order_id=st.sampled_from(["", "", "", *ORDERS]),
    create_time=ranges,
    update_time=ranges,
)


class Shop:
    """The merchants of one example, and the lists of their payments."""

    def __init__(self, store: PaymentStore, stream: EventStream, clock: FrozenClock) -> None:
        self._names = {name: f"{name}-{next(_examples)}" for name in MERCHANTS}
        self._store = store
        self._numbers = itertools.count()
        antom: AntomClient | None = None  # nothing is asked of it
        merchants = {
            name: Merchant(name, antom, POLICY)  # type: ignore[arg-type]
            for name in self._names.values()
        }
        service = PaymentService(store, merchants, now=clock.now)
        self.listing = Listing(
            service, stream, convert=lambda payment: payment, weigh=lambda _: PAYMENT_BYTES
        )

    async def take(self, rows: Sequence[Row]) -> list[Payment]:
        """Payments as told by ``rows``."""
        made = [self._payment(row) for row in rows]
        if made:
            await fill(self._store, made)
        return made

    async def pages(
        self,
        wanted: PaymentFilter,
        order: PaymentOrder = PaymentOrder.CREATE_TIME_DESC,
        *,
        page_size: int = 10,
    ) -> AsyncIterator[Sequence[Payment]]:
        token = ""
        named = frozenset(self._names[one] for one in wanted.merchant_accounts)
        asked = replace(wanted, merchant_accounts=named)
        while True:
            request = PaymentListRequest(asked, order, page_size, token, bytes(16))
            page = await self.listing.page(EVERYONE, request)
            yield page.payments
            token = page.next_page_token
            if not token:
                return

    def expected(
        self, wanted: PaymentFilter, order: PaymentOrder, found: Sequence[Payment]
    ) -> list[Payment]:
        """What a list of ``found`` has, by the contract's words."""
        newest_first = order is PaymentOrder.CREATE_TIME_DESC

        def key(payment: Payment) -> tuple[Any, ...]:
            place = place_of(payment, order)
            return (place.time, place.merchant_account, place.payment_request_id)

        mine = frozenset(self._names[one] for one in wanted.merchant_accounts or MERCHANTS)
        return sorted(
            (
                payment
                for payment in found
                if payment.merchant_account in mine
                and (not wanted.states or payment.state in wanted.states)
                and wanted.reference_order_id in {"", payment.reference_order_id}
                and within(payment.create_time, wanted.create_time)
                and within(payment.update_time, wanted.update_time)
            ),
            key=key,
            reverse=newest_first,
        )

    def _payment(self, row: Row) -> Payment:
        created = NOW + timedelta(hours=row.created)
        return numbered_payment(
            next(self._numbers),
            row.state,
            merchant_account=self._names[row.merchant],
            reference_order_id=row.order,
            create_time=created,
            update_time=created + timedelta(hours=row.changed_after),
        )


def within(time: Any, span: TimeRange) -> bool:
    return (span.start is None or span.start <= time) and (span.end is None or time < span.end)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=rows_of_payments,
    meanwhile=more_rows,
    wanted=filters,
    order=st.sampled_from(sorted(PaymentOrder)),
    page_size=st.integers(1, 4),
)
async def test_pages_together_are_the_filtered_payments_in_order_whatever_is_created_meanwhile(
    store: PaymentStore,
    clock: FrozenClock,
    *,
    before: list[Row],
    meanwhile: list[list[Row]],
    wanted: PaymentFilter,
    order: PaymentOrder,
    page_size: int,
) -> None:
    async with running(store.log) as stream:
        shop = Shop(store, stream, clock)
        known = await shop.take(before)
        everything, listed = list(known), list[Payment]()
        async for page in shop.pages(wanted, order, page_size=page_size):
            assert len(page) <= page_size
            listed += page
            everything += await shop.take(meanwhile.pop() if meanwhile else [])
    assert listed == shop.expected(wanted, order, listed), "in order, and admitted"
    assert len({(one.merchant_account, one.payment_request_id) for one in listed}) == len(listed)
    of_before = [payment for payment in listed if payment in known]
    assert of_before == shop.expected(wanted, order, known), "none skipped"
    assert all(payment in everything for payment in listed)


async def test_a_list_of_many_merchants_and_states_is_read_in_one_statement(
    store: PaymentStore,
) -> None:
    """More stretches than a database merges."""
    many = frozenset(f"merchant-{n:03}" for n in range(100))
    payments = [
        numbered_payment(n, merchant_account=name, create_time=NOW + timedelta(seconds=n))
        for n, name in enumerate(sorted(many))
    ]
    await fill(store, payments)
    for states in (frozenset[PaymentState](), frozenset(PaymentState)):
        wanted = PaymentFilter(merchant_accounts=many, states=states)
        page = await store.listing.page(
            wanted, PaymentOrder.CREATE_TIME_DESC, after=None, limit=200
        )
        assert page == payments[::-1]


@pytest.mark.parametrize(
    ("mine", "listed"),
    [(None, {"books", "music", "Tea"}), ({"books"}, {"books"}), (set(), set())],
    ids=["all", "one", "none"],
)
async def test_a_caller_gets_payments_of_its_own_merchants_only(
    store: PaymentStore, clock: FrozenClock, mine: set[str] | None, listed: set[str]
) -> None:
    antom: AntomClient | None = None  # nothing is asked of it
    merchants = {
        name: Merchant(name, antom, POLICY)  # type: ignore[arg-type]
        for name in MERCHANTS
    }
    service = PaymentService(store, merchants, now=clock.now)
    await fill(
        store, (numbered_payment(n, merchant_account=name) for n, name in enumerate(MERCHANTS))
    )
    caller = Caller("shop", None if mine is None else frozenset(mine))
    found = await service.list_payments(
        caller, PaymentFilter(), PaymentOrder.CREATE_TIME_DESC, after=None, limit=10
    )
    assert {payment.merchant_account for payment in found} == listed


class Crowded(PaymentService):
    """Knows how many lists it read at once; the first waits until another is read beside it."""

    reading = most_at_once = 0

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self._two = asyncio.Event()

    async def list_payments(self, *words: Any, **more: Any) -> list[Payment]:
        self.reading += 1
        self.most_at_once = max(self.most_at_once, self.reading)
        if self.reading > 1:
            self._two.set()
        await self._two.wait()
        try:
            return await super().list_payments(*words, **more)
        finally:
            self.reading -= 1


async def test_lists_take_turns_and_give_way_and_convert_each_payment_once(
    store: PaymentStore, clock: FrozenClock
) -> None:
    antom: AntomClient | None = None  # nothing is asked of it
    merchant = Merchant("default", antom, POLICY)  # type: ignore[arg-type]
    service = Crowded(store, {"default": merchant}, now=clock.now)
    await fill(store, [numbered_payment(n) for n in range(200)])
    converted: list[Payment] = []
    seen = [0]

    def convert(payment: Payment) -> Payment:
        converted.append(payment)
        return payment

    async def look() -> None:
        while True:
            seen.append(len(converted))
            await asyncio.sleep(0)

    request = PaymentListRequest(PaymentFilter(), PaymentOrder.CREATE_TIME_DESC, 200, "", bytes(16))
    async with running(store.log) as stream:
        listing = Listing(service, stream, convert=convert, weigh=lambda _: 1)
        looking = asyncio.create_task(look())
        pages = await asyncio.gather(*(listing.page(EVERYONE, request) for _ in range(6)))
        looking.cancel()
    assert [len(page.payments) for page in pages] == [200] * 6
    assert len(converted) == 6 * 200
    assert service.most_at_once == 2
    # Two pages may each convert a portion in one turn of the loop.
    assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 2 * 64
