"""How the server listens, what it bounds, and how it stops."""

from __future__ import annotations

import asyncio
import os
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from antom_payments.antom import AntomClient
from antom_payments.errors import ConfigurationError
from antom_payments.grpc_api import (
    CallLimits,
    ConnectionOptions,
    DrainOptions,
    GrpcOptions,
    StreamOptions,
)
from antom_payments.grpc_api.health import READINESS
from antom_payments.grpc_api.servicer import SERVICE
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from grpc_api.conftest import HeldWire
from grpc_api.processes import running
from grpc_api.sessions import card_session
from grpc_api.world import (
    LATEST,
    PATIENCE,
    Following,
    Refusal,
    connected,
    options,
    pour,
    serving,
    until,
)


def test_connections_are_bounded_as_the_reference_settings_say() -> None:
    """ops 10, and `grpc.http2.ping_timeout_ms`, without which a dead peer costs a minute more."""
    assert dict(ConnectionOptions().channel_arguments()) == {
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 20_000,
        "grpc.http2.max_ping_strikes": 2,
        "grpc.max_connection_age_ms": 1_200_000,
        "grpc.max_connection_age_grace_ms": 1_200_000,
        "grpc.max_connection_idle_ms": 900_000,
        "grpc.max_receive_message_length": 262_144,
        "grpc.max_send_message_length": 1_048_576,
        "grpc.max_concurrent_streams": 1_000,
        "grpc.so_reuseport": 0,
    }


def test_streams_that_could_outlive_their_connection_are_refused() -> None:
    GrpcOptions(streams=StreamOptions(lifetime_seconds=(60, 1140)))
    with pytest.raises(ConfigurationError, match="stream lifetime"):
        GrpcOptions(streams=StreamOptions(lifetime_seconds=(60, 1141)))


async def test_a_port_that_is_taken_is_named(store: PaymentStore) -> None:
    async with serving(store) as served:
        taken = options(address=f"127.0.0.1:{served.server.port}")
        with pytest.raises(ConfigurationError, match=str(served.server.port)):
            async with serving(store, taken):
                raise AssertionError


@pytest.mark.parametrize("enabled", [True, False])
async def test_reflection_is_there_only_when_it_is_asked_for(
    store: PaymentStore, enabled: bool
) -> None:
    async with serving(store, options(reflection=enabled)) as served:
        stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        if not enabled:
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                await call.read()
            return
        listed = await call.read()
        names = [service.name for service in listed.list_services_response.service]
        assert "antom_payments.v1.PaymentService" in names
        call.cancel()


async def test_a_stream_ends_by_itself_after_its_connection_was_asked_to_end(
    store: PaymentStore,
) -> None:
    """No handler hears of the GOAWAY; a stream that outlives the grace is cut (ops M8)."""
    short = options(
        connections=ConnectionOptions(max_age_seconds=0.2),
        streams=StreamOptions(lifetime_seconds=(1.0, 1.0)),
    )
    async with serving(store, short) as served:
        refusal = await served.follow(LATEST).until_end()
    assert refusal.reason == "STREAM_LIFETIME_REACHED"


async def _status(channel: grpc.aio.Channel, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)


async def test_a_drain_loses_no_call(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    """Readiness first, then the GOAWAY, then the streams; unary calls are waited for."""
    serving_status = health_pb2.HealthCheckResponse.SERVING
    slow = options(drain=DrainOptions(endpoint_delay_seconds=1, spread_seconds=0.2))
    async with serving(store, slow, antom=antom) as served:
        events = await served.news.about("order-1")
        streams = [served.follow() for _ in range(5)]
        for following in streams:
            await following.until_marker("caught_up")
        wire.hold()
        unary = asyncio.ensure_future(served.stub.CreateSession(card_session()))
        await wire.asked.wait()

        draining = asyncio.create_task(served.server.drain())
        while await _status(served.channel, READINESS) == serving_status:
            pass
        # Balancers have not noticed yet: calls still work, and the process is alive.
        assert await _status(served.channel, "") == serving_status
        # Callers that watch the service have noticed: nobody must call when the GOAWAY goes out.
        assert await _status(served.channel, SERVICE) != serving_status
        await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="order-1"))
        late = served.follow()
        await late.until_marker("caught_up")

        for following in (*streams, late):
            refusal = await following.until_end()
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "SERVER_DRAINING")
            assert refusal.retry_seconds > 0
            assert following.markers[-1] == "checkpoint"
            assert len(following.events) == len(events)
        assert not draining.done()
        wire.release()
        assert (await unary).payment.payment_request_id
        async with asyncio.timeout(PATIENCE):
            await draining
    assert served.server.admission.streams == served.server.admission.unary == 0


async def test_a_caller_that_comes_back_at_once_does_not_find_the_dying_server_again(
    store: PaymentStore,
) -> None:
    """Ending the streams before the GOAWAY: 267 times in 0.2 s (ops M7)."""
    opened = 0
    async with serving(store) as served:

        async def follow_for_ever() -> Refusal:
            nonlocal opened
            while True:
                opened += 1
                refusal = await served.follow(LATEST).until_end()
                if refusal.code is not grpc.StatusCode.ABORTED:
                    return refusal

        following = asyncio.create_task(follow_for_ever())
        await until(lambda: served.stream.subscribers == 1)
        await served.server.drain()
        async with asyncio.timeout(PATIENCE):
            refusal = await following
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert opened == 2


async def test_watches_of_health_do_not_hold_up_a_drain(store: PaymentStore) -> None:
    patient = options(drain=DrainOptions(0, 0, grace_seconds=3600))
    async with serving(store, patient) as served:
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        async with asyncio.timeout(PATIENCE):
            await served.server.drain()
        await served.server.drain()  # harmless


async def test_a_subscriber_that_does_not_read_does_not_hold_up_a_drain(
    store: PaymentStore,
) -> None:
    short_last_write = options(
        streams=StreamOptions(last_write_seconds=0.2),
        drain=DrainOptions(0, 0, grace_seconds=2),
    )
    async with (
        serving(store, short_last_write) as served,
        connected(served.server.port, http2__bdp_probe=0, http2__lookahead_bytes=65536) as narrow,
    ):
        await pour(store)
        stuck = Following(pb_grpc.PaymentServiceStub(narrow).StreamPaymentEvents(_EARLIEST))
        await stuck.read()
        reading = served.follow()
        await reading.until_marker("caught_up")
        draining = asyncio.create_task(served.server.drain())
        assert (await reading.until_end()).reason == "SERVER_DRAINING"
        # Let go by then; what remains of it is cut at the end of the grace.
        await until(lambda: not served.stream.subscribers)
        await stuck.until_end()
        async with asyncio.timeout(PATIENCE):
            await draining


_EARLIEST = pb.StreamPaymentEventsRequest(earliest=pb.StreamPaymentEventsRequest.Earliest())


async def test_a_peer_that_freezes_is_noticed_and_its_slot_is_freed(store: PaymentStore) -> None:
    """Its TCP connection stays up: only pings tell (ops M9: 62 s without their own timeout)."""
    watchful = options(
        connections=ConnectionOptions(keepalive_seconds=1, keepalive_timeout_seconds=1),
        limits=CallLimits(),
    )
    async with (
        serving(store, watchful) as served,
        running("never_reads.py", str(served.server.port), "1") as frozen,
    ):
        assert await frozen.line() == "open"
        os.kill(frozen.pid, signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            await served.server.admission.idle()
