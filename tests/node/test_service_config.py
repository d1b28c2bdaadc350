"""What grpc-js makes of the service config that is shipped, as docs/clients.md tells it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as aio_health

from antom_payments.v1.payment_service_pb2 import GetPaymentRequest, GetPaymentResponse
from client.scripted import Refusal, ScriptedService, scripted_server
from node.driver import Driver, Json

A_KEY: Json = {"payment_request_id": "pay-1"}
AWAY = Refusal(grpc.StatusCode.UNAVAILABLE)
ANSWER = GetPaymentResponse(cursor="c")
CALLS = {"createSession": {}, "getPayment": A_KEY, "reportSdkEvent": A_KEY}


@pytest.mark.parametrize("call", CALLS)
async def test_each_unary_call_is_tried_four_times_while_unavailable(
    driver: Driver, call: str
) -> None:
    service = ScriptedService(answers=[AWAY] * 5)
    async with scripted_server(service) as server:
        failure = await driver.failure(server.port, call, CALLS[call])
    assert failure["code"] == "UNAVAILABLE"
    assert len(service.requests) == 4


@pytest.mark.parametrize("code", ["ABORTED", "INTERNAL", "RESOURCE_EXHAUSTED"])
async def test_other_codes_are_the_callers_matter(driver: Driver, code: str) -> None:
    service = ScriptedService(answers=[Refusal(grpc.StatusCode[code])] * 2)
    async with scripted_server(service) as server:
        failure = await driver.failure(server.port, "getPayment", A_KEY)
    assert failure["code"] == code
    assert len(service.requests) == 1


async def test_the_reason_is_that_of_the_last_attempt(driver: Driver) -> None:
    reasons = ["OUTCOME_UNKNOWN"] * 3 + ["ANTOM_UNAVAILABLE"]
    service = ScriptedService(
        answers=[Refusal(grpc.StatusCode.UNAVAILABLE, reason) for reason in reasons]
    )
    async with scripted_server(service) as server:
        failure = await driver.failure(server.port, "createSession", {})
    assert failure["reason"] == "ANTOM_UNAVAILABLE"


async def test_a_retry_that_works_is_not_noticed(driver: Driver) -> None:
    service = ScriptedService(answers=[AWAY, ANSWER])
    async with scripted_server(service) as server:
        assert (await driver.call(server.port, "getPayment", A_KEY))["cursor"] == "c"


async def test_a_call_waits_for_a_server_that_starts(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    early = asyncio.create_task(driver.call(port, "getPayment", A_KEY))
    # It was answered: so the order before it has been taken, and found nobody.
    assert (await driver.failure(port, "getPayment", A_KEY, how={"timeoutMs": 200}))["code"]
    async with scripted_server(ScriptedService(answers=[ANSWER]), port=port):
        assert (await early)["cursor"] == "c"


async def test_waiting_for_a_server_is_asked_for_with_the_call(driver: Driver) -> None:
    """The service config has it too, which is not enough for grpc-js."""
    failure = await driver.failure(1, "getPayment", A_KEY, how={"waitForReady": False})
    assert failure["code"] == "UNAVAILABLE"


class Deadlines(ScriptedService):
    """Tells how many seconds a call has left."""

    async def GetPayment(  # noqa: N802 the contract's name
        self, _: GetPaymentRequest, context: Any
    ) -> GetPaymentResponse:
        return GetPaymentResponse(cursor=str(context.time_remaining()))


async def test_calls_have_a_deadline_of_30_seconds_or_what_is_less(driver: Driver) -> None:
    async with scripted_server(Deadlines()) as server:
        usual = await driver.call(server.port, "getPayment", A_KEY)
        shorter, longer = [
            await driver.call(server.port, "getPayment", A_KEY, how={"timeoutMs": milliseconds})
            for milliseconds in (5_000, 90_000)
        ]
    assert 20 < float(usual["cursor"]) <= 30
    assert 0 < float(shorter["cursor"]) <= 5
    assert 20 < float(longer["cursor"]) <= 30


async def test_calls_go_round_robin_and_health_is_not_watched(driver: Driver) -> None:
    """The second of these is what grpc-js lacks: a draining server is left by its GOAWAY alone."""
    health = aio_health.HealthServicer()
    await health.set("antom_payments.v1.PaymentService", health_pb2.HealthCheckResponse.NOT_SERVING)
    services = [ScriptedService(answers=[ANSWER] * 200) for _ in range(2)]
    async with (
        scripted_server(services[0]) as one,
        scripted_server(services[1], health=health) as other,
    ):
        target = f"ipv4:{one.target},{other.target}"
        await driver.call(one.port, "getPayment", A_KEY, target=target, before=199)
    assert sum(len(service.requests) for service in services) == 200
    assert all(len(service.requests) > 10 for service in services)
