"""Our processes: a server and a sidecar, composed as `app` composes them, but for the sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)

from antom_payments.antom import AntomClient, SessionPolicy
from antom_payments.antom.signing import Signer, Verifier, load_private_key, load_public_key
from antom_payments.antom.wire import Budgets, Wire
from antom_payments.errors import StoreUnavailable
from antom_payments.event_stream import EventStream, Pace
from antom_payments.grpc_api.convert import encode
from antom_payments.housekeeping import keep_house
from antom_payments.notifications import Counts, NotificationApp, Sender, notification_app
from antom_payments.reconcile import ReconcileOptions, Reconciler
from antom_payments.service import Merchant, PaymentService
from antom_payments.store import DataCipher, PaymentStore, PoolOptions, Windows, open_store
from keys import golden_pair
from simulation.history import History
from simulation.loop import Process

MERCHANTS: Mapping[str, str] = {
    "shop-a": "SANDBOX_5X0000000000000A",
    "shop-b": "SANDBOX_5X0000000000000B",
}
"""Merchant accounts and their client ids."""
NOTIFY_PATH = "/antom/notify"
NOTIFY_URL = f"https://pay.example{NOTIFY_PATH}"
DATA_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
CALL_BUDGET_SECONDS = 10.0


@dataclass(frozen=True)
class Pacing:
    """How often our processes look; slower than in production, so that a day is cheap."""

    look_seconds: float
    sweep_seconds: float
    prune_seconds: float
    tail: Pace


BUSY = Pacing(15.0, 90.0, 120.0, Pace(busy_seconds=1.5, idle_seconds=40.0))
CALM = Pacing(7000.0, 30_000.0, 90_000.0, Pace(busy_seconds=60.0, idle_seconds=20_000.0))
"""When faults are over and hours pass."""


@dataclass(frozen=True)
class Surroundings:
    """What a process of ours finds around it."""

    database_url: str
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    way_to_antom: Callable[[], httpx.AsyncBaseTransport]
    windows: Windows
    pacing: Pacing
    history: History
    antom_keys: Sequence[RSAPublicKey]
    """Whose signatures it accepts."""
    epoch: int
    """Of the database: a restore begins another."""


@cache
def merchant_key() -> Any:
    """What merchants sign with."""
    return load_private_key(golden_pair("merchant").private, setting="test")


@cache
def antom_key() -> Any:
    """What Antom signs with."""
    return load_private_key(golden_pair("antom").private, setting="test")


@cache
def next_antom_key() -> RSAPrivateKey:
    """What Antom signs with after a rotation; nothing that happens depends on its bytes."""
    return generate_private_key(public_exponent=65537, key_size=2048)


@cache
def public_key(owner: str) -> Any:
    """The public half of `merchant`'s or `antom`'s key."""
    return load_public_key(golden_pair(owner).public, setting="test")


class Replica:
    """One process of ours, from its start to its end, whichever that is."""

    kind = ""

    def __init__(self, process: Process, around: Surroundings) -> None:
        self.process = process
        self.around = around
        self.epoch = around.epoch
        self.store: PaymentStore
        self._is_ready = False
        self.is_broken = False
        """Whether it ended as no process may: another would, too."""
        self.stopping = asyncio.Event()
        self.has_stopped = asyncio.Event()

    @property
    def serves(self) -> bool:
        """Whether a load balancer sends anybody here."""
        return self._is_ready and self.process.is_alive

    async def run(self) -> None:
        """Serve until told to stop; a database that is away ends the start."""
        try:
            async with contextlib.AsyncExitStack() as parts:
                await self._start(parts)
                self._is_ready = True
                self.around.history.note(f"{self.process.name} serves")
                await self.stopping.wait()
                self._is_ready = False
                await self._drain()
        except StoreUnavailable:
            self.around.history.count("start without database")
        except Exception as error:  # noqa: BLE001 - whatever ends a process is a violation
            self.is_broken = True
            self.around.history.violated("a process runs", f"{self.process.name}: {error!r}")
        finally:
            self._is_ready = False
            self.has_stopped.set()

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        raise NotImplementedError

    async def _drain(self) -> None:
        raise NotImplementedError

    async def _store(self, parts: contextlib.AsyncExitStack) -> PaymentStore:
        return await parts.enter_async_context(
            open_store(
                self.around.database_url,
                cipher=DataCipher(DATA_KEY),
                now=self.around.now,
                pool=PoolOptions(size=3),
                windows=self.around.windows,
                private_data_window=timedelta(hours=2),
            )
        )


class Server(Replica):
    """What answers callers and subscribers, and asks Antom."""

    kind = "server"
    service: PaymentService
    stream: EventStream
    reconciler: Reconciler

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        around = self.around
        self.store = await self._store(parts)
        merchants = {
            name: Merchant(name, self._client(client_id), SessionPolicy(notify_url=NOTIFY_URL))
            for name, client_id in MERCHANTS.items()
        }
        self.service = PaymentService(
            self.store, merchants, now=around.now, call_budget_seconds=CALL_BUDGET_SECONDS
        )
        pacing = around.pacing
        self.reconciler = Reconciler(
            self.store,
            self.service.inquirer,
            merchants,
            now=around.now,
            call_budget_seconds=CALL_BUDGET_SECONDS,
            options=ReconcileOptions(
                look_seconds=pacing.look_seconds, sweep_seconds=pacing.sweep_seconds
            ),
        )
        # A small ring and small pages: both ways of reading are taken.
        self.stream = EventStream(
            self.store.log,
            encode=encode,
            ring_events=6,
            start_events=3,
            page_events=2,
            page_reads=2,
            pace=pacing.tail,
        )
        await parts.enter_async_context(self._running(self.stream.run()))
        pruning = keep_house(
            self.store.retention, now=around.now, pause_seconds=pacing.prune_seconds
        )
        await parts.enter_async_context(self._running(pruning))
        await parts.enter_async_context(self._running(self.reconciler.run()))

    async def _drain(self) -> None:
        await self.service.drain()

    def _client(self, client_id: str) -> AntomClient:
        http = httpx.AsyncClient(
            base_url="https://antom.example", transport=self.around.way_to_antom(), trust_env=False
        )
        return AntomClient(
            Wire(http, Budgets(connect=1.0, read=3.0, total=4.0)),
            Signer(merchant_key(), client_id),
            Verifier(self.around.antom_keys),
            now=self.around.now,
            monotonic=self.around.monotonic,
        )

    @contextlib.asynccontextmanager
    async def _running(self, work: Coroutine[None, None, None]) -> AsyncIterator[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.around.history.violated("background work goes on", repr(task.exception()))


class Sidecar(Replica):
    """What takes notifications."""

    kind = "sidecar"
    app: NotificationApp

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        self.store = await self._store(parts)
        verifier = Verifier(self.around.antom_keys)
        self.app = notification_app(
            PaymentService(self.store, {}, now=self.around.now),
            {client_id: Sender(name, verifier) for name, client_id in MERCHANTS.items()},
            path=NOTIFY_PATH,
            clock=self.around.now,
            counts=Counts(),
        )

    async def _drain(self) -> None:
        await self.app.drain()
