"""What callers see of retention: answers that still work, and OUT_OF_RANGE on the wire."""

from __future__ import annotations

from datetime import timedelta

import grpc

from antom_payments.antom import AntomClient
from antom_payments.store import PaymentStore, Windows
from antom_payments.store.retention import Retention
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from clock import FrozenClock
from grpc_api.sessions import card_session
from grpc_api.world import EARLIEST, Following, connected, pour, serving


def after(cursor: str) -> pb.StreamPaymentEventsRequest:
    return pb.StreamPaymentEventsRequest(after_cursor=cursor)


async def prune_all(store: PaymentStore, clock: FrozenClock) -> None:
    """Everything but the newest event, at once: where the log begins does not move again."""
    clock.advance(1)
    retention = Retention(
        store._database, Windows(events=timedelta(0)), now=clock.now, batch_rows=10_000
    )
    async for _ in retention.prune():
        pass


async def test_reads_and_repeated_sessions_of_a_payment_without_events_still_work(
    store: PaymentStore, antom: AntomClient, clock: FrozenClock
) -> None:
    async with serving(store, antom=antom) as served:
        request = card_session()
        created = await served.stub.CreateSession(request)
        await served.news.about("later-1", "later-2", "later-3")
        await served.follow().until_events(4)
        await prune_all(store, clock)
        # In this server, which still has the events in memory, and in one that never had them.
        async with serving(store, antom=antom) as restarted:
            await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="later-1"))
            refusal = await restarted.follow(after(created.cursor)).until_end()
            assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
            assert refusal.reason == "CURSOR_EXPIRED"
            replay = await restarted.stub.CreateSession(request)
            read = await restarted.stub.GetPayment(
                pb.GetPaymentRequest(payment_request_id=request.payment_request_id)
            )
            assert replay.session == created.session
            assert replay.payment == read.payment == created.payment
            assert replay.cursor == read.cursor == refusal.info.metadata["oldest_cursor"]
            following = await restarted.follow(after(read.cursor)).until_events(1)
            assert following.events[0].payment_request_id == "later-3"


async def test_a_subscriber_that_is_slower_than_retention_is_told_where_the_log_begins(
    store: PaymentStore, clock: FrozenClock
) -> None:
    count = await pour(store, 4_000)
    small = {"http2__bdp_probe": 0, "http2__lookahead_bytes": 65_536}
    async with serving(store) as served, connected(served.server.port, **small) as channel:
        stub = pb_grpc.PaymentServiceStub(channel)
        slow = await Following(stub.StreamPaymentEvents(EARLIEST)).until_events(1)
        await prune_all(store, clock)
        refusal = await slow.until_end()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
        assert 0 < len(slow.events) < count
        oldest = refusal.info.metadata["oldest_cursor"]
        following = Following(stub.StreamPaymentEvents(after(oldest)))
        [newest] = (await following.until_events(1)).events
        page = await store.log.page(count - 1)
        assert newest.event_id == page.events[0].event_id
