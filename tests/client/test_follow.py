"""Following events through everything that a network and a server can do to a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import grpc
import pytest

from antom_payments.client import (
    PLAINTEXT,
    AfterCursor,
    Backoff,
    Batch,
    CallFailed,
    ConnectionClosed,
    CursorExpired,
    CursorInvalid,
    Earliest,
    InvalidRequest,
    Latest,
    LogRewound,
    MemoryCursorStore,
    Payments,
    connect,
)
from antom_payments.client.following import REMEMBERED_EVENTS, Following, Start
from antom_payments.v1.payment_event_pb2 import PAYMENT_EVENT_TYPE_PAYMENT_AUTHORIZED, PaymentEvent
from client.scripted import (
    Context,
    Refusal,
    ScriptedService,
    Waits,
    message,
    relay,
    say,
    scripted_server,
)

Code = grpc.StatusCode
T = TypeVar("T")


async def handled(following: Following, count: int) -> list[str]:
    """The ids of the first ``count`` events."""
    ids = []
    async with aclosing(aiter(following)) as events:
        async for event in events:
            ids.append(event.event_id)
            if len(ids) == count:
                break
    return ids


async def each(iterable: AsyncIterable[T], handle: Callable[[T], object]) -> None:
    """Handle everything, as a consumer does."""
    async for item in iterable:
        handle(item)


async def follow_script(*scripts, waits: Waits | None = None, **how):
    """Play ``scripts`` to a follower; after the last one the server refuses for good."""
    service = ScriptedService(streams=list(scripts))
    ids: list[str] = []
    async with connected(service) as payments:
        backoff = (waits or Waits()).backoff()
        following = payments.follow(how.pop("start", Earliest()), backoff=backoff, **how)
        with pytest.raises(CallFailed) as failed:
            await each(following, lambda event: ids.append(event.event_id))
    return service, ids, failed.value


@asynccontextmanager
async def follower(target: str) -> AsyncIterator[AsyncIterator[PaymentEvent]]:
    """Follow ``target`` with short waits in real time."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
    async with connect(target, credentials=PLAINTEXT, options=options) as payments:
        following = payments.follow(Earliest(), backoff=Backoff(first_seconds=0.05))
        async with aclosing(aiter(following)) as events:
            yield events


@asynccontextmanager
async def connected(service: ScriptedService) -> AsyncIterator[Payments]:
    """Connect to ``service``."""
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        yield payments


async def cut(context: Context) -> None:
    """Reset the stream without a status."""
    context.cancel()
    await stay(context)


async def stay(_: Context) -> None:
    """Say nothing more."""
    await asyncio.Event().wait()


async def test_events_come_in_order_and_batches_are_taken_apart() -> None:
    _, ids, failure = await follow_script(
        say(message(["a", "b"], cursor="1"), message(["c"], cursor="2"))
    )
    assert ids == ["a", "b", "c"]
    assert failure.code is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    "end",
    [
        None,
        cut,
        Refusal(Code.UNAVAILABLE),
        Refusal(Code.ABORTED, "STREAM_LIFETIME_REACHED", retry_after_seconds=1),
        Refusal(Code.ABORTED, "SERVER_DRAINING", retry_after_seconds=1),
        Refusal(Code.RESOURCE_EXHAUSTED, "SUBSCRIBER_TOO_SLOW", {"last_sent": "9"}, 1),
        Refusal(Code.INTERNAL, "INTERNAL"),
        Refusal(Code.UNKNOWN),
        Refusal(Code.CANCELLED),
        Refusal(Code.DEADLINE_EXCEEDED),
    ],
    ids=lambda end: getattr(end, "__name__", str(end)),
)
async def test_whatever_ends_a_stream_it_goes_on_after_the_last_cursor(end) -> None:
    service, ids, _ = await follow_script(
        say(message(["a", "b"], cursor="2"), then=end), say(message(["c"], cursor="3"))
    )
    assert ids == ["a", "b", "c"]
    assert service.cursors == ["", "2", "3"]


