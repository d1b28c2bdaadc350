"""GetPayment: against a bare answer, and with telemetry against without."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from antom_payments.grpc_api.convert import payment_to_proto
from antom_payments.v1 import payment_service_pb2 as pb
from bench.child import Child
from bench.rig import Rig, Served, begin_payments, measured
from bench.rounds import Line, Sample, interleave
from databases import POSTGRES

OURS, BARE = 2_000, 6_000
"""Calls of a round."""
IN_FLIGHT = 32
PAYMENT = "bench-read"
SAMPLED = 0.01


async def measure(rig: Rig) -> list[Line]:
    """A stored payment is read again and again, over one connection."""
    line = Line(
        key="get_payment",
        title=f"GetPayment, {IN_FLIGHT} in flight",
        unit="calls/s",
        ours="`serve`, which reads PostgreSQL each time",
        peer="a bare grpc.aio handler that returns the same bytes, ready",
        floor=0.04,
    )
    async with (
        _stored_payment(rig) as (url, answer),
        rig.server(url) as ours,
        rig.bare() as bare,
        rig.script("load") as load,
    ):
        await bare.process.ask("prepare", answer=base64.b64encode(answer).decode())
        for served in (ours, bare):
            await _get(load, served, rig.count(200))
        return [
            await interleave(
                line,
                rig.rounds,
                lambda: _get(load, ours, rig.count(OURS)),
                lambda: _get(load, bare, rig.count(BARE)),
            )
        ]


async def measure_telemetry(rig: Rig) -> list[Line]:
    """The same calls with spans of one in a hundred and all metrics exported, and without."""
    line = Line(
        key="telemetry",
        title=f"GetPayment, {IN_FLIGHT} in flight, with telemetry",
        unit="calls/s",
        ours=f"`serve` with OTLP traces at {SAMPLED:.0%} and metrics, sent to a collector",
        peer="`serve` without an exporter",
        floor=0.85,
    )
    async with (
        _stored_payment(rig) as (url, _),
        rig.script("collector") as collector,
        rig.script("load") as load,
    ):
        endpoint = await collector.answer()
        exporting = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(SAMPLED),
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
        async with rig.server(url, **exporting) as on, rig.server(url) as off:
            for served in (on, off):
                await _get(load, served, rig.count(200))
            await interleave(
                line,
                rig.rounds + 2,
                lambda: _get(load, on, rig.count(OURS)),
                lambda: _get(load, off, rig.count(OURS)),
            )
        line.more |= await collector.ask("received")
        return [line]


async def _get(load: Child, served: Served, count: int) -> Sample:
    work = load.ask(
        "get_payments",
        port=served.port,
        name=PAYMENT,
        count=count,
        in_flight=min(IN_FLIGHT, count),
    )
    return await measured(served, count, work)


@asynccontextmanager
async def _stored_payment(rig: Rig) -> AsyncIterator[tuple[str, bytes]]:
    """A database with a payment, and what GetPayment answers about it, nearly."""
    async with rig.fresh(POSTGRES) as url:
        async with rig.store(url) as store:
            await begin_payments(store, [PAYMENT])
            payment = await store.payment("default", payment_request_id=PAYMENT)
            assert payment is not None
        answer = pb.GetPaymentResponse(payment=payment_to_proto(payment), cursor="c" * 46)
        yield url, answer.SerializeToString()
