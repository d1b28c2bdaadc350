"""A sidecar on a real store, asked over real sockets, and an Antom that signs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import Table, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from antom_payments.antom.signing import Signer
from antom_payments.money import Money
from antom_payments.notifications import Counts, NotificationApp
from antom_payments.payment import Payment
from antom_payments.payment_event import PaymentEvent
from antom_payments.session import Session
from antom_payments.store import PaymentStore
from antom_payments.store.tables import notifications
from notifications.wire import Answer, ask, request

GOLDEN = Path(__file__).parent.parent / "golden" / "antom"
CLIENT_ID = "SANDBOX_5X00000000000000"
PATH = "/antom/notify"
ACKNOWLEDGEMENT = (
    b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'
)
Headers = list[tuple[str, str]]


def sample(name: str) -> bytes:
    """One of the seed's messages, byte for byte."""
    [file] = (GOLDEN / "samples" / "seed").glob(f"{name}_*.json")
    return file.read_bytes()


def message(name: str = "03", **changes: object) -> bytes:
    """A message of the seed with some fields changed; a field set to None is left out."""
    fields = json.loads(sample(name)) | changes
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


@dataclass
class Antom:
    """Signs notifications as Antom does."""

    signer: Signer
    now: Callable[[], datetime]

    def headers(
        self, body: bytes, *, uri: str = PATH, time: str | None = None, client_id: str = CLIENT_ID
    ) -> Headers:
        """The headers of a notification of ``body``, signed for ``uri``."""
        time = time or self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        self.signer.client_id = client_id
        return [
            ("content-type", "application/json; charset=UTF-8"),
            ("client-id", client_id),
            ("request-time", time),
            ("signature", self.signer.signature_header("POST", uri, time, body)),
        ]


@dataclass
class Metrics:
    """What was counted."""

    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def counts(self) -> Counts:
        provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        return Counts(provider.get_meter("test").create_counter("antom_payments.notifications"))

    def outcomes(self) -> dict[str, int]:
        """Notifications by `outcome` or `outcome/reason`."""
        told: dict[str, int] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "antom_payments.notifications":
                        for point in metric.data.data_points:
                            if point.value:
                                told["/".join(point.attributes.values())] = point.value
        return told


@dataclass
class Sidecar:
    """A running sidecar."""

    app: NotificationApp
    antom: Antom
    metrics: Metrics
    port: int

    async def notify(self, body: bytes, **signed: Any) -> Answer | None:
        """Send ``body`` as Antom does; the answer."""
        return await self.post(body, self.antom.headers(body, **signed))

    async def app_has_under_way(self, count: int) -> None:
        """Wait until the application works on ``count`` requests, each of which has begun."""
        while len(self.app._under_way) < count:  # noqa: ASYNC110 - nothing tells when it has
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def post(
        self, body: bytes, headers: Headers, *, target: str = PATH, method: str = "POST"
    ) -> Answer | None:
        return await ask(self.port, request(body, headers=headers, target=target, method=method))


Starts = Callable[..., contextlib.AbstractAsyncContextManager[Sidecar]]


async def seed_payment(store: PaymentStore, now: datetime, **changes: Any) -> Payment:
    """The payment that the seed's PAYMENT_RESULT is about, with a session and `isAuthorization`."""
    intent = Payment(
        **{
            "merchant_account": "default",
            "payment_request_id": "paymentRequestId01",
            "amount": Money("SGD", 4200),
            "reference_order_id": "order-1",
            "payment_method_type": "CARD",
            "capture_mode": "",
            "capture_expected": True,
            "create_time": now,
            "update_time": now,
        }
        | changes
    )
    claim = await store.begin_session(intent, b"{}", lease_seconds=10)
    return (await store.confirm_session(claim, Session("data", "id"))).payment


async def events_of(store: PaymentStore) -> list[PaymentEvent]:
    """The whole log, from 1 on."""
    return list((await store.log.page(0)).events)


@dataclass
class Held:
    """A service that waits before it applies."""

    inner: Any = None
    error: Exception | None = None
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def apply_notification(self, *told: Any) -> Any:
        self.begun.release()
        await self.go_on.wait()
        if self.error:
            raise self.error
        return await self.inner.apply_notification(*told)


def assert_acknowledged(answer: Answer | None) -> None:
    assert answer is not None
    assert answer.status == 200
    assert answer.body == ACKNOWLEDGEMENT
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(ACKNOWLEDGEMENT)),
    }


def engine_of(database_url: str) -> AsyncEngine:
    """An engine of our own; dispose of it."""
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    url = make_url(database_url)
    return create_async_engine(url.set(drivername=driver[url.get_backend_name()]))


async def stored(database_url: str, table: Table = notifications) -> list[dict]:
    """The rows of a table, read on a connection of our own."""
    engine = engine_of(database_url)
    try:
        async with engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(select(table))).mappings()]
    finally:
        await engine.dispose()


def assert_unavailable(answer: Answer | None) -> None:
    assert answer is not None
    assert answer.head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.body == b""
