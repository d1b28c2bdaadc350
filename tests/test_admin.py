"""The admin listener: probes and metrics, and nothing that a stranger could use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider

from antom.wires import free_port
from antom_payments.admin import Readiness, admin_listener
from antom_payments.app import grpc_server
from antom_payments.exposition import Exposition
from antom_payments.instruments import Observed
from notifications.wire import ask
from processes import as_environment, run, running
from whole import settings

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield http


async def test_readiness_is_no_until_there_is_somebody_to_follow(http: httpx.AsyncClient) -> None:
    readiness, port = Readiness(), free_port()
    async with admin_listener(("127.0.0.1", port), readiness, None):
        for is_ready, code, text in ((None, 503, "not ready\n"), (True, 200, "ready\n")):
            if is_ready is not None:
                readiness.follow(lambda: True)
            answer = await http.get(f"http://127.0.0.1:{port}/readyz")
            assert (answer.status_code, answer.text) == (code, text)
            alive = await http.get(f"http://127.0.0.1:{port}/livez")
            assert (alive.status_code, alive.text) == (200, "ok\n")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/../config", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("GET", "/antom/notify", 404),
    ],
)
async def test_nothing_else_is_answered(
    http: httpx.AsyncClient, method: str, path: str, code: int
) -> None:
    port = free_port()
    async with admin_listener(("127.0.0.1", port), Readiness(), Exposition()):
        assert (await http.request(method, f"http://127.0.0.1:{port}{path}")).status_code == code


async def test_a_request_is_bounded_as_on_the_public_listener() -> None:
    port = free_port()
    async with admin_listener(("127.0.0.1", port), Readiness(), Exposition()):
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 20_000)
        assert answer is not None
        assert answer.status == 431


async def test_scrapes_at_the_same_time_are_each_whole(http: httpx.AsyncClient) -> None:
    exposition, port = Exposition(), free_port()
    provider = MeterProvider([exposition.reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("antom_payments.tests", "{test}", "Tests.").add(3)
    async with admin_listener(("127.0.0.1", port), Readiness(), exposition):
        url = f"http://127.0.0.1:{port}/metrics"
        answers = await asyncio.gather(*[http.get(url) for _ in range(20)])
    provider.shutdown()
    assert {answer.headers["content-type"] for answer in answers} == {TEXT}
    # `target_info` has an id of this provider, the same in all.
    assert len({answer.text for answer in answers}) == 1
    assert "antom_payments_tests_total 3.0\n" in answers[0].text


@pytest.mark.parametrize("version", ["garbage", "1", "1.0.0.x", "x.y.z", "9.9.9", '"1.0.0"', "1.0"])
async def test_whoever_asks_for_a_version_that_is_none_gets_metrics(
    http: httpx.AsyncClient, version: str
) -> None:
    exposition, port = Exposition(), free_port()
    provider = MeterProvider([exposition.reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("antom_payments.tests", "{test}", "Tests.").add(3)
    async with admin_listener(("127.0.0.1", port), Readiness(), exposition):
        for kind in ("application/openmetrics-text", "text/plain"):
            accept = {"accept": f"{kind};version={version}"}
            answer = await http.get(f"http://127.0.0.1:{port}/metrics", headers=accept)
            assert answer.status_code == 200
            assert "antom_payments_tests_total 3.0\n" in answer.text
    provider.shutdown()


async def test_metrics_that_are_off_are_not_found(http: httpx.AsyncClient) -> None:
    port = free_port()
    async with admin_listener(("127.0.0.1", port), Readiness(), None):
        assert (await http.get(f"http://127.0.0.1:{port}/metrics")).status_code == 404


async def test_the_servers_readiness_is_that_of_its_grpc_health(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    chosen = settings(tmp_path, admin_address=url.removeprefix("http://"))
    async with grpc_server(chosen) as server:
        async with asyncio.timeout(20):
            while (await http.get(f"{url}/readyz")).status_code != 200:
                pass
        assert server.health.is_ready
        await server.health.drain()
        assert (await http.get(f"{url}/readyz")).status_code == 503
        assert (await http.get(f"{url}/livez")).status_code == 200


async def test_without_the_sdk_there_are_probes_and_no_metrics(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told = as_environment(
        settings(tmp_path, notification_admin_address=url.removeprefix("http://"))
    )
    async with running("notifications", settings=told, OTEL_SDK_DISABLED="true") as sidecar:
        await sidecar.line_with("notifications_serving")
        assert (await http.get(f"{url}/livez")).status_code == 200
        assert (await http.get(f"{url}/metrics")).status_code == 404


@pytest.mark.parametrize(
    ("command", "setting"),
    [("serve", "admin_address"), ("notifications", "notification_admin_address")],
)
async def test_a_port_in_use_is_named_and_ends_the_process(
    tmp_path: Path, command: str, setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = as_environment(settings(tmp_path, **{setting: address}))
        ended = await run(command, settings=told)
    assert ended.code == 2
    assert f"ANTOM_PAYMENTS_{setting.upper()}: cannot be used" in ended.err


def test_what_a_source_counted_stays_counted_after_its_end() -> None:
    observed = Observed(adds_up=True)
    with observed.read_from(lambda: [(2, {"kind": "a"})]):
        with observed.read_from(lambda: [(3, {"kind": "a"})]):
            pass
        [both] = observed.observe(CallbackOptions())
    [after] = observed.observe(CallbackOptions())
    assert (both.value, both.attributes) == (after.value, after.attributes) == (5, {"kind": "a"})


def test_a_gauge_is_gone_with_its_source() -> None:
    observed = Observed(adds_up=False)
    with observed.read_from(lambda: [(2, {})]):
        assert [one.value for one in observed.observe(CallbackOptions())] == [2]
    assert list(observed.observe(CallbackOptions())) == []
