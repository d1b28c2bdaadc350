"""StreamPaymentEvents over real sockets, on both databases."""

from __future__ import annotations

import asyncio
import itertools

import grpc
import pytest

from antom_payments.fact import Outcome
from antom_payments.grpc_api import CallLimits, StreamOptions
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_event_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from event_stream.news import execute
from grpc_api.world import (
    EARLIEST,
    LATEST,
    PATIENCE,
    Following,
    Served,
    connected,
    options,
    pour,
    serving,
    stream_options,
    until,
)

Request = pb.StreamPaymentEventsRequest


def after(cursor: str, **filters: object) -> Request:
    return Request(after_cursor=cursor, **filters)  # type: ignore[arg-type]


def ids(events: list[object]) -> list[str]:
    return [event.event_id for event in events]  # type: ignore[attr-defined]


async def test_history_then_the_marker_then_what_happens_live(store: PaymentStore) -> None:
    async with serving(store) as served:
        history = await served.news.about("order-1", "order-2")
        following = served.follow()
        await following.until_marker("caught_up")
        assert ids(following.events) == ids(history)
        live = await served.news.about("order-3")
        await following.until_events(3)
    assert ids(following.events) == ids(history + live)
    assert following.markers.count("caught_up") == 1
    assert all(response.cursor for response in following.responses)


async def test_many_events_come_in_few_messages(store: PaymentStore) -> None:
    async with serving(store) as served:
        events = await served.news.about(*(f"order-{n}" for n in range(100)))
        following = await served.follow().until_events(100)
    assert ids(following.events) == ids(events)
    assert len(following.responses) < 10


async def test_a_stream_resumes_after_any_cursor_that_it_gave(store: PaymentStore) -> None:
    async with serving(store) as served:
        following = served.follow(LATEST)
        await following.until_marker("caught_up")
        for n in range(4):
            await served.news.about(f"order-{n}")
            await following.until_events(n + 1)
        for place, response in enumerate(following.responses):
            later = [event for one in following.responses[place + 1 :] for event in one.events]
            again = served.follow(after(response.cursor))
            await again.until_marker("caught_up")
            assert ids(again.events) == ids(later)


async def test_latest_starts_with_what_happens_after_the_call(store: PaymentStore) -> None:
    async with serving(store) as served:
        await served.news.about("order-1")
        following = served.follow(LATEST)
        await following.until_marker("caught_up")
        await served.news.about("order-2")
        await following.until_events(1)
    assert following.events[0].payment_request_id == "order-2"


@pytest.mark.parametrize(
    ("request_with", "expected"),
    [
        (Request(payment_request_ids=["order-2"]), ["order-2"]),
        (Request(merchant_accounts=["other"]), ["order-3"]),
        (Request(final_states_only=True), ["order-4"]),
        (
            Request(event_types=[payment_event_pb2.PAYMENT_EVENT_TYPE_PAYMENT_SUCCEEDED]),
            ["order-4"],
        ),
    ],
)
async def test_filters_admit_what_they_name_from_history_and_live(
    store: PaymentStore, request_with: Request, expected: list[str]
) -> None:
    request = Request()
    request.CopyFrom(request_with)
    request.earliest.SetInParent()

    async def happen(served: Served) -> None:
        await served.news.about("order-1", "order-2")
        await served.news.about("order-3", merchant_account="other")

    async with serving(store, merchants=("default", "other")) as served:
        await happen(served)
        await served.news.payment_is(Outcome.SUCCEEDED, "order-4")
        following = served.follow(request)
        await following.until_marker("caught_up")
        assert [event.payment_request_id for event in following.events] == expected
        if not request.final_states_only and not request.event_types:
            await happen(served)
            await following.until_events(2)
            assert following.events[1].payment_request_id == expected[0]


async def test_a_merchant_that_is_not_configured_is_not_found(store: PaymentStore) -> None:
    async with serving(store) as served:
        request = Request(merchant_accounts=["stranger"])
        request.earliest.SetInParent()
        refusal = await served.follow(request).until_end()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "MERCHANT_NOT_FOUND")


