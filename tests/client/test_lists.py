"""Lists as the client reads them, from the real server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from antom_payments.client import (
    PLAINTEXT,
    AfterCursor,
    CallFailed,
    CursorInvalid,
    InvalidRequest,
    NotFound,
    connect,
)
from antom_payments.fact import Outcome
from antom_payments.payment import PaymentState
from antom_payments.store import PaymentStore
from antom_payments.v1.payment_event_pb2 import PAYMENT_EVENT_TYPE_PAYMENT_CANCELLED, PaymentEvent
from antom_payments.v1.payment_pb2 import (
    PAYMENT_STATE_AUTHORIZED,
    PAYMENT_STATE_FAILED,
    PAYMENT_STATE_SUCCEEDED,
    Payment,
)
from antom_payments.v1.payment_pb2 import (
    PaymentState as State,
)
from antom_payments.v1.payment_service_pb2 import (
    PAYMENT_ORDER_UPDATE_TIME_ASC,
    ListPaymentsResponse,
    StreamPaymentEventsResponse,
)
from client.scripted import ScriptedService, say, scripted_server
from client.test_real_server import caller, following, ids
from facts import NOW
from grpc_api.test_lists import hourly
from grpc_api.world import serving
from listed import fill
from test_docs import README, blocks

HOUR = timedelta(hours=1)


async def test_payments_are_iterated_over_all_pages_each_time(store: PaymentStore) -> None:
    await fill(store, (hourly(n, PaymentState.FAILED) for n in range(7)))
    async with serving(store) as served, caller(served.server.port) as payments:
        found = payments.list_payments(states=[PAYMENT_STATE_FAILED], page_size=3)
        newest_first = [f"pay-{n:04}" for n in reversed(range(7))]
        for _ in range(2):
            assert [payment.payment_request_id async for payment in found] == newest_first
        sizes = [len(page.payments) async for page in found.pages()]
        assert sizes == [3, 3, 1]


async def test_a_list_goes_on_from_a_pages_token(store: PaymentStore) -> None:
    await fill(store, map(hourly, range(5)))
    async with serving(store) as served, caller(served.server.port) as payments:
        first = await anext(payments.list_payments(page_size=2).pages())
        rest = payments.list_payments(page_token=first.next_page_token)
        assert [payment.payment_request_id async for payment in rest] == [
            "pay-0002",
            "pay-0001",
            "pay-0000",
        ]


async def test_times_are_bounds_with_their_end_left_out(store: PaymentStore) -> None:
    await fill(store, map(hourly, range(5)))
    async with serving(store) as served, caller(served.server.port) as payments:
        created = payments.list_payments(created=(NOW + HOUR, NOW + 3 * HOUR))
        assert [payment.payment_request_id async for payment in created] == ["pay-0002", "pay-0001"]
        changed = payments.list_payments(
            changed=(NOW + 3 * HOUR, None), order=PAYMENT_ORDER_UPDATE_TIME_ASC
        )
        assert [payment.payment_request_id async for payment in changed] == ["pay-0003", "pay-0004"]
        with pytest.raises(ValueError, match="naive"):
            payments.list_payments(created=(datetime(2026, 3, 2), None))


async def test_what_was_listed_is_followed_without_a_gap(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        await served.news.about("order-1", "order-2")
        cursors = []
        async for page in payments.list_payments(page_size=1).pages():
            cursors.append(page.cursor)
            told = await served.news.about("order-1")
        assert len(set(cursors)) == 1
        async with following(payments, AfterCursor(cursors[0])) as follower:
            assert (await follower.take(2))[-1:] == ids(told)


async def test_events_are_listed_up_to_the_end_of_the_log_and_from_any_cursor(
    store: PaymentStore,
) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        told = await served.news.about(*(f"order-{n}" for n in range(5)))
        over = await served.news.payment_is(Outcome.CANCELLED, "order-1")
        found = payments.list_payment_events(page_size=2)
        assert [event.event_id async for event in found] == ids([*told, over])
        final = payments.list_payment_events(final_states_only=True)
        assert [event.event_id async for event in final] == [over.event_id]
        read = await payments.get_payment(payment_request_id="order-3")
        rest = payments.list_payment_events(
            page_token=read.cursor, event_types=[PAYMENT_EVENT_TYPE_PAYMENT_CANCELLED]
        )
        [page] = [page async for page in rest.pages()]
        assert [event.event_id for event in page.events] == [over.event_id]
        later = await served.news.about("order-9")
        async with following(payments, AfterCursor(page.cursor)) as follower:
            assert await follower.take(1) == ids(later)


async def test_refusals_of_lists_are_typed(store: PaymentStore) -> None:
    async with serving(store) as served, caller(served.server.port) as payments:
        for wrong in (
            payments.list_payments(page_token="garbage"),
            payments.list_payments(page_size=-1),
        ):
            with pytest.raises(InvalidRequest):
                await anext(wrong.pages())
        with pytest.raises(CursorInvalid):
            await anext(payments.list_payment_events(page_token="garbage").pages())
        with pytest.raises(NotFound):
            await anext(payments.list_payments(merchant_accounts=["rival"]).pages())


def shown(merchant: str, version: int, state: State.ValueType) -> Payment:
    return Payment(
        merchant_account=merchant, payment_request_id="pay-1", version=version, state=state
    )


async def test_the_example_of_the_readme_knows_what_is_authorized_and_nothing_else() -> None:
    """Two merchants may use one id; news that is older than the list changes nothing."""
    news = [
        shown("a", 2, PAYMENT_STATE_AUTHORIZED),
        shown("a", 4, PAYMENT_STATE_SUCCEEDED),
        shown("c", 1, PAYMENT_STATE_FAILED),
        shown("d", 2, PAYMENT_STATE_AUTHORIZED),
        shown("b", 2, PAYMENT_STATE_FAILED),
    ]
    events = [
        PaymentEvent(event_id=str(number), payment=payment) for number, payment in enumerate(news)
    ]
    listed = [shown(merchant, 3, PAYMENT_STATE_AUTHORIZED) for merchant in ("a", "b")]
    service = ScriptedService(
        answers=[ListPaymentsResponse(payments=listed, cursor="c")],
        streams=[say(StreamPaymentEventsResponse(events=events, cursor="d"))],
    )
    [code] = [code for code in blocks(README, "python") if "watch_what_is_authorized" in code]
    example: dict[str, Any] = {}
    exec(code, example)  # noqa: S102 our own page
    known: dict[tuple[str, str], Payment] = {}
    async with scripted_server(service) as server:
        example["connect"] = lambda _: connect(server.target, credentials=PLAINTEXT)
        with pytest.raises(CallFailed, match="the script is over"):
            await example["watch_what_is_authorized"](known)
    assert service.requests[1].after_cursor == "c"
    assert known == {("b", "pay-1"): listed[1], ("d", "pay-1"): news[3]}
