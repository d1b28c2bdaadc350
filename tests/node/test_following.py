"""The Node client follows for ever: over kills, restores and retention, without loss or doubles."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from antom_payments.store import PaymentStore, open_store
from antom_payments.v1.payment_pb2 import Payment
from antom_payments.v1.payment_service_pb2 import StreamPaymentEventsRequest as Request
from antom_payments.v1.payment_service_pb2 import StreamPaymentEventsResponse as Response
from client.scripted import Refusal, ScriptedService, message, say, scripted_server
from client.test_real_server import three_events
from clock import START
from event_stream.news import News
from grpc_api.world import pour, serving
from launcher import Launcher, launching
from node.driver import Driver, Json, driving
from node.installed import NodeClient
from processes import as_environment, left_in
from stored import execute
from use_cases.test_kill import cipher_of
from whole import settings

EARLIEST: Json = {"earliest": {}}
STARTS = list(Request.DESCRIPTOR.oneofs_by_name["start"].fields)
ABORTED = Refusal(grpc.StatusCode.ABORTED, "STREAM_LIFETIME_REACHED", retry_after_seconds=0.01)


def ids(events: list[Any]) -> list[str]:
    return [event.event_id for event in events]


@pytest.fixture(scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    script = Path(__file__).parents[1] / "use_cases" / "killed_server.py"
    async with launching(script) as launcher:
        yield launcher


@dataclass
class Servers:
    """Servers in processes of their own, on one database and one port, which end by kill -9."""

    launcher: Launcher
    folder: Path
    database_url: str
    port: int = 0

    @contextlib.asynccontextmanager
    async def server(self) -> AsyncIterator[int]:
        chosen = settings(
            self.folder,
            database_url=self.database_url,
            grpc_address=f"127.0.0.1:{self.port}",
        )
        told = {name: str(value) for name, value in as_environment(chosen).items()}
        later = self.folder / "later"
        later.write_text("0")
        self.launcher.order(settings=told, start=START.isoformat(), later=str(later), point="never")
        started = await self.launcher.report()
        self.port = started["port"]
        try:
            yield self.port
        finally:
            os.kill(started["pid"], signal.SIGKILL)
            assert await self.launcher.report() == {"signal": signal.SIGKILL}


async def test_kill_9_of_server_and_client_loses_and_doubles_nothing(
    launcher: Launcher, node_client: NodeClient, database_url: str, tmp_path: Path
) -> None:
    servers = Servers(launcher, tmp_path, database_url)
    cipher = cipher_of(settings(tmp_path))
    async with open_store(database_url, cipher=cipher, now=lambda: START) as store:
        news = News(store)
        told = ids(await news.about("order-1", "order-2"))
        async with contextlib.AsyncExitStack() as first:
            driver = await first.enter_async_context(driving(node_client))
            # What was seen and how far: a line of the client's output is both, at once.
            async with servers.server() as port:
                seen = await first.enter_async_context(driver.following(port, EARLIEST))
                await seen.until_events(2)
            told += ids(await news.about("order-3"))
            await seen.until_resumed()
            async with servers.server():
                told += ids(await news.about("order-4", "order-5"))
                await seen.until_events(5)
                assert seen.ids == told
                driver.kill()
                told += ids(await news.about("order-6"))
                async with (
                    driving(node_client) as second,
                    second.following(port, {"after_cursor": seen.cursor}) as rest,
                ):
                    told += ids(await news.about("order-7"))
                    await rest.until_events(2)
                assert seen.ids + rest.ids == told


async def test_the_stored_cursor_wins_and_stands_for_what_was_processed(
    driver: Driver, sqlite_store: PaymentStore, tmp_path: Path
) -> None:
    file = tmp_path / "cursor"
    async with serving(sqlite_store) as served:
        port = served.server.port
        told = await served.news.about("order-1")
        async with driver.following(port, EARLIEST, cursorFile=str(file), hold=True) as busy:
            await busy.until_events(1)
            # The consumer is still at it.
            assert left_in(tmp_path) == []
            busy.go()
            await busy.until_caught_up()
        told += await served.news.about("order-2")
        async with driver.following(port, EARLIEST, cursorFile=str(file)) as again:
            await again.until_events(1)
    assert again.ids == ids(told[1:])


async def test_a_batch_that_was_left_unprocessed_comes_again_when_the_loop_starts_anew(
    driver: Driver, sqlite_store: PaymentStore
) -> None:
    async with serving(sqlite_store) as served:
        told = await served.news.about("order-1")
        async with driver.following(served.server.port, EARLIEST, times=2) as again:
            await again.until_events(1)
    assert again.ids == ids(told)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.name)
async def test_after_whatever_start_a_stream_resumes_from_its_cursor(
    driver: Driver, start: FieldDescriptor
) -> None:
    service = ScriptedService(streams=[say(message(["a"], cursor="1"))])
    request = {start.name: {} if start.message_type else "0", "final_states_only": True}
    async with (
        scripted_server(service) as server,
        driver.following(server.port, request) as follower,
    ):
        await follower.until_failed()
    first, second = service.requests
    assert first.WhichOneof("start") == start.name
    assert second == Request(after_cursor="1", final_states_only=True)


async def test_a_response_of_many_events_joined_as_bytes_arrives_whole(
    driver: Driver, sqlite_store: PaymentStore
) -> None:
    poured = await pour(sqlite_store, 600)
    async with serving(sqlite_store) as served:
        following = await served.follow().until_events(poured)
        async with driver.following(served.server.port, EARLIEST) as seen:
            await seen.until_events(poured)
        first = seen.batches[0]
        after = {"after_cursor": first["cursor"]}
        async with driver.following(served.server.port, after) as rest:
            await rest.until_events(poured - len(first["events"]))
    assert len(first["events"]) > 1
    assert seen.ids == ids(following.events)
    assert seen.ids == [event["event_id"] for event in first["events"]] + rest.ids


async def test_lost_history_is_caught_up_with_and_the_stream_goes_on(
    driver: Driver, sqlite_store: PaymentStore
) -> None:
    told, cursors = await three_events(sqlite_store)
    await execute(sqlite_store, "DELETE FROM events WHERE sequence < 3")
    async with (
        serving(sqlite_store) as served,
        driver.following(
            served.server.port, {"after_cursor": cursors[0]}, catchUp=True
        ) as follower,
    ):
        await follower.until_events(1)
    assert follower.ids == told[2:]
    [gap] = follower.expired
    assert (gap["code"], gap["reason"]) == ("OUT_OF_RANGE", "CURSOR_EXPIRED")


def payments(*ids: str, cursor: str) -> Response:
    """A message of a snapshot."""
    return Response(payments=[Payment(payment_request_id=one) for one in ids], cursor=cursor)


SNAPSHOT: Json = {"snapshot": {}}


async def test_a_snapshot_is_followed_by_its_payments_and_its_end(driver: Driver) -> None:
    end = Response(cursor="2")
    end.snapshot_end.SetInParent()
    service = ScriptedService(streams=[say(payments("p", cursor="1"), end)])
    async with (
        scripted_server(service) as server,
        driver.following(server.port, SNAPSHOT) as follower,
    ):
        await follower.until_failed()
    told, over = follower.batches
    assert [payment["payment_request_id"] for payment in told["payments"]] == ["p"]
    assert over["marker"] == "snapshot_end"


async def test_the_events_alone_of_a_snapshot_are_refused(driver: Driver) -> None:
    service = ScriptedService()
    async with (
        scripted_server(service) as server,
        driver.following(server.port, SNAPSHOT, each=True) as follower,
    ):
        failure = await follower.until_failed()
    assert failure["name"] == "TypeError"
    assert "batches()" in failure["message"]
    assert service.requests == []


async def test_a_cursor_within_a_snapshot_is_not_passed_by_who_takes_events_alone(
    driver: Driver, tmp_path: Path
) -> None:
    file = tmp_path / "cursor"
    file.write_text("1")
    service = ScriptedService(streams=[say(payments("p", cursor="2"), message(["a"], cursor="3"))])
    async with (
        scripted_server(service) as server,
        driver.following(server.port, EARLIEST, each=True, cursorFile=str(file)) as follower,
    ):
        failure = await follower.until_failed()
    assert failure["name"] == "TypeError"
    assert follower.batches == []
    assert file.read_text() == "1"


async def test_a_snapshot_whose_cursor_expired_is_taken_anew(driver: Driver) -> None:
    expired = Refusal(
        grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED", metadata={"oldest_cursor": "9"}
    )
    service = ScriptedService(
        streams=[
            say(payments("p", cursor="1"), then=expired),
            say(payments("q", cursor="10")),
        ]
    )
    async with (
        scripted_server(service) as server,
        driver.following(
            server.port, SNAPSHOT | {"final_states_only": True}, catchUp=True
        ) as follower,
    ):
        await follower.until_failed()
    anew = Request(final_states_only=True)
    anew.snapshot.SetInParent()
    assert service.requests == [anew, anew, Request(final_states_only=True, after_cursor="10")]
    assert len(follower.expired) == 1


async def test_repeated_events_are_dropped_and_planned_ends_not_noticed(driver: Driver) -> None:
    service = ScriptedService(
        streams=[
            say(message(["a", "b"], cursor="2"), then=ABORTED),
            say(message(["b", "c"], cursor="3")),
            say(message(cursor="4"), then=Refusal(grpc.StatusCode.UNAVAILABLE)),
            say(message(["d"], cursor="5"), then=Refusal(grpc.StatusCode.INTERNAL)),
        ]
    )
    async with (
        scripted_server(service) as server,
        driver.following(server.port, EARLIEST) as follower,
    ):
        end = await follower.until_failed()
    assert follower.ids == ["a", "b", "c", "d"]
    assert service.cursors == ["", "2", "3", "4", "5"]
    assert [one["code"] for one in follower.resumed] == ["ABORTED", "OK", "UNAVAILABLE", "INTERNAL"]
    assert end["code"] == "UNAUTHENTICATED"


async def test_a_stream_is_opened_again_no_sooner_than_the_service_asks_for(
    driver: Driver,
) -> None:
    asked = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED", retry_after_seconds=0.125)
    away = Refusal(grpc.StatusCode.UNAVAILABLE)
    service = ScriptedService(streams=[say(then=end) for end in (asked, away, away)])
    async with (
        scripted_server(service) as server,
        driver.following(server.port, EARLIEST) as follower,
    ):
        await follower.until_failed()
    asked_for, *jittered = [end["waitMs"] for end in follower.resumed]
    assert asked_for == 125
    # Anything up to 10 ms, doubled with each attempt.
    assert jittered[0] <= 20
    assert jittered[1] <= 40
    assert service.requests == [service.requests[0]] * 4


async def test_a_stream_that_says_nothing_is_left_for_another(driver: Driver) -> None:
    service = ScriptedService()
    # A busy machine may be too late with the first message of a stream, not with that of each.
    service.streams += [service.stay, *[say(message(["a"], cursor="1"), then=service.stay)] * 20]
    async with (
        scripted_server(service) as server,
        driver.following(server.port, EARLIEST, how={"silenceMs": 200}) as follower,
    ):
        await follower.until_events(1)
        await service.left.wait()
    assert service.cursors[:2] == ["", ""]


async def test_what_a_newer_service_says_is_survived(driver: Driver) -> None:
    newer = message(["a"], cursor="1")
    newer.events[0].type = 99  # type: ignore[assignment] # of a contract to come
    async with (
        scripted_server(ScriptedService(streams=[say(newer)])) as server,
        driver.following(server.port, EARLIEST) as follower,
    ):
        await follower.until_events(1)
    assert follower.events[0]["type"] == 99


async def test_leaving_ends_the_stream_at_the_server(driver: Driver) -> None:
    service = ScriptedService()
    service.streams.append(say(message(["a"], cursor="1"), then=service.stay))
    async with scripted_server(service) as server:
        async with driver.following(server.port, EARLIEST) as follower:
            await follower.until_events(1)
        await service.left.wait()