async def test_a_server_that_stops_and_comes_back_on_its_port_is_found_again() -> None:
    first = ScriptedService(streams=[say(message(["a"], cursor="1"), then=stay)])
    second = ScriptedService(streams=[say(message(["b"], cursor="2"), then=stay)])
    async with scripted_server(first) as server, follower(server.target) as events:
        assert (await anext(events)).event_id == "a"
        await server.stop()
        async with scripted_server(second, port=server.port):
            assert (await anext(events)).event_id == "b"
    assert second.cursors == ["1"]


async def test_a_connection_that_is_reset_is_made_again() -> None:
    service = ScriptedService(
        streams=[
            say(message(["a"], cursor="1"), then=stay),
            say(message(["b"], cursor="2"), then=stay),
        ]
    )
    async with (
        scripted_server(service) as server,
        relay(server.port) as wire,
        follower(wire.target) as events,
    ):
        assert (await anext(events)).event_id == "a"
        wire.reset()
        assert (await anext(events)).event_id == "b"
    assert service.cursors == ["", "1"]


async def test_events_that_come_again_after_a_resume_are_handled_once() -> None:
    _, ids, _ = await follow_script(
        say(message(["a", "b"], cursor="1"), then=cut),
        say(message(["a", "b"], cursor="1"), message(["b", "c"], cursor="3"), then=cut),
        say(message(["c"], cursor="3"), message(["d"], cursor="4")),
    )
    assert ids == ["a", "b", "c", "d"]


async def test_the_memory_of_handled_events_is_bounded() -> None:
    first, many = "first", [f"e{n}" for n in range(REMEMBERED_EVENTS)]
    pages = [message(many[n : n + 1000], cursor="2") for n in range(0, len(many), 1000)]
    _, ids, _ = await follow_script(
        say(message([first], cursor="1"), *pages), say(message([many[-1], first], cursor="3"))
    )
    assert ids == [first, *many, first]


async def test_the_service_says_how_long_to_wait_at_least() -> None:
    waits = Waits()
    await follow_script(
        say(then=Refusal(Code.ABORTED, "SERVER_DRAINING", retry_after_seconds=2.5)),
        say(then=Refusal(Code.UNAVAILABLE)),
        say(then=Refusal(Code.RESOURCE_EXHAUSTED, "LIMIT_REACHED", retry_after_seconds=0.25)),
        waits=waits,
    )
    assert waits.seconds == [2.5, 0.5, 1.0]


async def test_waits_grow_up_to_their_limit() -> None:
    waits = Waits()
    await follow_script(*[say(then=Refusal(Code.UNAVAILABLE)) for _ in range(9)], waits=waits)
    assert waits.seconds == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


@pytest.mark.parametrize(("lived", "next_wait"), [(59.0, 1.0), (60.0, 0.25)])
async def test_a_healthy_minute_forgets_earlier_failures(lived: float, next_wait: float) -> None:
    waits = Waits()
    service = ScriptedService(
        streams=[
            say(then=Refusal(Code.UNAVAILABLE)),
            say(then=Refusal(Code.UNAVAILABLE)),
            say(message(cursor="1", caught_up=True)),
        ]
    )
    async with connected(service) as payments:
        following = payments.follow(Latest(), backoff=waits.backoff())
        with pytest.raises(CallFailed):
            await each(following.batches(), lambda _: waits.pass_by(lived))
    assert waits.seconds == [0.25, 0.5, next_wait]


async def test_jitter_may_take_any_wait_down_to_none() -> None:
    backoff = Backoff(random=lambda: 0.0)
    assert [backoff.seconds(n, at_least=None) for n in (0, 5, 10_000)] == [0.0, 0.0, 0.0]
    assert Backoff(random=lambda: 1.0).seconds(10_000, at_least=None) == 30.0


async def test_a_silent_stream_is_left_and_resumed() -> None:
    service, ids, _ = await follow_script(
        say(message(["a"], cursor="1"), then=stay),
        say(message(["b"], cursor="2")),
        silence_seconds=0.2,
    )
    assert ids == ["a", "b"]
    assert service.cursors == ["", "1", "2"]


async def test_a_cursor_is_saved_when_its_events_were_handled_and_not_before() -> None:
    service = ScriptedService(
        streams=[say(message(["a", "b"], cursor="1"), message(["c"], cursor="2"))]
    )
    store, saved = MemoryCursorStore(), []
    async with connected(service) as payments:
        following = payments.follow(Earliest(), cursor_store=store, backoff=Waits().backoff())
        with pytest.raises(CallFailed):
            await each(following, lambda event: saved.append((event.event_id, store.cursor)))
    assert saved == [("a", ""), ("b", ""), ("c", "1")]
    assert store.cursor == "2"


