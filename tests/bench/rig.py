"""What every measurement stands on: databases, the product's processes, and callers.

A server has one core to itself, and callers, gateway and this process have the others; where there
is one core only, all share it. PostgreSQL runs wherever it is put.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from antom.wires import authority
from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.store.sessions import Intent
from bench.child import Child, module, running
from bench.rounds import Sample
from facts import a_payment
from notifications.sidecars import CLIENT_ID, PATH
from official_sdk.environment import official_sdk
from processes import environment
from stored import REQUEST
from whole import key_files

TESTS = Path(__file__).parent.parent
SERVICE = TESTS.parent / "service"
MANY = 100_000
"""More than any measurement opens: limits are not what is measured."""


@dataclass(frozen=True)
class Served:
    """A process that is measured, and its port."""

    process: Child
    port: int


@dataclass
class Rig:
    """Starts what a measurement asks for."""

    folder: Path
    fresh: Callable[[str], AbstractAsyncContextManager[str]]
    """Makes a database of a kind, and yields its URL."""
    rounds: int = 5
    size: float = 1.0
    """Operations of a round, as a part of the usual number; tests take a hundredth."""
    progress: Callable[[str], None] = lambda _: None
    server_cores: set[int] = field(default_factory=set)
    other_cores: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        first, *rest = sorted(os.sched_getaffinity(0))
        self.server_cores, self.other_cores = {first}, set(rest) or {first}
        # One authority for all of a run: its files are what both sides trust.
        self._authority = authority(self.folder)
        self._keys = key_files(self.folder)
        self._cipher = DataCipher(Path(self._keys["data_key_file"]).read_text())

    def count(self, usual: int) -> int:
        """How many operations to do instead of ``usual``."""
        return max(2, round(usual * self.size))

    @asynccontextmanager
    async def server(
        self, database_url: str, antom_port: int = 1, **telemetry: str
    ) -> AsyncIterator[Served]:
        """`antom-payments serve`, with these OTEL_* variables."""
        environment_ = self._environment(database_url, antom_port) | telemetry
        command = (sys.executable, "-m", "antom_payments", "serve")
        async with running(command, self.server_cores, environment_, says="grpc_serving") as (
            process,
            told,
        ):
            yield Served(process, told["port"])

    @asynccontextmanager
    async def sidecar(self, database_url: str, *, one_each: bool = False) -> AsyncIterator[Served]:
        """`antom-payments notifications`; with ``one_each`` without group commit."""
        product = (sys.executable, "-m", "antom_payments", "notifications")
        async with running(
            module("one_each") if one_each else product,
            self.server_cores,
            self._environment(database_url),
            says="notifications_serving",
        ) as (process, told):
            yield Served(process, told["port"])

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[Served]:
        """The least that grpc.aio can do."""
        async with running(module("bare"), self.server_cores, environment({}) | self._paths()) as (
            process,
            _,
        ):
            yield Served(process, await process.answer())

    @asynccontextmanager
    async def official_server(
        self, database_url: str, antom_port: int, threads: int
    ) -> AsyncIterator[Served]:
        """The same as `server`, but for the official SDK as its client, in that one's packages."""
        command = _beside_the_sdk("sdk_server", str(SERVICE), str(antom_port), str(threads))
        environment_ = self._environment(database_url, antom_port)
        async with running(command, self.server_cores, environment_, says="grpc_serving") as (
            process,
            told,
        ):
            yield Served(process, told["port"])

    @asynccontextmanager
    async def official_signer(self) -> AsyncIterator[Child]:
        """The official SDK's signing."""
        command = _beside_the_sdk("sdk_signing")
        async with running(command, self.server_cores, environment({})) as (process, _):
            yield process

    @asynccontextmanager
    async def script(self, name: str, *, measured: bool = False) -> AsyncIterator[Child]:
        """A module of this folder: a caller, or what is measured itself."""
        cores = self.server_cores if measured else self.other_cores
        async with running(module(name), cores, environment({}) | self._paths()) as (process, _):
            yield process

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Served]:
        """An Antom with one answer."""
        files = (str(self._authority.ca_file), str(self.folder / "key.pem"))
        async with running(
            (*module("gateway"), *files), self.other_cores, environment({}) | self._paths()
        ) as (process, _):
            yield Served(process, await process.answer())

    @asynccontextmanager
    async def store(self, database_url: str) -> AsyncIterator[PaymentStore]:
        """The store itself, in this process."""
        async with open_store(database_url, cipher=self._cipher, now=utc_now) as store:
            yield store

    def _environment(self, database_url: str, antom_port: int = 1) -> dict[str, str]:
        settings = self._keys | {
            "database_url": database_url,
            "database_pool_timeout_seconds": 60,
            "client_id": CLIENT_ID,
            "antom_url": f"https://localhost:{antom_port}",
            "notify_url": f"http://127.0.0.1:1{PATH}",
            "grpc_address": "127.0.0.1:0",
            "grpc_streams": MANY,
            "grpc_streams_per_peer": MANY,
            "notification_address": "127.0.0.1:0",
        }
        return (
            environment(settings)
            | self._paths()
            | {"SSL_CERT_FILE": str(self._authority.ca_file), "SSL_CERT_DIR": str(self.folder)}
        )

    def _paths(self) -> dict[str, str]:
        return {"PYTHONPATH": str(TESTS)}


def _beside_the_sdk(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a script of this folder with the official SDK, our packages behind."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    script = str(Path(__file__).with_name(f"{name}.py"))
    python = str(official_sdk().python)
    return (python, "-W", "ignore", "-I", script, str(TESTS), packages, *arguments)


async def measured(served: Served, operations: int, work: Any) -> Sample:
    """A rate, from an awaitable of the seconds that so many operations took."""
    spent = served.process.cpu_seconds()
    seconds = await work
    return Sample.rate(operations, seconds, served.process.cpu_seconds() - spent)


async def begin_payments(store: PaymentStore, names: list[str]) -> None:
    """Payments that wait for what Antom tells, in one transaction."""

    intents = [
        Intent(
            a_payment(
                version=0,
                payment_request_id=name,
                reference_order_id=name,
                create_time=utc_now(),
                update_time=utc_now(),
            ),
            REQUEST,
            lease_token=name,
            lease_seconds=10,
        )
        for name in names
    ]
    await store._database.write(lambda connection: store._sessions.begin(connection, intents))


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
