"""The town: PostgreSQL, two servers, two sidecars and Antom, each a process, and proxies between.

Every way from one to another leads through a proxy of its own, so that it can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from sqlalchemy import make_url

from antom_payments.store import migrate
from chaos.board import Board
from chaos.process import PATIENCE, Process
from database_proxy import DatabaseProxy
from keys import golden_pair
from postgres_cluster import PostgresCluster, postgres_cluster
from postgres_server import DURABLE
from processes import as_environment
from whole import CLIENT_ID, PATH, settings

ACKNOWLEDGEMENT_SECONDS = 2.0
"""Antom's patience for the answer to a notification."""
FORKER = Path(__file__).with_name("forker.py")


def kept_port() -> int:
    """A free port that stays free while what listens there is dead.

    Below those that the system gives to whoever connects: a client that tries and tries would be
    given the very port that it tries, and be connected to itself.
    """
    while True:
        port = SystemRandom().randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Road(DatabaseProxy):
    """A way to one of several: each connection goes to the next that takes it."""

    def __init__(self, *ports: int) -> None:
        super().__init__(make_url(f"tcp://127.0.0.1:{ports[0]}"))
        self._ports = list(ports)

    async def reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._ports.append(self._ports.pop(0))
        *first, last = self._ports
        for port in first:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return await asyncio.open_connection("127.0.0.1", last)


@dataclass
class Town:
    """Everything that runs, and the roads between."""

    folder: Path
    cluster: PostgresCluster
    seed: int
    board: Board
    forker: asyncio.subprocess.Process
    processes: dict[str, Process] = field(default_factory=dict)
    roads: dict[str, DatabaseProxy] = field(default_factory=dict)

    @property
    def servers(self) -> list[Process]:
        return [self.processes["server-0"], self.processes["server-1"]]

    @property
    def sidecars(self) -> list[Process]:
        return [self.processes["sidecar-0"], self.processes["sidecar-1"]]

    @property
    def emulator(self) -> Process:
        return self.processes["emulator"]

    @cached_property
    def http(self) -> httpx.AsyncClient:
        """Antom's own interface, without the road that servers take."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.emulator.order['emulator']['port']}/emulator",
            trust_env=False,
            timeout=60,
        )

    @cached_property
    def next_key(self) -> tuple[str, str]:
        """What Antom rotates to: private and public, as PEM."""
        return _new_pair()

    @cached_property
    def next_merchant_key(self) -> tuple[str, str]:
        """What the merchant rotates to, and back from."""
        return _new_pair()

    def other_merchant_key(self, file: str) -> str:
        """The file with the merchant's key that is not in ``file``."""
        files = [str(self.folder / name) for name in ("merchant_private_key_file", "merchant_next")]
        return files[files.index(file) - 1]

    @property
    def target(self) -> str:
        """Where callers connect: both servers, each through its road."""
        ports = [self.roads[f"callers-{one.name}"].port for one in self.servers]
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)

    @property
    def notify_url(self) -> str:
        return f"http://127.0.0.1:{self.roads['notifications'].port}{PATH}"

    def secrets(self) -> dict[str, str]:
        """What nobody may print."""
        return {
            "the database's password": self.cluster.password,
            **{
                f"data key {number}": key
                for number, key in enumerate((self.folder / "data_key_file").read_text().split())
            },
            "the merchant's private key": golden_pair("merchant").private[40:120],
            "the merchant's next private key": _of_one_line(self.next_merchant_key[0]),
            "Antom's private key": golden_pair("antom").private[40:120],
            "Antom's next private key": _of_one_line(self.next_key[0]),
        }

    def send(self, order: Mapping[str, Any]) -> None:
        assert self.forker.stdin
        self.forker.stdin.write(json.dumps(order).encode() + b"\n")

    async def follow_reports(self) -> None:
        """Note what the forker says, for ever."""
        assert self.forker.stdout
        while line := await self.forker.stdout.readline():
            told = json.loads(line)
            process = self.processes[told["name"]]
            match told["what"]:
                case "forked":
                    process.pid = told["pid"]
                case "ready":
                    process.is_ready.set()
                case "ended":
                    process.note_end(told["code"])

    def antom_now(self) -> datetime:
        """Antom's clock."""
        return self.board.now(self.emulator.slot)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass at once, for everybody but PostgreSQL."""
        self.board.put_ahead(0, self.board.ahead(0) + seconds)

    async def settle(self) -> None:
        """Wait until Antom has done what is due; without load, which keeps it at it for ever."""
        (await self.http.post("/clock", json={"advanceSeconds": 0})).raise_for_status()

    def process(self, name: str, kind: str, **order: Any) -> Process:
        """A process to be started; the same when there is one of that name."""
        if name not in self.processes:
            slot = len(self.processes) + 1
            told = {"name": name, "kind": kind, "slot": slot, "board": str(self.folder / "board")}
            told["log"] = str(self.folder / f"{name}.log")
            self.processes[name] = Process(name, told | order, slot, self.board, self.send)
        return self.processes[name]

    def settings_of(self, name: str, **more: Any) -> dict[str, str]:
        """What a server or a sidecar is told: its database is behind a road of its own."""
        files = ",".join(str(self.folder / file) for file in ("antom_public_key_files", "next.pem"))
        chosen = settings(
            self.folder,
            **{
                "database_url": f"{self.roads[f'database-{name}'].url}",
                "antom_url": f"http://127.0.0.1:{self.roads['antom'].port}",
                "antom_public_key_files": files,
                "notify_url": self.notify_url,
                "antom_connect_timeout_seconds": 1,
                "antom_read_timeout_seconds": 2,
                "antom_budget_seconds": 3,
                "antom_breaker_open_seconds": 0.5,
                "inquiries_per_second": 15,
                "grpc_streams_per_peer": 2000,
                "stream_checkpoint_seconds": 2,
                "stream_write_timeout_seconds": 3,
                "drain_delay_seconds": 0.3,
                "drain_grace_seconds": 2,
                **more,
            },
        )
        return {name: str(value) for name, value in as_environment(chosen).items()}

    def outputs(self) -> dict[str, str]:
        """What each process printed."""
        return {
            name: process.log.read_text(errors="replace")
            for name, process in self.processes.items()
            if process.log.exists()
        }

    async def open_roads(self) -> None:
        ports = {name: kept_port() for name in NAMES}
        for name in NAMES:
            self.roads[f"database-{name}"] = DatabaseProxy(make_url(self.cluster.url))
        for name in NAMES[:2]:
            self.roads[f"callers-{name}"] = Road(ports[name])
        self.roads["notifications"] = Road(*(ports[name] for name in NAMES[2:]))
        antom_port = kept_port()
        self.roads["antom"] = Road(antom_port)
        for road in self.roads.values():
            await road.accept()
        self._found(ports, antom_port)

    def _found(self, ports: Mapping[str, int], antom_port: int) -> None:
        private, public = self.next_key
        (self.folder / "next.pem").write_text(public)
        merchant_private, merchant_public = self.next_merchant_key
        (self.folder / "merchant_next").write_text(merchant_private)
        wish = {
            "antom_private_key": golden_pair("antom").private,
            "next_private_key": private,
            "merchant_public_keys": [golden_pair("merchant").public, merchant_public],
            "client_id": CLIENT_ID,
            "seed": self.seed,
            "timeout_seconds": ACKNOWLEDGEMENT_SECONDS,
            "port": antom_port,
        }
        self.process("emulator", "emulator", emulator=wish)
        for name in NAMES:
            kind = "serve" if name.startswith("server") else "notifications"
            address = "grpc_address" if kind == "serve" else "notification_address"
            told = self.settings_of(name, **{address: f"127.0.0.1:{ports[name]}"})
            self.process(name, kind, settings=told)


def _of_one_line(pem: str) -> str:
    """A part of a key that holds no line break, which an output may have left out or escaped."""
    return pem.splitlines()[5][:40]


def _new_pair() -> tuple[str, str]:
    """A key pair, private and public, as PEM."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