class HandlerBroke(Exception):
    """The consumer's own failure."""


@pytest.mark.parametrize("breaks_at", ["a", "b"])
async def test_an_event_whose_handling_failed_comes_again(breaks_at: str) -> None:
    service = ScriptedService(streams=[say(message(["a", "b"], cursor="1"), then=cut)] * 2)
    store, handled_ids = MemoryCursorStore(), []

    def handle(event: PaymentEvent) -> None:
        if event.event_id == breaks_at and breaks_at not in broken:
            broken.append(breaks_at)
            raise HandlerBroke
        handled_ids.append(event.event_id)

    broken: list[str] = []
    async with connected(service) as payments:
        following = payments.follow(Earliest(), cursor_store=store, backoff=Waits().backoff())
        for expected in (HandlerBroke, CallFailed):
            with pytest.raises(expected):
                await each(following, handle)
    assert service.cursors == ["", "", "1"]
    assert handled_ids == (["a", "b"] if breaks_at == "a" else ["a", "a", "b"])
    assert store.cursor == "1"


async def test_a_store_that_fails_ends_the_loop_and_costs_no_event() -> None:
    class BrokenStore(MemoryCursorStore):
        async def save(self, cursor: str) -> None:
            raise OSError("disk full", cursor)

    service = ScriptedService(streams=[say(message(["a"], cursor="1"), message(["b"], cursor="2"))])
    ids = []
    async with connected(service) as payments:
        following = payments.follow(Earliest(), cursor_store=BrokenStore())
        with pytest.raises(OSError, match="disk full"):
            await each(following, lambda event: ids.append(event.event_id))
    assert ids == ["a"]


async def test_a_stored_cursor_wins_over_the_start() -> None:
    service, _, _ = await follow_script(
        say(message(["x"], cursor="8")), start=Latest(), cursor_store=MemoryCursorStore("7")
    )
    assert service.cursors == ["7", "8"]


async def test_checkpoints_move_the_cursor_of_a_filter_that_matches_nothing() -> None:
    store = MemoryCursorStore()
    service, ids, _ = await follow_script(
        say(message(cursor="5"), message(cursor="6"), then=cut), cursor_store=store
    )
    assert ids == []
    assert store.cursor == "6"
    assert service.cursors == ["", "6"]


async def test_batches_tell_their_cursor_and_where_history_ends() -> None:
    service = ScriptedService(
        streams=[
            say(
                message(["a", "b"], cursor="2"),
                message(cursor="2", caught_up=True),
                message(cursor="3"),
            )
        ]
    )
    batches: list[Batch] = []
    async with connected(service) as payments:
        following = payments.follow(Earliest(), backoff=Waits().backoff())
        with pytest.raises(CallFailed):
            await each(following.batches(), batches.append)
    told = [([e.event_id for e in b.events], b.cursor, b.caught_up) for b in batches]
    assert told == [(["a", "b"], "2", False), ([], "2", True), ([], "3", False)]


@pytest.mark.parametrize(
    ("start", "field"),
    [(Earliest(), "earliest"), (Latest(), "latest"), (AfterCursor("c"), "after_cursor")],
)
async def test_the_start_and_the_filter_reach_the_service(start: Start, field: str) -> None:
    service, _, _ = await follow_script(
        say(),
        start=start,
        merchant_accounts=["shop"],
        payment_request_ids=["p1", "p2"],
        event_types=[PAYMENT_EVENT_TYPE_PAYMENT_AUTHORIZED],
        final_states_only=True,
    )
    for request in service.requests:
        assert request.WhichOneof("start") == field
        assert list(request.merchant_accounts) == ["shop"]
        assert list(request.payment_request_ids) == ["p1", "p2"]
        assert list(request.event_types) == [PAYMENT_EVENT_TYPE_PAYMENT_AUTHORIZED]
        assert request.final_states_only


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal(Code.INVALID_ARGUMENT, "CURSOR_INVALID"), CursorInvalid),
        (Refusal(Code.OUT_OF_RANGE, "CURSOR_EXPIRED", {"oldest_cursor": "o"}), CursorExpired),
        (Refusal(Code.FAILED_PRECONDITION, "LOG_REWOUND"), LogRewound),
        (Refusal(Code.INVALID_ARGUMENT, "INVALID_REQUEST"), InvalidRequest),
        (Refusal(Code.UNIMPLEMENTED), CallFailed),
        (Refusal(Code.PERMISSION_DENIED), CallFailed),
    ],
    ids=str,
)
async def test_what_waiting_does_not_change_is_raised_at_once(refusal: Refusal, expected) -> None:
    waits = Waits()
    service, ids, failure = await follow_script(
        say(message(["a"], cursor="1"), then=refusal), waits=waits
    )
    assert type(failure) is expected
    assert ids == ["a"]
    assert waits.seconds == []
    assert len(service.requests) == 1


