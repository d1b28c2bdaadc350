"""ListPayments and ListPaymentEvents from a caller's socket to the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from antom_payments.event_stream import pages
from antom_payments.fact import Outcome
from antom_payments.payment import Payment, PaymentState
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_event_pb2, payment_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from clock import FrozenClock
from dumps import dump, restore
from event_stream.news import AMOUNT
from event_stream.test_restored_database import settled
from facts import NOW
from grpc_api.test_retention import after, prune_all
from grpc_api.world import Served, refusal_of, serving
from listed import change, fill, numbered_payment
from stored import all_payments

SERVER_SENDS_AT_MOST = 1024 * 1024
FAILED, SUCCEEDED = payment_pb2.PAYMENT_STATE_FAILED, payment_pb2.PAYMENT_STATE_SUCCEEDED
BY_UPDATE = pb.PAYMENT_ORDER_UPDATE_TIME_ASC
LARGE = {f"key-{n}": "é" * 512 for n in range(20)}
"""As much metadata as a payment may have: 20 KiB."""


def hourly(number: int, state: PaymentState = PaymentState.SUCCEEDED, **more: Any) -> Payment:
    """One each hour, the first at NOW."""
    time = NOW + timedelta(hours=number)
    return numbered_payment(number, state, **{"create_time": time, "update_time": time} | more)


def span(start: int | None = None, end: int | None = None) -> pb.TimeRange:
    """Between two of those hours."""
    found = pb.TimeRange()
    if start is not None:
        found.start_time.FromDatetime(NOW + timedelta(hours=start))
    if end is not None:
        found.end_time.FromDatetime(NOW + timedelta(hours=end))
    return found


async def payment_pages(served: Served, **asked: Any) -> AsyncIterator[pb.ListPaymentsResponse]:
    token = ""
    while True:
        request = pb.ListPaymentsRequest(**asked, page_token=token)
        page = await served.stub.ListPayments(request)
        yield page
        token = page.next_page_token
        if not token:
            return


async def event_pages(
    served: Served, token: str = "", **asked: Any
) -> AsyncIterator[pb.ListPaymentEventsResponse]:
    while True:
        request = pb.ListPaymentEventsRequest(**asked, page_token=token)
        page = await served.stub.ListPaymentEvents(request)
        yield page
        token = page.next_page_token
        if not token:
            return


async def numbers(served: Served, **asked: Any) -> list[int]:
    """Which of the numbered payments a list has, in its order."""
    return [
        int(payment.payment_request_id.removeprefix("pay-"))
        async for page in payment_pages(served, **asked)
        for payment in page.payments
    ]


async def event_ids(served: Served, **asked: Any) -> list[str]:
    return [event.event_id async for page in event_pages(served, **asked) for event in page.events]


# Payments


async def test_payments_come_newest_first_as_get_payment_tells_them(store: PaymentStore) -> None:
    await fill(store, map(hourly, range(3)))
    async with serving(store) as served:
        page = await served.stub.ListPayments(pb.ListPaymentsRequest())
        one = await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="pay-0002"))
    assert [payment.payment_request_id for payment in page.payments] == [
        "pay-0002",
        "pay-0001",
        "pay-0000",
    ]
    assert page.payments[0] == one.payment
    assert page.next_page_token == ""


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"states": [FAILED]}, [4, 2, 0]),
        ({"states": [FAILED, SUCCEEDED]}, [5, 4, 3, 2, 1, 0]),
        ({"reference_order_id": "order-0003"}, [3]),
        ({"reference_order_id": "order-9999"}, []),
        ({"create_time": span(1, 4)}, [3, 2, 1]),
        ({"create_time": span(start=4)}, [5, 4]),
        ({"create_time": span(2, 2)}, []),
        ({"update_time": span(end=2)}, [1, 0]),
        ({"update_time": span(2, 5), "states": [SUCCEEDED]}, [3]),
        ({"order": BY_UPDATE, "update_time": span(2, 5)}, [2, 3, 4]),
        ({"merchant_accounts": ["default"], "create_time": span(end=1)}, [0]),
    ],
    ids=[
        *("state", "states", "order", "no-order", "created", "created-since", "created-never"),
        *("changed-before", "changed-in-state", "by-change", "merchant"),
    ],
)
async def test_filters_narrow_a_list_and_ranges_leave_their_end_out(
    store: PaymentStore, asked: dict[str, Any], found: list[int]
) -> None:
    states = [PaymentState.FAILED, PaymentState.SUCCEEDED] * 3
    await fill(store, (hourly(n, state) for n, state in enumerate(states)))
    async with serving(store) as served:
        for size in (0, 2):
            assert await numbers(served, **asked, page_size=size) == found


async def test_pages_have_fifty_payments_unless_asked_and_at_most_two_hundred(
    store: PaymentStore,
) -> None:
    await fill(store, map(hourly, range(201)))
    async with serving(store) as served:
        for asked, counts in ((0, [50, 50, 50, 50, 1]), (1_000, [200, 1]), (201, [200, 1])):
            sizes = [len(p.payments) async for p in payment_pages(served, page_size=asked)]
            assert sizes == counts
        assert await numbers(served, page_size=67) == list(range(200, -1, -1))


async def test_a_page_of_large_payments_is_shorter_and_fits_into_a_message(
    store: PaymentStore,
) -> None:
    await fill(store, (hourly(n, metadata=LARGE) for n in range(60)))
    async with serving(store) as served:
        found = [page async for page in payment_pages(served, page_size=200)]
    assert max(page.ByteSize() for page in found) <= SERVER_SENDS_AT_MOST // 2
    assert len(found) > 2
    listed = [payment.payment_request_id for page in found for payment in page.payments]
    assert listed == [f"pay-{n:04}" for n in reversed(range(60))]


async def test_payments_of_others_are_neither_listed_nor_told_apart_from_none(
    store: PaymentStore,
) -> None:
    await fill(
        store, [hourly(0), hourly(1, merchant_account="books"), hourly(2, merchant_account="rival")]
    )
    async with serving(store, merchants=("default", "books")) as served:
        assert await numbers(served) == [1, 0]
        assert await numbers(served, merchant_accounts=["books"]) == [1]
        for name in ("rival", "nobody"):
            for call in (
                served.stub.ListPayments(pb.ListPaymentsRequest(merchant_accounts=[name])),
                served.stub.ListPaymentEvents(
                    pb.ListPaymentEventsRequest(merchant_accounts=["books", name])
                ),
            ):
                refusal = await refusal_of(call)
                assert refusal.code is grpc.StatusCode.NOT_FOUND
                assert refusal.reason == "MERCHANT_NOT_FOUND"


async def test_a_payment_that_changes_meanwhile_is_not_doubled_newest_first(
    store: PaymentStore,
) -> None:
    await fill(store, map(hourly, range(4)))
    async with serving(store) as served:
        found = payment_pages(served, page_size=2, states=[SUCCEEDED])
        first = await anext(found)
        for number in (1, 2, 3):
            await change(store, f"pay-000{number}", state=PaymentState.CANCELLED.value)
        second = await anext(found)
    assert [payment.payment_request_id for payment in first.payments] == ["pay-0003", "pay-0002"]
    # As they are when their page is read: pay-0001 matches no more.
    assert [payment.payment_request_id for payment in second.payments] == ["pay-0000"]


async def test_a_payment_that_changes_meanwhile_moves_to_the_end_of_a_list_by_change(
    store: PaymentStore,
) -> None:
    await fill(store, map(hourly, range(4)))
    async with serving(store) as served:
        found = payment_pages(served, page_size=2, order=BY_UPDATE)
        listed = list((await anext(found)).payments)
        await change(store, "pay-0000", update_time=hourly(9).update_time)
        await change(store, "pay-0002", update_time=hourly(9).update_time)
        async for page in found:
            listed += page.payments
    ids = [payment.payment_request_id for payment in listed]
    assert ids == ["pay-0000", "pay-0001", "pay-0003", "pay-0000", "pay-0002"]


# Following what was listed


async def test_a_list_and_then_the_stream_miss_nothing_of_what_writers_do_meanwhile(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        await served.news.about(*(f"old-{n}" for n in range(8)))
        listing_began = asyncio.Event()

        async def write(name: str) -> None:
            for number in range(10):
                await served.news.about(f"{name}-{number}", f"old-{number % 8}")
                await listing_began.wait()
                await served.news.payment_is(Outcome.CANCELLED, f"{name}-{number}")

        writing = asyncio.gather(*(write(name) for name in ("a", "b", "c")))
        known: dict[str, tuple[int, int]] = {}
        cursors = set()
        async for page in payment_pages(served, page_size=3):
            listing_began.set()
            cursors.add(page.cursor)
            for payment in page.payments:
                known[payment.payment_request_id] = (payment.version, payment.state)
        await writing
        [cursor] = cursors
        following = served.follow(after(cursor))
        newest = await store.log.newest()
        while not newest or newest.event_id not in {event.event_id for event in following.events}:
            await following.read()
        for event in following.events:
            version, state = event.payment_version, event.payment.state
            held = known.get(event.payment_request_id, (0, 0))
            known[event.payment_request_id] = max(held, (version, state))
        stored = {
            payment.payment_request_id: (
                payment.version,
                payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{payment.state}"),
            )
            for payment in await all_payments(store)
        }
        assert known == stored
        assert len(stored) == 8 + 30


async def test_the_cursor_of_a_list_is_where_the_log_ended_before_its_first_page(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        empty = await served.stub.ListPayments(pb.ListPaymentsRequest())
        first = await served.news.about("order-1")
        listed = await served.stub.ListPayments(pb.ListPaymentsRequest())
        second = await served.news.about("order-2")
        for cursor, events in ((empty.cursor, first + second), (listed.cursor, second)):
            following = await served.follow(after(cursor)).until_events(len(events))
            told = [event.event_id for event in following.events]
            assert told == [event.event_id for event in events]
            page = await served.stub.ListPaymentEvents(
                pb.ListPaymentEventsRequest(page_token=cursor)
            )
            assert list(page.events) == following.events


# Events


async def test_events_come_in_log_order_and_the_end_is_told(store: PaymentStore) -> None:
    async with serving(store) as served:
        told = await served.news.about(*(f"order-{n}" for n in range(7)))
        for size in (1, 3, 7, 200):
            found = [page async for page in event_pages(served, page_size=size)]
            listed = [event.event_id for page in found for event in page.events]
            assert listed == [event.event_id for event in told]
            assert [len(page.events) for page in found[:-1]] == [size] * (len(found) - 1)
        end = await served.stub.ListPaymentEvents(
            pb.ListPaymentEventsRequest(page_token=found[-1].cursor)
        )
        assert (list(end.events), end.next_page_token) == ([], "")
        assert end.cursor == found[-1].cursor


async def test_tokens_of_lists_and_cursors_of_streams_are_the_same_thing(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        told = [event.event_id for event in await served.news.about(*map(str, range(6)))]
        page = await served.stub.ListPaymentEvents(pb.ListPaymentEventsRequest(page_size=2))
        following = await served.follow(after(page.next_page_token)).until_events(4)
        assert [event.event_id for event in following.events] == told[2:]
        marker = await served.follow().until_marker("caught_up")
        await served.news.about("later")
        [later] = await event_ids(served, token=marker.cursor)
        assert later not in told
        read = await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="0"))
        assert await event_ids(served, token=read.cursor) == [*told[1:], later]


async def test_filters_of_events_are_the_streams(store: PaymentStore) -> None:
    async with serving(store, merchants=("default", "books")) as served:
        await served.news.about("order-1", "order-2")
        await served.news.about("order-1", merchant_account="books")
        await served.news.payment_is(Outcome.CANCELLED, "order-2")
        for filters in (
            {"merchant_accounts": ["books"]},
            {"payment_request_ids": ["order-1"]},
            {"event_types": [payment_event_pb2.PAYMENT_EVENT_TYPE_PAYMENT_CANCELLED]},
            {"final_states_only": True},
        ):
            request = pb.StreamPaymentEventsRequest(**filters)
            request.earliest.SetInParent()
            following = served.follow(request)
            await following.until_marker("caught_up")
            streamed = [event.event_id for event in following.events]
            assert streamed
            for size in (1, 50):
                assert await event_ids(served, page_size=size, **filters) == streamed


async def test_a_filtered_page_of_a_long_log_is_short_and_says_where_to_go_on(
    store: PaymentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_KEYED_WINDOW", 5)
    async with serving(store) as served:
        await served.news.about(*(f"order-{n}" for n in range(60)))
        [rare] = await served.news.about("rare")
        found = [page async for page in event_pages(served, payment_request_ids=["rare"])]
    listed = [[event.event_id for event in page.events] for page in found]
    assert listed == [[], [], [], [rare.event_id]]
    # Each looked at four stretches of five, and ended at a place of its own.
    assert len({page.cursor for page in found}) == 4
    assert [page.next_page_token for page in found] == [page.cursor for page in found[:3]] + [""]


async def test_a_page_of_large_events_is_shorter_and_fits_into_a_message(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        of_news = {"amount": AMOUNT, "metadata": LARGE}
        await fill(
            store,
            (
                hourly(n, PaymentState.CREATING, reference_order_id=f"order-pay-{n:04}", **of_news)
                for n in range(60)
            ),
        )
        told = await served.news.about(*(f"pay-{n:04}" for n in range(60)))
        found = [page async for page in event_pages(served, page_size=200)]
    assert max(page.ByteSize() for page in found) <= SERVER_SENDS_AT_MOST // 2
    assert len(found) > 2
    listed = [event.event_id for page in found for event in page.events]
    assert listed == [event.event_id for event in told]


# Refusals


async def test_a_token_is_good_for_its_own_list_only(store: PaymentStore) -> None:
    await fill(store, map(hourly, range(3)))
    asked = {"states": [SUCCEEDED], "create_time": span(0, 9), "page_size": 1}
    others: list[dict[str, Any]] = [
        {"merchant_accounts": ["default"]},
        {"states": [SUCCEEDED, FAILED]},
        {"reference_order_id": "order-0001"},
        {"create_time": span(0, 8)},
        {"update_time": span(0, 9)},
        {"order": BY_UPDATE},
    ]
    async with serving(store) as served:
        await served.news.about("order-1")
        page = await served.stub.ListPayments(pb.ListPaymentsRequest(**asked))
        token = page.next_page_token
        for other in others:
            request = pb.ListPaymentsRequest(**asked | other, page_token=token)
            refusal = await refusal_of(served.stub.ListPayments(request))
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, other
            assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["page_token"])
        longer = pb.ListPaymentsRequest(**asked | {"page_size": 5}, page_token=token)
        rest = await served.stub.ListPayments(longer)
        assert [one.payment_request_id for one in rest.payments] == ["pay-0001", "pay-0000"]


async def test_tampered_tokens_and_those_of_another_call_are_refused(store: PaymentStore) -> None:
    await fill(store, map(hourly, range(2)))
    async with serving(store) as served:
        await served.news.about("order-1", "order-2")
        listed = await served.stub.ListPayments(pb.ListPaymentsRequest(page_size=1))
        events = await served.stub.ListPaymentEvents(pb.ListPaymentEventsRequest(page_size=1))
        token, cursor = listed.next_page_token, events.next_page_token
        for wrong in (cursor, listed.cursor, swapped(token), token[:-1], token + "="):
            request = pb.ListPaymentsRequest(page_size=1, page_token=wrong)
            refusal = await refusal_of(served.stub.ListPayments(request))
            assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["page_token"])
        for wrong in (token, swapped(cursor), cursor[:-1]):
            for call in (
                served.stub.ListPaymentEvents(pb.ListPaymentEventsRequest(page_token=wrong)),
                served.follow(after(wrong)).read(),
            ):
                refusal = await refusal_of(call)
                assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
                assert refusal.reason == "CURSOR_INVALID"


def swapped(token: str) -> str:
    """The token with one character changed in its middle."""
    middle = len(token) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


async def test_tokens_that_are_older_than_the_log_say_where_it_begins(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await fill(store, map(hourly, range(2)))
    async with serving(store) as served:
        await served.news.about("order-1", "order-2")
        listed = await served.stub.ListPayments(pb.ListPaymentsRequest(page_size=1))
        events = await served.stub.ListPaymentEvents(pb.ListPaymentEventsRequest(page_size=1))
        [_, newest] = await served.news.about("order-1", "order-2")
        await prune_all(store, clock)
    async with serving(store) as served:
        for call in (
            served.stub.ListPayments(
                pb.ListPaymentsRequest(page_size=1, page_token=listed.next_page_token)
            ),
            served.stub.ListPaymentEvents(
                pb.ListPaymentEventsRequest(page_token=events.next_page_token)
            ),
        ):
            refusal = await refusal_of(call)
            assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
            assert refusal.reason == "CURSOR_EXPIRED"
            oldest = refusal.info.metadata["oldest_cursor"]
            assert await event_ids(served, token=oldest) == [newest.event_id]
        assert await event_ids(served) == [newest.event_id], "empty is the oldest event kept"


@pytest.mark.parametrize("grown", [0, 3])
async def test_tokens_of_a_future_that_a_restore_took_back_are_refused(
    database_url: str, store: PaymentStore, tmp_path: Path, grown: int
) -> None:
    await fill(store, map(hourly, range(2)))
    async with serving(store) as served:
        await served.news.about("order-1")
        await dump(database_url, tmp_path / "dump")
        await served.news.about("order-2", "order-3")
        listed = await served.stub.ListPayments(pb.ListPaymentsRequest(page_size=1))
        events = await served.stub.ListPaymentEvents(pb.ListPaymentEventsRequest())
    await restore(database_url, tmp_path / "dump")
    async with serving(store) as served:
        for number in range(grown):
            await settled(served.news, f"other-{number}")
        for call in (
            served.stub.ListPayments(
                pb.ListPaymentsRequest(page_size=1, page_token=listed.next_page_token)
            ),
            served.stub.ListPaymentEvents(pb.ListPaymentEventsRequest(page_token=events.cursor)),
        ):
            refusal = await refusal_of(call)
            assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
            assert refusal.reason == "LOG_REWOUND"
