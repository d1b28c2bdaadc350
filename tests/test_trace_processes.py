"""Traces of server and sidecar as processes of their own, with a collector and with a dead one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from opentelemetry import trace

from antom_payments.client import Earliest
from antom_payments.emulator import Step
from otlp import Collector, collecting
from processes import Running, as_environment, running
from whole import PATH, Shop, caller, local_antom, settings, trust_one_authority

CHECKOUT = trace.SpanContext(
    0x0AF7651916CD43DD8448EB211C80319C,
    0xB7AD6B7169203331,
    is_remote=False,
    trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
)
FLUSH_SECONDS = 5.0


@contextlib.asynccontextmanager
async def processes(
    folder: Path, *, server: dict[str, str], sidecar: dict[str, str]
) -> AsyncIterator[tuple[Shop, list[Running]]]:
    """Server and sidecar on SQLite with these variables, and a caller."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with AsyncExitStack() as parts:
        antom, antom_url = await parts.enter_async_context(local_antom())
        chosen = settings(
            folder,
            antom_url=antom_url,
            notification_address=f"127.0.0.1:{port}",
            notify_url=f"http://127.0.0.1:{port}{PATH}",
        )
        told = as_environment(chosen)
        told["notification_address"] = f"127.0.0.1:{port}"
        told["grpc_address"] = "127.0.0.1:0"
        started = [
            await parts.enter_async_context(running("serve", settings=told, **server)),
            await parts.enter_async_context(running("notifications", settings=told, **sidecar)),
        ]
        serving = json.loads(await started[0].line_with("grpc_serving"))
        await started[1].line_with("notifications_serving")
        payments = await parts.enter_async_context(caller(serving["port"]))
        yield Shop(payments, antom, chosen, serving["port"]), started


async def stopped(started: list[Running]) -> list[int]:
    """End them; their exit codes."""
    return await asyncio.gather(*(process.end(signal.SIGTERM) for process in started))


async def pay(shop: Shop) -> list[str]:
    """One payment of a caller who samples; its news."""
    with trace.use_span(trace.NonRecordingSpan(CHECKOUT)):
        await shop.create()
    async with shop.following(Earliest()) as follower:
        await follower.until(1)
        await shop.buyer(Step.APPROVE)
        return [news for news, _, _ in await follower.until(3)]


@pytest.mark.slow
async def test_processes_share_a_payment_s_story_by_links_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_one_authority(monkeypatch, tmp_path)
    async with collecting() as collector:
        only_by_links = collector.variables() | {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}
        async with processes(tmp_path, server=only_by_links, sidecar=only_by_links) as (
            shop,
            started,
        ):
            assert len(await pay(shop)) == 3
            assert await stopped(started) == [0, 0]
    assert_linked(collector)


def assert_linked(collector: Collector) -> None:
    spans = collector.spans
    [create] = [span for span in spans if span.name.endswith("/CreateSession")]
    assert (create.trace_id, create.parent_span_id) == (
        f"{CHECKOUT.trace_id:032x}",
        f"{CHECKOUT.span_id:016x}",
    )
    told = [span for span in spans if span.name == f"POST {PATH}"]
    assert [span.links for span in told] == [(create.ids,)] * 2
    assert {span.service for span in told} == {"antom-payments-notifications"}
    appends = [span for span in spans if span.kind == "PRODUCER"]
    assert {span.parent_span_id for span in appends} == {span.span_id for span in (create, *told)}
    delivered = [span for span in spans if span.kind == "CONSUMER"]
    assert {link for span in delivered for link in span.links} == {span.ids for span in appends}
    assert {span.service for span in delivered} == {"antom-payments"}


@pytest.mark.slow
async def test_a_collector_that_takes_connections_and_says_nothing_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_one_authority(monkeypatch, tmp_path)
    patient = {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_EXPORTER_OTLP_TIMEOUT": "60"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        over_grpc, over_http = (
            Collector(endpoint, protocol).variables() | patient
            for protocol in ("grpc", "http/protobuf")
        )
        async with processes(tmp_path, server=over_grpc, sidecar=over_http) as (shop, started):
            assert await pay(shop) == ["SESSION_CREATED", "PAYMENT_AUTHORIZED", "CAPTURE_SUCCEEDED"]
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await stopped(started) == [0, 0]
            seconds = loop.time() - began
    assert {delivery.state for delivery in shop.antom.deliveries} == {"ACKNOWLEDGED"}
    # The flush's bound, not the exporter's; the rest is for a busy machine.
    assert seconds < FLUSH_SECONDS + 15
    assert "Traceback" not in "".join(line for process in started for line in process.lines)
