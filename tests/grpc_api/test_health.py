"""Liveness and readiness, apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from antom_payments.errors import StoreUnavailable
from antom_payments.grpc_api import CallLimits, HealthOptions
from antom_payments.grpc_api.health import READINESS, READY_NAMES, Health
from antom_payments.grpc_api.servicer import SERVICE
from antom_payments.store import PaymentStore
from grpc_api.world import LATEST, PATIENCE, options, serving, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Database:
    """A check that fails when it is told to."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works

    async def __call__(self) -> None:
        if not self.works:
            raise StoreUnavailable


async def status(channel: grpc.aio.Channel, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)


def test_readiness_has_the_name_of_the_service_and_one_of_its_own() -> None:
    assert READY_NAMES == (READINESS, "antom_payments.v1.PaymentService")


async def test_the_server_is_alive_at_once_and_ready_after_the_first_good_check(
    store: PaymentStore,
) -> None:
    checked, answer = asyncio.Event(), asyncio.Event()

    async def slow_check() -> None:
        checked.set()
        await answer.wait()

    async with serving(store, check=slow_check) as served:
        await checked.wait()
        assert await status(served.channel, "") == SERVING
        for name in READY_NAMES:
            assert await status(served.channel, name) == NOT_SERVING
        answer.set()
        await until(lambda: served.server.health.is_ready)
        for name in READY_NAMES:
            assert await status(served.channel, name) == SERVING


async def test_a_check_that_hangs_is_a_failed_one() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    health = Health(hang, HealthOptions(timeout_seconds=0.01))
    await health.check_once()
    assert not health.is_ready


async def _readiness_over(check: Database, health: Health, works: list[bool]) -> list[bool]:
    seen = []
    for check.works in works:
        await health.check_once()
        seen.append(health.is_ready)
    return seen


async def test_readiness_changes_only_after_several_checks_in_a_row() -> None:
    database = Database()
    health = Health(database, HealthOptions(failures=3, successes=2))
    yes, no = True, False
    works = [yes, no, no, yes, no, no, no, yes, no, yes, yes, no]
    ready = [yes, yes, yes, yes, yes, yes, no, no, no, no, yes, yes]
    assert await _readiness_over(database, health, works) == ready


async def test_an_outage_of_the_database_never_fails_liveness(store: PaymentStore) -> None:
    often = options(health=HealthOptions(interval_seconds=0.01, failures=2))
    database = Database()
    async with serving(store, often, check=database) as served:
        await until(lambda: served.server.health.is_ready)
        database.works = False
        await until(lambda: not served.server.health.is_ready)
        assert await status(served.channel, READINESS) == NOT_SERVING
        assert await status(served.channel, "") == SERVING
        database.works = True
        await until(lambda: served.server.health.is_ready)
        assert await status(served.channel, SERVICE) == SERVING


async def test_watchers_hear_of_changes(store: PaymentStore) -> None:
    often = options(health=HealthOptions(interval_seconds=0.01, failures=1, successes=1))
    database = Database(works=False)
    async with serving(store, often, check=database) as served:
        stub = health_pb2_grpc.HealthStub(served.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        async with asyncio.timeout(PATIENCE):
            assert (await watch.read()).status == NOT_SERVING
            database.works = True
            assert (await watch.read()).status == SERVING


async def test_probes_are_answered_while_every_limit_is_reached(store: PaymentStore) -> None:
    full = options(limits=CallLimits(streams=1, streams_per_peer=1, unary=0))
    async with serving(store, full) as served:
        await served.follow(LATEST).until_marker("caught_up")
        assert await status(served.channel, "") == SERVING
        watch: Callable[..., Awaitable[object]] = (
            health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest()).read
        )
        async with asyncio.timeout(PATIENCE):
            await watch()
        assert served.server.admission.streams == 1
