"""Server and sidecar, whole, while their database is away: told rightly, alive, and over soon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from sqlalchemy import event

from antom_payments import app
from antom_payments.client.following import Earliest
from antom_payments.emulator import Step
from antom_payments.grpc_api import CallLimits
from antom_payments.grpc_api.health import READINESS, HealthOptions
from antom_payments.settings import Settings, variable
from antom_payments.store import DataCipher, PaymentStore, PoolOptions, open_store
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from clock import FrozenClock
from database_proxy import database_proxy
from grpc_api.sessions import card_session
from grpc_api.test_health import SERVING, status
from grpc_api.world import EARLIEST, LATEST, Refusal, connected, options, refusal_of, serving
from processes import Running, as_environment, running
from scripted_antom import SESSION, Held, scripted_antom, session
from stored import confirmed, execute, rows
from whole import Shop, settings, shop_on, trust_one_authority

DEADLINE = 10.0
SECONDS = 10.0
"""How soon everything works again (ops.md 9.2), on a machine that is busy with others."""
A_KEY = pb.GetPaymentRequest(payment_request_id="pay-1")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of whoever runs the tests, and probes that look often."""
    trust_one_authority(monkeypatch, tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
    often = HealthOptions(interval_seconds=0.02)
    monkeypatch.setattr(app, "HealthOptions", lambda: often)
    usual = app.grpc_options
    monkeypatch.setattr(app, "grpc_options", lambda chosen: replace(usual(chosen), health=often))


@dataclass
class Probes:
    """What Kubernetes sees of server and sidecar."""

    channel: grpc.aio.Channel
    http: httpx.AsyncClient
    health: str

    async def are_ready(self) -> tuple[bool, bool]:
        server = await status(self.channel, READINESS)
        sidecar = await self.http.get(f"http://{self.health}/readyz")
        return server == SERVING, sidecar.status_code == 200

    async def assert_alive(self) -> None:
        assert await status(self.channel, "") == SERVING
        assert (await self.http.get(f"http://{self.health}/livez")).status_code == 200

    async def until(self, *, ready: bool) -> float:
        """Probe until both say so, and see that both are alive all the time."""
        began = time.monotonic()
        async with asyncio.timeout(30):
            while await self.are_ready() != (ready, ready):
                await self.assert_alive()
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def watched_shop(
    database_url: str, folder: Path
) -> AsyncIterator[tuple[Shop, Probes, grpc.aio.Channel]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        health = f"127.0.0.1:{free.getsockname()[1]}"
    async with (
        shop_on(database_url, folder, notification_admin_address=health) as shop,
        httpx.AsyncClient(trust_env=False) as http,
        connected(shop.port) as channel,
    ):
        yield shop, Probes(channel, http, health), channel


async def test_server_and_sidecar_outlive_their_database(postgres_url: str, tmp_path: Path) -> None:
    async with (
        database_proxy(postgres_url) as proxy,
        watched_shop(proxy.url, tmp_path) as (shop, probes, channel),
        shop.following(Earliest()) as follower,
    ):
        stub = pb_grpc.PaymentServiceStub(channel)
        await shop.create()
        await follower.until(1)
        await probes.until(ready=True)
        proxy.refuse()
        for call in (
            stub.GetPayment(A_KEY, timeout=DEADLINE),
            stub.CreateSession(card_session(), timeout=DEADLINE),
        ):
            refusal = await refusal_of(call)
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
            assert refusal.reason == "STORE_UNAVAILABLE"
            assert refusal.retry_seconds == 1
        await shop.buyer(Step.APPROVE, later=0)
        assert {delivery.state for delivery in shop.antom.deliveries} == {"WAITING"}
        await probes.until(ready=False)
        await probes.assert_alive()
        await proxy.accept()
        assert await probes.until(ready=True) < SECONDS
        await shop.antom.timeline.advance(600)
        told = [name for name, _, _ in await follower.until(3)]
        assert told == ["SESSION_CREATED", "PAYMENT_AUTHORIZED", "CAPTURE_SUCCEEDED"]
        assert {delivery.state for delivery in shop.antom.deliveries} == {"ACKNOWLEDGED"}


@pytest.mark.parametrize("outage", ["refused", "frozen"])
async def test_a_stream_stays_open_through_an_outage_and_goes_on(
    postgres_url: str, cipher: DataCipher, clock: FrozenClock, outage: str
) -> None:
    pool = PoolOptions(command_timeout_seconds=0.2)
    async with (
        database_proxy(postgres_url) as proxy,
        open_store(proxy.url, cipher=cipher, now=clock.now, pool=pool) as store,
        open_store(postgres_url, cipher=cipher, now=clock.now) as another,
        serving(store, clock=clock) as served,
    ):
        await confirmed(another, payment_request_id="order-1")
        following = await served.follow(EARLIEST).until_events(1)
        noticed = asyncio.Event()
        engine = store._database.engine.sync_engine
        event.listen(engine, "do_connect", lambda *_: noticed.set())
        (proxy.refuse if outage == "refused" else proxy.freeze)()
        await confirmed(another, payment_request_id="order-2")
        await asyncio.wait_for(noticed.wait(), SECONDS)
        proxy.thaw()
        if outage == "refused":
            await proxy.accept()
        await following.until_events(2)
        told = [event.payment.payment_request_id for event in following.events]
        assert told == ["order-1", "order-2"]


async def test_a_pool_of_one_serves_writes_beside_a_hundred_idle_subscribers(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    pool, many = PoolOptions(size=1), CallLimits(streams=100, streams_per_peer=100)
    async with (
        open_store(database_url, cipher=cipher, now=clock.now, pool=pool) as store,
        serving(store, options(limits=many), clock=clock) as served,
    ):
        followers = [served.follow(LATEST) for _ in range(100)]
        for follower in followers:
            await follower.until_marker("caught_up")
        for n in range(20):
            await confirmed(store, payment_request_id=f"order-{n}")
        for follower in followers:
            await follower.until_events(20)


async def test_whoever_is_turned_away_by_a_full_queue_is_told_so(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    pool = PoolOptions(in_flight=0)
    async with (
        open_store(sqlite_url, cipher=cipher, now=clock.now, pool=pool) as store,
        serving(store, clock=clock) as served,
    ):
        refusal = await refusal_of(served.stub.GetPayment(A_KEY))
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.reason == "LIMIT_REACHED"
        assert refusal.info.metadata["limit"] == "database_in_flight"
        assert refusal.retry_seconds == 1
        await served.follow(LATEST).until_marker("caught_up")


@pytest.mark.parametrize(
    "change", ["DROP TABLE private_data", "ALTER TABLE payments DROP COLUMN capture_mode"]
)
async def test_a_schema_that_lacks_something_tells_callers_and_logs_no_sql(
    store: PaymentStore,
    clock: FrozenClock,
    caplog: pytest.LogCaptureFixture,
    change: str,
) -> None:
    await confirmed(store, payment_request_id="pay-1")
    await execute(store, change)
    async with serving(store, clock=clock) as served:
        request = card_session("pay-2")
        refusal = await refusal_of(served.stub.CreateSession(request))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.reason == "INTERNAL"
    logged = caplog.text + "".join(str(record.msg) for record in caplog.records)
    assert refusal.info.metadata["error_id"] in logged
    for leak in (b"INSERT", b"SELECT", b"private_data", b"capture_mode", b"pay-2"):
        assert leak not in refusal.wire_bytes
        assert leak.decode() not in logged


async def test_a_process_that_dies_with_antoms_answer_leaves_one_session_to_its_callers_retry(
    postgres_url: str, tmp_path: Path, cipher: DataCipher, clock: FrozenClock
) -> None:
    """The answer cannot be stored, and before it can kill -9 comes: the lease ends by time."""
    answer = Held(session("lost"))
    async with (
        scripted_antom() as antom,
        database_proxy(postgres_url) as proxy,
        open_store(postgres_url, cipher=cipher, now=clock.now) as store,
    ):
        antom.will(SESSION, answer, session("kept"))
        chosen = settings(
            tmp_path, database_url=proxy.url, antom_url=antom.origin, antom_budget_seconds=1
        )
        async with served_by_a_process(chosen) as (server, stub):
            creating = asyncio.ensure_future(stub.CreateSession(card_session("pay-1")))
            await antom.was_asked()
            proxy.refuse()
            answer.go_on.set()
            await server.line_with("database_trouble")
            await server.end(signal.SIGKILL)
            with pytest.raises(grpc.aio.AioRpcError):
                await creating
        await proxy.accept()
        assert await rows(store, "SELECT state, version FROM payments") == [("CREATING", 0)]
        async with served_by_a_process(chosen) as (server, stub):
            created = await repeated(lambda: stub.CreateSession(card_session("pay-1")))
            await server.end(signal.SIGTERM)
        assert created.session.payment_session_id == "kept"
        assert len(antom.asked) == 2
        assert len({question.body["paymentRequestId"] for question in antom.asked}) == 1
        assert await rows(store, "SELECT type FROM events") == [("SESSION_CREATED",)]


@contextlib.asynccontextmanager
async def served_by_a_process(chosen: Settings) -> AsyncIterator[tuple[Running, Any]]:
    async with running("serve", settings=as_environment(chosen)) as server:
        port = json.loads(await server.line_with("grpc_serving"))["port"]
        async with connected(port) as channel:
            yield server, pb_grpc.PaymentServiceStub(channel)


async def repeated(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat while another call holds the lease, as RetryInfo says."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                refusal = Refusal(error)
                assert refusal.reason == "SESSION_IN_FLIGHT"
                await asyncio.sleep(refusal.retry_seconds)
