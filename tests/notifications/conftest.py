"""Fixtures of the sidecar's tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from antom_payments import telemetry
from antom_payments.antom.signing import Signer, Verifier, load_private_key, load_public_key
from antom_payments.notifications import (
    HttpLimits,
    Sender,
    notification_app,
    serving,
    uvicorn_config,
)
from antom_payments.payment import Payment
from antom_payments.service import PaymentService
from antom_payments.store import PaymentStore
from clock import FrozenClock
from keys import KeyPair
from notifications.sidecars import CLIENT_ID, PATH, Antom, Metrics, Sidecar, Starts, seed_payment


@pytest.fixture
def antom(antom_keys: KeyPair, clock: FrozenClock) -> Antom:
    key = load_private_key(antom_keys.private, setting="test")
    return Antom(Signer(key, CLIENT_ID), clock.now)


@pytest.fixture(scope="session")
def senders(antom_keys: KeyPair) -> dict[str, Sender]:
    key = load_public_key(antom_keys.public, setting="test")
    return {CLIENT_ID: Sender("default", Verifier([key]))}


@pytest.fixture
def start_sidecar(senders: dict[str, Sender], antom: Antom, clock: FrozenClock) -> Starts:
    """Starts a sidecar in front of a service, with options of `notification_app`."""

    @contextlib.asynccontextmanager
    async def start(
        service: Any, *, limits: HttpLimits | None = None, **options: Any
    ) -> AsyncIterator[Sidecar]:
        metrics = Metrics()
        counts = metrics.counts()
        given = {"senders": senders, "path": PATH, "clock": clock.now, "counts": counts}
        app = notification_app(service, **(given | options))
        config = uvicorn_config(app, limits=limits or HttpLimits(), count_refusal=counts.malformed)
        async with serving(config, host="127.0.0.1", port=0) as port:
            yield Sidecar(app, antom, metrics, port)
        metrics.reader.shutdown()

    return start


@pytest.fixture
def service(store: PaymentStore, clock: FrozenClock) -> PaymentService:
    return PaymentService(store, {}, now=clock.now)


@pytest.fixture
async def sidecar(service: PaymentService, start_sidecar: Starts) -> AsyncIterator[Sidecar]:
    async with start_sidecar(service) as sidecar:
        yield sidecar


@pytest.fixture
def seed(store: PaymentStore, clock: FrozenClock) -> Callable[..., Awaitable[Payment]]:
    """Makes the payment that the seed's PAYMENT_RESULT is about, with changes."""
    return lambda **changes: seed_payment(store, clock.now(), **changes)


@pytest.fixture
async def payment(seed: Callable[..., Awaitable[Payment]]) -> Payment:
    """A payment that awaits its buyer; event 1 is its session."""
    return await seed()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """The spans that ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    yield lambda: list(exporter.get_finished_spans())
    provider.shutdown()
