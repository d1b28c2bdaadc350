"""StreamPaymentEvents with a snapshot, at a time and at a pace, over real sockets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from antom_payments.fact import Outcome
from antom_payments.grpc_api import DrainOptions
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_event_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from event_stream.foreign_log import fill
from event_stream.news import News, execute
from grpc_api.world import (
    Following,
    connected,
    options,
    refusal_of,
    serving,
    stream_options,
    until,
)

Request = pb.StreamPaymentEventsRequest


def snapshot(**filters: Any) -> Request:
    return Request(snapshot=Request.Snapshot(), **filters)


def at(time: datetime) -> Request:
    request = Request()
    request.at_time.FromDatetime(time)
    return request


def told(following: Following) -> dict[str, int]:
    """The version of every payment, as the messages tell it one after the other."""
    versions: dict[str, int] = {}
    for response in following.responses:
        for payment in response.payments:
            versions[payment.payment_request_id] = payment.version
        for event in response.events:
            assert event.payment_version == versions.get(event.payment_request_id, 0) + 1
            versions[event.payment_request_id] = event.payment_version
    return versions


async def test_a_snapshot_then_its_end_then_caught_up_then_what_happens(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        await served.news.about(*(f"order-{n}" for n in range(5)), "order-1")
        following = served.follow(snapshot())
        await following.until_marker("snapshot_end")
        assert told(following) == {f"order-{n}": 2 if n == 1 else 1 for n in range(5)}
        await following.until_marker("caught_up")
        await served.news.about("order-1", "order-5")
        await following.until_events(2)
    assert told(following)["order-1"] == 3
    assert [marker for marker in following.markers if marker] == ["snapshot_end", "caught_up"]
    payment = following.responses[0].payments[0]
    assert (payment.merchant_account, payment.amount.minor_units) == ("default", 12_50)
    assert following.events[0].payment_request_id == "order-1"


async def test_many_payments_come_in_few_messages_which_are_one_when_joined(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        await served.news.about(*(f"order-{n}" for n in range(100)))
        following = served.follow(snapshot())
        await following.until_marker("snapshot_end")
    messages = [response for response in following.responses if response.payments]
    assert len(messages) == 2
    joined = b"".join(message.SerializeToString() for message in messages)
    whole = pb.StreamPaymentEventsResponse.FromString(joined)
    assert [payment.payment_request_id for payment in whole.payments] == [
        f"order-{n}" for n in range(100)
    ]
    assert whole.cursor == messages[-1].cursor


async def test_a_snapshot_resumes_after_any_cursor_that_it_gave_also_on_another_replica(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        await served.news.about(*(f"order-{n}" for n in range(130)))
        following = served.follow(snapshot())
        await following.until_marker("caught_up")
    async with serving(store) as restarted:
        for place, response in enumerate(following.responses):
            later = [one for kept in following.responses[place + 1 :] for one in kept.payments]
            again = restarted.follow(Request(after_cursor=response.cursor))
            await again.until_marker("caught_up")
            assert [one for kept in again.responses for one in kept.payments] == later
            ends_later = response.WhichOneof("marker") is None
            assert again.markers.count("snapshot_end") == ends_later


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"merchant_accounts": ["other"]}, ["order-2"]),
        ({"payment_request_ids": ["order-1"]}, ["order-1"]),
        ({"final_states_only": True}, ["order-3"]),
        (
            {"event_types": [payment_event_pb2.PAYMENT_EVENT_TYPE_PAYMENT_SUCCEEDED]},
            ["order-1", "order-2", "order-3"],
        ),
    ],
)
async def test_a_snapshot_is_scoped_and_filtered_but_not_by_type(
    store: PaymentStore, filters: dict[str, Any], expected: list[str]
) -> None:
    async with serving(store, merchants=("default", "other")) as served:
        await served.news.about("order-1")
        await served.news.about("order-2", merchant_account="other")
        await served.news.payment_is(Outcome.SUCCEEDED, "order-3")
        following = served.follow(snapshot(**filters))
        await following.until_marker("snapshot_end")
    assert sorted(told(following)) == expected


async def test_a_snapshot_of_a_merchant_that_is_not_configured_is_not_found(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        refusal = await served.follow(snapshot(merchant_accounts=["stranger"])).until_end()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "MERCHANT_NOT_FOUND")


async def test_a_drain_in_the_middle_of_a_snapshot_leaves_a_place_to_go_on_from(
    store: PaymentStore,
) -> None:
    drain = DrainOptions(endpoint_delay_seconds=0, spread_seconds=0.01, grace_seconds=5)
    async with serving(store, options(drain=drain)) as served:
        await served.news.about(*(f"order-{n}" for n in range(60)))
        following = served.follow(snapshot(max_events_per_second=20))
        await following.read()
        draining = asyncio.create_task(served.server.drain())
        refusal = await following.until_end()
        await draining
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "SERVER_DRAINING")
    last = following.responses[-1]
    assert last.WhichOneof("marker") == "checkpoint"
    assert not last.checkpoint.HasField("lag")
    assert "snapshot_end" not in following.markers
    async with serving(store) as served:
        again = served.follow(Request(after_cursor=last.cursor))
        await again.until_marker("snapshot_end")
    both = told(following) | told(again)
    assert not set(told(following)) & set(told(again))
    assert both == {f"order-{n}": 1 for n in range(60)}


async def test_a_place_in_a_snapshot_that_is_older_than_the_log_expires_and_a_new_one_works(
    store: PaymentStore, database_url: str
) -> None:
    async with serving(store) as served:
        await served.news.about(*(f"order-{n}" for n in range(3)))
        first = await served.follow(snapshot()).read()
        await served.news.about("order-0", "order-1")
    await execute(database_url, "DELETE FROM events WHERE sequence < 5")
    async with serving(store) as served:
        refusal = await served.follow(Request(after_cursor=first.cursor)).until_end()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
        assert refusal.info.metadata["oldest_cursor"]
        following = served.follow(snapshot())
        await following.until_marker("snapshot_end")
    assert told(following) == {"order-0": 2, "order-1": 2, "order-2": 1}


async def test_a_stream_starts_at_a_time(store: PaymentStore) -> None:
    async with serving(store) as served:
        events = await served.news.about("order-1")
        await served.news.about("order-2")
        whole = await served.follow().until_events(2)
        time = whole.events[1].append_time.ToDatetime(tzinfo=UTC)
        again = await served.follow(at(time)).until_events(1)
        ahead = served.follow(at(datetime.now(UTC) + timedelta(hours=1)))
        await ahead.until_marker("caught_up")
        await served.news.about("order-3")
        await ahead.until_events(1)
    assert events[0].append_time is not None
    same_time = whole.events[0].append_time == whole.events[1].append_time
    assert again.events[0].payment_request_id == ("order-1" if same_time else "order-2")
    assert [event.payment_request_id for event in ahead.events] == ["order-3"]


async def test_a_time_that_the_log_no_longer_has_is_out_of_range_with_the_oldest_cursor(
    store: PaymentStore, database_url: str
) -> None:
    async with serving(store) as served:
        await served.news.about("order-1", "order-2", "order-3")
    await execute(database_url, "DELETE FROM events WHERE sequence < 3")
    async with serving(store) as served:
        refusal = await served.follow(at(datetime(2001, 1, 1, tzinfo=UTC))).until_end()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
        oldest = refusal.info.metadata["oldest_cursor"]
        following = await served.follow(Request(after_cursor=oldest)).until_events(1)
    assert following.events[0].payment_request_id == "order-3"


async def test_a_payments_cursor_streams_what_follows_also_from_a_replica_that_is_behind(
    store: PaymentStore,
) -> None:
    """Read your writes: whichever replica answered, and whichever is asked next."""
    async with serving(store) as writer, serving(store) as reader:
        key = pb.GetPaymentRequest(payment_request_id="order-1")
        for turn in range(5):
            await writer.news.about("order-1")
            known = await writer.stub.GetPayment(key)
            news = await writer.news.about("order-1")
            following = reader.follow(Request(after_cursor=known.cursor))
            await following.until_events(1)
            assert [event.event_id for event in following.events] == [news[0].event_id]
            assert following.events[0].payment_version == known.payment.version + 1 == 2 * turn + 2
            following.call.cancel()


async def test_checkpoints_come_as_often_as_the_caller_asks(store: PaymentStore) -> None:
    async with serving(store, stream_options(checkpoint_seconds=60)) as served:
        request = Request(latest=Request.Latest())
        request.checkpoint_interval.FromMilliseconds(1_000)
        following = served.follow(request)
        await following.until_marker("checkpoint")
        request.checkpoint_interval.FromMilliseconds(61_000)
        refusal = await served.follow(request).until_end()
    assert refusal.fields == ["checkpoint_interval"]


async def test_a_rate_bounds_what_is_sent_and_neither_loses_nor_overtakes(
    store: PaymentStore,
) -> None:
    """As many as a second has at once; checkpoints come in between, in their place."""
    often = stream_options(checkpoint_seconds=0.05)
    async with serving(store, often) as served:
        events = await served.news.about(*(f"order-{n}" for n in range(45)))
        request = Request(earliest=Request.Earliest(), max_events_per_second=30)
        loop = asyncio.get_running_loop()
        began = loop.time()
        following = await served.follow(request).until_events(45)
        took = loop.time() - began
        await following.until_marker("caught_up")
    assert took > 0.45
    assert [event.event_id for event in following.events] == [event.event_id for event in events]
    assert max(len(response.events) for response in following.responses) <= 30
    assert "checkpoint" in following.markers
    cursor = None
    for response in following.responses:
        if response.WhichOneof("marker") == "checkpoint" and cursor is not None:
            assert response.cursor == cursor
        cursor = response.cursor


async def test_a_subscriber_that_does_not_read_its_snapshot_is_let_go(
    store: PaymentStore,
) -> None:
    """And slows nobody; what it had is where it goes on."""
    await fill(store, 80_000)
    async with (
        serving(store, stream_options(write_timeout_seconds=0.3)) as served,
        connected(served.server.port, http2__bdp_probe=0, http2__lookahead_bytes=65536) as narrow,
    ):
        call = narrow.unary_stream(
            "/antom_payments.v1.PaymentService/StreamPaymentEvents",
            request_serializer=Request.SerializeToString,
            response_deserializer=pb.StreamPaymentEventsResponse.FromString,
        )
        stuck = Following(call(snapshot()))
        await stuck.read()
        await until(lambda: not served.stream.subscribers)
        refusal = await stuck.until_end()
    assert refusal.reason == "SUBSCRIBER_TOO_SLOW"
    assert stuck.responses[-1].payments


async def test_a_snapshot_of_one_payment_is_one_read_however_long_the_log_is(
    store: PaymentStore, database_url: str
) -> None:
    """Also when its merchant is not named."""
    await News(store).about("mine", "last")
    for statement in (
        "DELETE FROM events WHERE sequence = 1",
        "UPDATE events SET sequence = 2000000",
        "UPDATE payments SET last_sequence = 2000000 WHERE payment_request_id = 'last'",
    ):
        await execute(database_url, statement)
    async with serving(store, merchants=("default", "other")) as served:
        reads = 0
        read = store.log.payments

        async def counted(*words: Any, **more: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(*words, **more)

        store.log.payments = counted  # type: ignore[method-assign]
        following = served.follow(snapshot(payment_request_ids=["mine"]))
        await following.until_marker("snapshot_end")
        assert sum(len(response.payments) for response in following.responses) == 1
        assert reads == 1
        following.call.cancel()


async def test_a_place_in_a_snapshot_with_another_filter_is_no_cursor(
    store: PaymentStore,
) -> None:
    async with serving(store) as served:
        await served.news.about(*(f"payment-{n}" for n in range(5)))
        following = served.follow(snapshot(max_events_per_second=1))
        response = await following.read()
        following.call.cancel()
        again = served.follow(
            Request(after_cursor=response.cursor, payment_request_ids=["payment-0"])
        )
        refused = await refusal_of(again.read())
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "CURSOR_INVALID",
        )