async def test_after_lost_events_the_follower_is_told_and_goes_on_with_the_oldest() -> None:
    gaps: list[str] = []

    async def catch_up(gap: CursorExpired) -> None:
        gaps.append(gap.oldest_cursor)

    expired = Refusal(Code.OUT_OF_RANGE, "CURSOR_EXPIRED", {"oldest_cursor": "old"})
    service, ids, _ = await follow_script(
        say(then=expired),
        say(message(["z"], cursor="9")),
        start=AfterCursor("lost"),
        on_expired=catch_up,
    )
    assert gaps == ["old"]
    assert service.cursors == ["lost", "old", "9"]
    assert ids == ["z"]


async def test_a_log_that_is_always_expired_is_not_asked_in_a_tight_loop() -> None:
    async def catch_up(_: CursorExpired) -> None:
        pass

    waits = Waits()
    expired = Refusal(Code.OUT_OF_RANGE, "CURSOR_EXPIRED", {"oldest_cursor": "old"})
    await follow_script(*[say(then=expired)] * 4, waits=waits, on_expired=catch_up)
    assert waits.seconds == [0.25, 0.5, 1.0, 2.0]


async def test_a_follower_that_breaks_off_leaves_the_server() -> None:
    service = ScriptedService()
    service.streams = [say(message(["a"], cursor="1"), then=service.stay)]
    async with connected(service) as payments:
        assert await handled(payments.follow(Earliest()), 1) == ["a"]
        await asyncio.wait_for(service.left.wait(), 5)


async def test_cancelling_a_follower_cancels_it_and_leaves_the_server() -> None:
    service, started = ScriptedService(), asyncio.Event()
    service.streams = [say(message(["a"], cursor="1"), then=service.stay)]

    async with connected(service) as payments:
        task = asyncio.create_task(each(payments.follow(Earliest()), lambda _: started.set()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(service.left.wait(), 5)


async def test_leaving_the_connection_ends_its_followers_with_an_error() -> None:
    service, started = ScriptedService(), asyncio.Event()
    service.streams = [say(message(["a"], cursor="1"), then=service.stay)]

    async with scripted_server(service) as server:
        async with connect(server.target, credentials=PLAINTEXT) as payments:
            task = asyncio.create_task(each(payments.follow(Earliest()), lambda _: started.set()))
            await started.wait()
        with pytest.raises(ConnectionClosed):
            await task
        with pytest.raises(ConnectionClosed):
            await handled(payments.follow(Earliest()), 1)


async def test_planned_ends_do_not_make_the_waits_longer() -> None:
    waits = Waits()
    drained = Refusal(Code.ABORTED, "SERVER_DRAINING", retry_after_seconds=0)
    await follow_script(
        *[say(message([], cursor="1"), then=drained)] * 4,
        say(then=Refusal(Code.UNAVAILABLE)),
        waits=waits,
    )
    assert waits.seconds == [0.25, 0.25, 0.25, 0.25, 0.5]


async def test_planned_ends_are_not_logged_as_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "antom_payments.client")
    await follow_script(
        say(then=Refusal(Code.ABORTED, "SERVER_DRAINING", retry_after_seconds=0)),
        say(then=Refusal(Code.UNAVAILABLE)),
    )
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("INFO", "event stream: ABORTED SERVER_DRAINING: said no; resuming in 0.2 seconds"),
        ("WARNING", "event stream: UNAVAILABLE: said no; resuming in 0.5 seconds"),
    ]