async def test_a_stream_that_is_asked_wrongly_is_refused(store: PaymentStore) -> None:
    async with serving(store) as served:
        nowhere = await served.follow(Request()).until_end()
        garbled = await served.follow(after("AXgarbled")).until_end()
    assert nowhere.fields == ["start"]
    assert garbled.code is grpc.StatusCode.INVALID_ARGUMENT
    assert garbled.reason == "CURSOR_INVALID"


async def test_a_pruned_cursor_is_refused_with_the_oldest_one_which_works(
    store: PaymentStore, database_url: str
) -> None:
    async with serving(store) as served:
        await served.news.about("order-1")
        first = await served.follow().until_events(1)
        await served.news.about("order-2", "order-3")
        await served.follow().until_events(3)
    await execute(database_url, "DELETE FROM events WHERE sequence < 3")
    async with serving(store) as served:
        refusal = await served.follow(after(first.cursor)).until_end()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
        oldest = refusal.info.metadata["oldest_cursor"]
        following = await served.follow(after(oldest)).until_events(1)
    assert following.events[0].payment_request_id == "order-3"


async def test_a_cursor_of_a_log_that_was_restored_is_noticed(
    store: PaymentStore, database_url: str
) -> None:
    async with serving(store) as served:
        await served.news.about("order-1", "order-2")
        following = await served.follow().until_events(2)
    await execute(database_url, "DELETE FROM events WHERE sequence > 1")
    async with serving(store) as served:
        refusal = await served.follow(after(following.cursor)).until_end()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LOG_REWOUND")


async def test_checkpoints_come_when_nothing_happens_and_are_places_to_resume(
    store: PaymentStore,
) -> None:
    async with serving(store, stream_options(checkpoint_seconds=0.05)) as served:
        following = served.follow(LATEST)
        await following.until_marker("checkpoint")
        checkpoint = await following.until_marker("checkpoint")
        assert checkpoint.checkpoint.lag.ToNanoseconds() == 0
        assert checkpoint.checkpoint.server_time.seconds > 0
        following.call.cancel()
        await served.news.about("order-1")
        again = await served.follow(after(checkpoint.cursor)).until_events(1)
    assert again.events[0].payment_request_id == "order-1"


async def test_checkpoints_move_on_while_only_others_events_happen(store: PaymentStore) -> None:
    """So a subscriber of a quiet payment does not fall behind what the log keeps."""
    async with serving(store, stream_options(checkpoint_seconds=0.05)) as served:
        request = Request(payment_request_ids=["quiet"])
        request.latest.SetInParent()
        following = served.follow(request)
        before = await following.until_marker("checkpoint")
        happened = await served.news.about("order-1", "order-2")
        everything = await served.follow().until_events(2)
        while (await following.until_marker("checkpoint")).cursor == before.cursor:
            pass
        assert following.cursor == everything.responses[-1].cursor
        again = served.follow(after(following.cursor))
        await again.until_marker("caught_up")
    assert len(happened) == 2
    assert following.events == again.events == []


async def test_checkpoints_also_come_between_events_and_never_before_what_they_cover(
    store: PaymentStore,
) -> None:
    async with serving(store, stream_options(checkpoint_seconds=0.05)) as served:
        following = served.follow(LATEST)
        await following.until_marker("caught_up")
        numbers = itertools.count()
        while following.markers.count("checkpoint") < 3 or len(following.events) < 3:
            await served.news.about(f"order-{next(numbers) % 5}")
            await following.read()
        cursor_of_newest = following.responses[0].cursor
        for response in following.responses[1:]:
            if response.events:
                cursor_of_newest = response.cursor
            elif response.WhichOneof("marker") == "checkpoint":
                assert response.cursor == cursor_of_newest


async def test_a_stream_lives_for_a_while_and_ends_with_a_checkpoint_to_resume_from(
    store: PaymentStore,
) -> None:
    short = StreamOptions(lifetime_seconds=(0.2, 0.3), retry_seconds=0.5)
    async with serving(store, options(streams=short)) as served:
        events = await served.news.about("order-1")
        following = served.follow()
        refusal = await following.until_end()
        again = served.follow(after(following.cursor))
        await again.until_marker("caught_up")
    assert refusal.code is grpc.StatusCode.ABORTED
    assert refusal.reason == "STREAM_LIFETIME_REACHED"
    assert 0 < refusal.retry_seconds <= 0.5
    assert ids(following.events) == ids(events)
    assert following.markers[-1] == "checkpoint"
    assert again.events == []


