"""Fixtures of the gRPC edge's tests."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from antom_payments import telemetry
from antom_payments.antom import AntomClient
from antom_payments.antom.signing import Signer, Verifier, load_private_key, load_public_key
from antom_payments.antom.wire import Answer, Wire, open_wire
from antom_payments.emulator import EmulatorOptions, server_config
from emulator.world import SANDBOX_ID, serving
from keys import KeyPair


class HeldWire:
    """The way to Antom, on which answers can be held back after the request has left."""

    def __init__(self, wire: Wire) -> None:
        self.origin, self.host, self.port = wire.origin, wire.host, wire.port
        self._wire = wire
        self._open = asyncio.Event()
        self._open.set()
        self.asked = asyncio.Event()
        """Set when a request has reached Antom."""
        self.requests = 0

    def hold(self) -> None:
        self._open.clear()
        self.asked.clear()

    def release(self) -> None:
        self._open.set()

    async def post(self, path: str, body: bytes, headers: object, *, seconds: float) -> Answer:
        self.requests += 1
        answer = await self._wire.post(path, body, headers, seconds=seconds)  # type: ignore[arg-type]
        self.asked.set()
        await self._open.wait()
        return answer


@pytest.fixture(scope="session")
async def antom_port(merchant_keys: KeyPair, antom_keys: KeyPair) -> AsyncIterator[int]:
    """An emulator on loopback, shared by these tests: each makes payments of its own."""
    options = EmulatorOptions(
        antom_private_key=load_private_key(antom_keys.private, setting="antom"),
        merchant_public_keys={
            SANDBOX_ID: [load_public_key(merchant_keys.public, setting="merchant")]
        },
        clock_scale=0,
    )
    async with serving(server_config(options)) as port:
        yield port


@pytest.fixture
async def wire(antom_port: int) -> AsyncIterator[HeldWire]:
    """The way to the emulator."""
    async with open_wire(f"http://127.0.0.1:{antom_port}") as wire:
        yield HeldWire(wire)


@pytest.fixture
def antom(wire: HeldWire, merchant_keys: KeyPair, antom_keys: KeyPair) -> AntomClient:
    """The real client of Antom, over `wire`."""
    signer = Signer(load_private_key(merchant_keys.private, setting="merchant"), SANDBOX_ID)
    verifier = Verifier([load_public_key(antom_keys.public, setting="antom")])
    return AntomClient(wire, signer, verifier, now=lambda: datetime.now(UTC))  # type: ignore[arg-type]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """The spans that ended; all are sampled unless a caller says otherwise."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    yield lambda: list(exporter.get_finished_spans())
    provider.shutdown()


@pytest.fixture
def log_text() -> Iterator[Callable[[], str]]:
    """What our own log handler has written."""
    root, ours = logging.getLogger(), logging.getLogger("antom_payments")
    kept = root.handlers[:], root.level, ours.level
    telemetry.configure_logs("DEBUG", "json")
    [handler] = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    handler.setStream(written)
    yield written.getvalue
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    ours.setLevel(kept[2])
