"""The Node client meets every reason: as the edge sends it, and by what really causes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2

from antom_payments.grpc_api import Deadlines, GrpcOptions
from antom_payments.grpc_api.edge import Edge
from antom_payments.grpc_api.errors import ERRORS, answer_to
from antom_payments.grpc_api.limits import Admission, CallLimits
from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.v1 import error_reason_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from client.test_real_server import three_events
from clock import FrozenClock
from database_proxy import database_proxy
from databases import POSTGRES, Databases
from grpc_api.sessions import card_session
from grpc_api.test_errors import an, details
from grpc_api.world import Served, options, pour, serving, stream_options, until
from node.driver import Driver, Json
from scripted_antom import (
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    ScriptedAntom,
    antom_client,
    refused,
    scripted_antom,
    session,
    unknown,
)
from stored import execute

A_KEY = {"payment_request_id": "order-1"}
EARLIEST: Json = {"earliest": {}}
KINDS = {kind.__name__: kind for kind in ERRORS}


@asynccontextmanager
async def raising_server() -> AsyncIterator[int]:
    """A server behind our edge, whose GetPayment raises the error that it is asked for."""

    async def raise_it(request: pb.GetPaymentRequest, _: Any) -> None:
        raise an(KINDS[request.payment_request_id])

    handler = grpc.unary_unary_rpc_method_handler(
        raise_it, request_deserializer=pb.GetPaymentRequest.FromString
    )
    server = grpc.aio.server(interceptors=[Edge(Admission(CallLimits()))])
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "antom_payments.v1.PaymentService", {"GetPayment": handler}
            )
        ]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


@pytest.fixture(scope="module")
async def raising_port() -> AsyncIterator[int]:
    async with raising_server() as port:
        yield port


@pytest.mark.parametrize("kind", KINDS)
async def test_every_error_arrives_with_all_that_the_edge_says_of_it(
    driver: Driver, raising_port: int, kind: str
) -> None:
    failure = await driver.failure(raising_port, "getPayment", {"payment_request_id": kind})
    sent = answer_to(an(KINDS[kind]), "m")
    [info] = details(sent, error_details_pb2.ErrorInfo)
    metadata = dict(info.metadata)  # type: ignore[attr-defined]
    if sent.reason == "INTERNAL":
        assert len(failure["metadata"].pop("error_id")) == len(metadata.pop("error_id"))
    assert (failure["code"], failure["reason"]) == (sent.code.name, sent.reason)
    assert failure["metadata"] == metadata
    retries = details(sent, error_details_pb2.RetryInfo)
    waits = [one.retry_delay.ToMilliseconds() for one in retries]  # type: ignore[attr-defined]
    assert [failure.get("retryAfterMs")] == (waits or [None])
    wrong = details(sent, error_details_pb2.BadRequest)
    assert failure["violations"] == [
        {"field": violation.field, "description": violation.description}
        for bad in wrong
        for violation in bad.field_violations  # type: ignore[attr-defined]
    ]


@dataclass
class World:
    """A store, an Antom that does as told, and the Node client."""

    driver: Driver
    store: PaymentStore
    antom: ScriptedAntom
    databases: Databases
    cipher: DataCipher

    @asynccontextmanager
    async def served(self, how: GrpcOptions | None = None) -> AsyncIterator[Served]:
        async with (
            antom_client(self.antom.origin) as antom,
            serving(self.store, how, antom=antom) as served,
        ):
            yield served

    async def failure(self, call: str, request: Json, how: GrpcOptions | None = None) -> Json:
        async with self.served(how) as served:
            return await self.driver.failure(served.server.port, call, request)

    async def stream_failure(self, request: Json) -> Json:
        """What a stream fails with for good."""
        async with (
            self.served() as served,
            self.driver.following(served.server.port, request) as follower,
        ):
            return await follower.until_failed()

    async def stream_end(self, how: GrpcOptions | None = None) -> Json:
        """What a stream ended with that was opened again."""
        async with (
            self.served(how) as served,
            self.driver.following(served.server.port, EARLIEST) as follower,
        ):
            return await follower.until_resumed()


@pytest.fixture
async def world(
    driver: Driver, databases: Databases, sqlite_store: PaymentStore, cipher: DataCipher
) -> AsyncIterator[World]:
    async with scripted_antom() as antom:
        antom.will(SESSION, session())
        antom.will(INQUIRY, NOT_SUBMITTED)
        yield World(driver, sqlite_store, antom, databases, cipher)


def a_session(**changes: Any) -> Json:
    """A good request, as Node has it."""
    request = card_session("pay-1", **changes)
    return MessageToDict(request, preserving_proto_field_name=True)


Provocation = Callable[[World], Awaitable[Json]]
PROVOKED: dict[str, Provocation] = {}


def provokes(reason: str) -> Callable[[Provocation], Provocation]:
    def known(provocation: Provocation) -> Provocation:
        PROVOKED[reason] = provocation
        return provocation

    return known


@provokes("INVALID_REQUEST")
async def _(world: World) -> Json:
    failure = await world.failure("createSession", {"payment_request_id": "pay-1"})
    assert [one["field"] for one in failure["violations"]] == ["payment_amount", "order"]
    return failure


@provokes("PAYMENT_NOT_FOUND")
async def _(world: World) -> Json:
    return await world.failure("getPayment", A_KEY)


@provokes("MERCHANT_NOT_FOUND")
async def _(world: World) -> Json:
    return await world.failure("getPayment", A_KEY | {"merchant_account": "stranger"})


@provokes("PAYMENT_REQUEST_ID_REUSED")
async def _(world: World) -> Json:
    other = {"currency_code": "SGD", "minor_units": "99"}
    async with world.served() as served:
        await world.driver.call(served.server.port, "createSession", a_session())
        return await world.driver.failure(
            served.server.port, "createSession", a_session() | {"payment_amount": other}
        )


@provokes("SESSION_IN_FLIGHT")
async def _(world: World) -> Json:
    held = Held(session())
    world.antom.will(SESSION, held)
    async with world.served() as served:
        create = (served.server.port, "createSession", a_session())
        first = asyncio.create_task(world.driver.call(*create))
        await world.antom.was_asked()
        failure = await world.driver.failure(*create)
        held.go_on.set()
        assert (await first)["session"]["payment_session_data"]
    assert failure["retryAfterMs"] > 0
    return failure


@provokes("SESSION_REFUSED")
async def _(world: World) -> Json:
    world.antom.will(SESSION, refused("NO_PAY_OPTIONS"))
    failure = await world.failure("createSession", a_session())
    assert failure["metadata"] == {"result_code": "NO_PAY_OPTIONS"}
    return failure


@provokes("NEW_PAYMENT_REQUEST_ID_NEEDED")
async def _(world: World) -> Json:
    world.antom.will(SESSION, refused("ORDER_IS_CLOSED"))
    return await world.failure("createSession", a_session())


@provokes("OUTCOME_UNKNOWN")
async def _(world: World) -> Json:
    world.antom.will(SESSION, unknown())
    return await world.failure("createSession", a_session())


@provokes("ANTOM_UNAVAILABLE")
async def _(world: World) -> Json:
    async with (
        antom_client("http://127.0.0.1:1") as nobody,
        serving(world.store, antom=nobody) as served,
    ):
        return await world.driver.failure(served.server.port, "createSession", a_session())


@provokes("ANTOM_UNTRUSTED")
async def _(world: World) -> Json:
    world.antom.will(SESSION, session(signed=False))
    return await world.failure("createSession", a_session())


@provokes("CURSOR_INVALID")
async def _(world: World) -> Json:
    return await world.stream_failure({"after_cursor": "garbled"})


@provokes("CURSOR_EXPIRED")
async def _(world: World) -> Json:
    _, cursors = await three_events(world.store)
    await execute(world.store, "DELETE FROM events WHERE sequence < 3")
    failure = await world.stream_failure({"after_cursor": cursors[0]})
    assert failure["metadata"]["oldest_cursor"]
    return failure


@provokes("LOG_REWOUND")
async def _(world: World) -> Json:
    _, cursors = await three_events(world.store)
    await execute(world.store, "DELETE FROM events WHERE sequence > 1")
    return await world.stream_failure({"after_cursor": cursors[2]})


@provokes("SUBSCRIBER_TOO_SLOW")
async def _(world: World) -> Json:
    await pour(world.store)
    impatient = stream_options(write_timeout_seconds=0.3, checkpoint_seconds=60)
    async with (
        world.served(impatient) as served,
        world.driver.following(served.server.port, EARLIEST, hold=True) as follower,
    ):
        await follower.until_events(1)
        await until(lambda: not served.stream.subscribers)
        follower.go()
        failure = await follower.until_resumed()
    assert failure["metadata"]["last_sent"]
    return failure


@provokes("STREAM_LIFETIME_REACHED")
async def _(world: World) -> Json:
    return await world.stream_end(stream_options(lifetime_seconds=(0.05, 0.1)))


@provokes("SERVER_DRAINING")
async def _(world: World) -> Json:
    async with (
        world.served() as served,
        world.driver.following(served.server.port, EARLIEST) as follower,
    ):
        await follower.until_caught_up()
        await served.server.drain()
        return await follower.until_resumed()


@provokes("LIMIT_REACHED")
async def _(world: World) -> Json:
    alone = options(limits=CallLimits(streams_per_peer=1))
    async with (
        world.served(alone) as served,
        world.driver.following(served.server.port, EARLIEST) as first,
    ):
        await first.until_caught_up()
        async with world.driver.following(served.server.port, EARLIEST) as second:
            failure = await second.until_resumed()
    assert failure["metadata"] == {"limit": "streams_per_peer"}
    return failure


@provokes("INTERNAL")
async def _(world: World) -> Json:
    await three_events(world.store)
    await execute(world.store, "DELETE FROM events WHERE sequence = 2")
    failure = await world.stream_end()
    assert failure["metadata"]["error_id"]
    return failure


@provokes("DEADLINE_EXCEEDED")
async def _(world: World) -> Json:
    held = Held(session())
    world.antom.will(SESSION, held)
    short = options(deadlines=Deadlines(unary_seconds=0.5, margin_seconds=0.1))
    async with world.served(short) as served:
        failure = await world.driver.failure(served.server.port, "createSession", a_session())
        held.go_on.set()
    return failure


@provokes("STORE_UNAVAILABLE")
async def _(world: World) -> Json:
    async with (
        world.databases.fresh(POSTGRES) as url,
        database_proxy(url) as proxy,
        open_store(proxy.url, cipher=world.cipher, now=FrozenClock().now) as store,
        serving(store) as served,
    ):
        proxy.refuse()
        return await world.driver.failure(served.server.port, "getPayment", A_KEY)


def test_every_reason_is_provoked() -> None:
    names = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }
    assert set(PROVOKED) == names - {"UNSPECIFIED"}


@pytest.mark.postgres
@pytest.mark.parametrize("reason", PROVOKED)
async def test_a_reason_is_met_by_what_causes_it(world: World, reason: str) -> None:
    failure = await PROVOKED[reason](world)
    assert failure["reason"] == reason
    [code] = {code.name for code, number in ERRORS.values() if number == number_of(reason)}
    assert failure["code"] == code


def number_of(reason: str) -> int:
    return error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