async def test_no_event_is_lost_over_many_planned_ends(store: PaymentStore) -> None:
    short = StreamOptions(lifetime_seconds=(0.02, 0.1), retry_seconds=0.01)
    async with serving(store, options(streams=short)) as served:
        happened: list[object] = []

        async def happen() -> None:
            for n in range(40):
                happened.extend(await served.news.about(f"order-{n % 7}"))

        happening = asyncio.create_task(happen())
        seen: list[object] = []
        request, streams = EARLIEST, 0
        while len(seen) < 40:
            following = served.follow(request)
            refusal = await following.until_end()
            assert refusal.reason == "STREAM_LIFETIME_REACHED"
            seen += following.events
            request, streams = after(following.cursor), streams + 1
        await happening
    assert ids(seen) == ids(happened)
    assert streams > 1


async def test_one_address_cannot_take_all_streams(store: PaymentStore) -> None:
    few = options(limits=CallLimits(streams=3, streams_per_peer=2))
    async with serving(store, few) as served, connected(served.server.port) as other:
        first = [served.follow(LATEST) for _ in range(2)]
        for following in first:
            await following.until_marker("caught_up")
        call = other.unary_stream(
            f"/{pb.DESCRIPTOR.services_by_name['PaymentService'].full_name}/StreamPaymentEvents",
            request_serializer=Request.SerializeToString,
            response_deserializer=pb.StreamPaymentEventsResponse.FromString,
        )
        refusal = await Following(call(LATEST)).until_end()
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "LIMIT_REACHED",
        )
        assert refusal.info.metadata["limit"] == "streams_per_peer"
        assert refusal.retry_seconds > 0
        first[0].call.cancel()
        await until(lambda: served.server.admission.streams == 1)
        await Following(call(LATEST)).until_marker("caught_up")


async def test_a_subscriber_that_does_not_read_is_let_go_and_told_when_it_reads_on(
    store: PaymentStore,
) -> None:
    poured = await pour(store)
    impatient = stream_options(write_timeout_seconds=0.3, checkpoint_seconds=60)
    async with (
        serving(store, impatient) as served,
        connected(served.server.port, http2__bdp_probe=0, http2__lookahead_bytes=65536) as narrow,
    ):
        call = narrow.unary_stream(
            "/antom_payments.v1.PaymentService/StreamPaymentEvents",
            request_serializer=Request.SerializeToString,
            response_deserializer=pb.StreamPaymentEventsResponse.FromString,
        )
        stuck = Following(call(EARLIEST))
        await stuck.read()
        await until(lambda: not served.stream.subscribers)
        # Let go, but not gone: it still counts.
        assert served.server.admission.streams == 1
        reading = await served.follow().until_events(poured)
        refusal = await stuck.until_end()
        async with asyncio.timeout(PATIENCE):
            reading.call.cancel()
            await served.server.admission.idle()
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SUBSCRIBER_TOO_SLOW",
    )
    cursors = [response.cursor for response in stuck.responses]
    assert refusal.info.metadata["last_sent"] in cursors[-2:]
    # What was cut lost nothing: the subscriber goes on from its own cursor.
    assert ids(stuck.events) == ids(reading.events)[: len(stuck.events)]
    assert len(stuck.events) < poured


async def test_a_subscriber_that_vanishes_while_it_does_not_read_frees_its_slot(
    store: PaymentStore,
) -> None:
    await pour(store)
    impatient = stream_options(write_timeout_seconds=0.3)
    async with serving(store, impatient) as served:
        async with connected(
            served.server.port, http2__bdp_probe=0, http2__lookahead_bytes=65536
        ) as narrow:
            call = narrow.unary_stream("/antom_payments.v1.PaymentService/StreamPaymentEvents")
            await call(EARLIEST.SerializeToString()).read()
            await until(lambda: not served.stream.subscribers)
            assert served.server.admission.streams == 1
        async with asyncio.timeout(PATIENCE):
            await served.server.admission.idle()
