"""What callers and strangers put into trace headers is found nowhere afterwards."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from sqlalchemy import select

from antom_payments import telemetry
from antom_payments.app import grpc_server, notification_receiver
from antom_payments.client import Earliest
from antom_payments.client.terminal import SessionWish
from antom_payments.emulator import Step
from antom_payments.store.database import Database
from antom_payments.store.tables import metadata
from database_proxy import database_proxy
from notifications.wire import ask, request
from otlp import collecting
from whole import PATH, Shop, caller, local_antom, settings, trust_one_authority

CARD, NAME, STATE = "4054695723100768", "Ada-Lovelace-planted", "planted-state"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
HEADERS = [
    ("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01"),
    ("tracestate", f"vendor={STATE}"),
    ("baggage", f"card={CARD},buyer={NAME}"),
    ("b3", f"{STATE}-1"),
]
STRANGER = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
PLANTED = [CARD, NAME, STATE, STRANGER]


async def rows_of(database_url: str) -> str:
    """Everything that is stored, as text."""
    database = Database(database_url)
    try:
        return repr(
            [
                (
                    await database.read(
                        lambda connection, table=table: connection.execute(select(table))
                    )
                ).all()
                for table in metadata.sorted_tables
            ]
        )
    finally:
        await database.dispose()


async def test_planted_headers_are_in_no_request_row_event_line_or_span(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trust_one_authority(monkeypatch, tmp_path)
    caplog.set_level(logging.DEBUG)
    to_antom = bytearray()

    def overhear(piece: bytes) -> bool:
        to_antom.extend(piece)
        return False

    async with AsyncExitStack() as parts:
        collector = await parts.enter_async_context(collecting())
        for name, value in collector.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        provider = telemetry.tracer_provider(Resource({"service.name": "antom-payments"}))
        monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
        antom, antom_url = await parts.enter_async_context(local_antom())
        wire = await parts.enter_async_context(database_proxy(antom_url))
        wire.request_spoils = overhear
        chosen = settings(tmp_path, database_url=database_url, antom_url=wire.url.rstrip("/"))
        _, port = await parts.enter_async_context(notification_receiver(chosen))
        chosen = chosen.model_copy(update={"notify_url": f"http://127.0.0.1:{port}{PATH}"})
        server = await parts.enter_async_context(grpc_server(chosen, look_seconds=3600.0))
        payments = await parts.enter_async_context(caller(server.port))
        shop = Shop(payments, antom, chosen, server.port)

        wish = SessionWish(
            payment_request_id="pay-1",
            minor_units=4200,
            currency_code="SGD",
            reference_order_id="order-1",
        )
        created = await payments._stub.CreateSession(wish.request(), metadata=HEADERS)
        strange = [("traceparent", f"00-{STRANGER}-b7ad6b7169203331-01"), *HEADERS[1:]]
        await ask(port, request(b"{}", headers=strange, target=PATH))
        await shop.buyer(Step.APPROVE)
        await shop.read(fresh=True)
        async with shop.following(Earliest()) as follower:
            await follower.until(3)
            streamed = b"".join(event.SerializeToString() for event in follower.events)
        spans = await collector.until(
            lambda spans: [span.name for span in spans].count(f"POST {PATH}") == 3
        )
        assert await asyncio.to_thread(provider.force_flush)
        await asyncio.to_thread(provider.shutdown)
    # The caller's ids are taken, and nothing else.
    assert TRACE_ID in created.payment.traceparent
    assert TRACE_ID.encode() in streamed
    assert bytes.fromhex(TRACE_ID) in collector.raw
    lines = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    places = {
        "antom": bytes(to_antom),
        "store": (await rows_of(database_url)).encode(),
        "events": streamed,
        "log": lines.encode(),
        "spans": bytes(collector.raw),
    }
    for place, told in places.items():
        assert told, place
        for word in PLANTED:
            assert word.encode() not in told, (place, word)
    assert bytes.fromhex(STRANGER) not in collector.raw
    assert {span.parent_span_id for span in spans if span.name == f"POST {PATH}"} == {""}
    # Antom is told nothing of traces, ours included.
    heads = bytes(to_antom).lower()
    assert heads.count(b"post /ams/sandbox/api/") >= 2
    for name in (b"traceparent", b"tracestate", b"baggage", b"b3:", TRACE_ID.encode()):
        assert name not in heads
    for span in spans:
        assert span.trace_id.encode() not in heads