NAMES = ("server-0", "server-1", "sidecar-0", "sidecar-1")


@contextlib.asynccontextmanager
async def town(folder: Path, seed: int) -> AsyncIterator[Town]:
    """A town at work; all its processes are gone when the block is left."""
    forker = await asyncio.create_subprocess_exec(
        *(sys.executable, str(FORKER)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    async with contextlib.AsyncExitStack() as parts:
        parts.push_async_callback(_end, forker)
        cluster = await asyncio.to_thread(
            parts.enter_context, postgres_cluster(DURABLE, on_disk=True, port=kept_port())
        )
        one = Town(folder, cluster, seed, Board(folder / "board"), forker)
        reports = asyncio.create_task(one.follow_reports())
        parts.callback(reports.cancel)
        await migrate(cluster.url)
        await one.open_roads()
        for road in one.roads.values():
            parts.push_async_callback(road.close)
        await one.emulator.start()
        parts.push_async_callback(one.http.aclose)
        await asyncio.gather(*(one.processes[name].start() for name in NAMES))
        parts.push_async_callback(_stop, one)
        yield one


async def _stop(one: Town) -> None:
    """End every process, frozen ones too."""
    running = [process for process in one.processes.values() if process.is_there]
    for process in running:
        if process.pid:
            process.signal(signal.SIGKILL)


async def _end(forker: asyncio.subprocess.Process) -> None:
    """End the forker, which ends what it forked."""
    assert forker.stdin
    forker.stdin.close()
    try:
        async with asyncio.timeout(PATIENCE):
            await forker.wait()
    except TimeoutError:
        forker.kill()
        await forker.wait()
