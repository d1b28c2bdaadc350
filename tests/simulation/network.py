"""The network of the machine room: messages take time, get lost, come twice, and nobody is told.

Every message goes from process to process; a process that dies takes what it was working on with
it, and whoever waits for it learns of a cut connection at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

import aiohttp
import httpx

from simulation.history import History
from simulation.loop import Process, SeededLoop

T = TypeVar("T")

_SEVER = "antom_payments.sever"
_NEVER_SECONDS = 100_000.0
"""Longer than anybody waits."""


class Refused(Exception):
    """Nobody listens."""


class Cut(Exception):
    """The other end is gone; what it did, nobody knows."""


@dataclass
class Weather:
    """How probably a message meets with something, and how slow the network is."""

    refused: float = 0.0
    lost: float = 0.0
    answer_lost: float = 0.0
    twice: float = 0.0
    slow: float = 0.0

    def drawn(self, random: Random) -> str:
        """What happens to a message; empty when all goes well."""
        chance = random.random()
        for name, share in vars(self).items():
            if chance < share:
                return name
            chance -= share
        return ""


CALM = Weather()


@dataclass(frozen=True)
class HttpAnswer:
    """What an ASGI application answered; status 0 when it cut the connection."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class Network:
    """Carries calls between processes."""

    def __init__(self, loop: SeededLoop, random: Random, history: History) -> None:
        self.loop = loop
        self.random = random
        self.history = history
        self.to_antom = CALM
        self.to_us = CALM

    async def latency(self) -> None:
        """How long a message takes: milliseconds, now and then much longer."""
        slow = self.random.random() < 0.02
        await asyncio.sleep(self.random.expovariate(1.0 if slow else 100.0))

    async def call(self, process: Process, work: Callable[[], Awaitable[T]]) -> T:
        """Let ``process`` do ``work`` and bring its answer. Raises Refused, Cut, and its errors."""
        await self.latency()
        if not process.is_alive:
            raise Refused
        answer: asyncio.Future[T] = self.loop.create_future()

        def tell(error: BaseException | None, result: Any = None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)
                answer._log_traceback = False  # nobody may be waiting any more

        def cut() -> None:
            tell(Cut())

        async def serve() -> None:
            try:
                result = await work()
                await self.latency()
            except Exception as error:  # noqa: BLE001 - it is the caller's
                tell(error)
            else:
                tell(None, result)
            finally:
                if cut in process.at_death:
                    process.at_death.remove(cut)

        process.at_death.append(cut)
        self.loop.spawn(process, serve())
        return await answer


async def ask(app: Any, request: httpx.Request) -> HttpAnswer:
    """Let an ASGI application answer one request."""
    target = request.url.raw_path
    path, _, query = target.partition(b"?")
    severed: list[bool] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 80),
        "extensions": {_SEVER: {"abort": lambda: severed.append(True)}},
    }
    messages = [{"type": "http.request", "body": request.content, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if severed or not sent:
        return HttpAnswer(0)
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    return HttpAnswer(sent[0]["status"], list(sent[0]["headers"]), whole)


class Ear(Protocol):
    """Hears what passes between us and Antom."""

    def asks(self, operation: str, body: bytes, sender: Process) -> None:
        """A process of ours begins to ask Antom."""

    def asked(self, operation: str, body: bytes, sender: Process) -> None:
        """It waits for no answer any more."""

    def told(self, operation: str, body: bytes, answer: HttpAnswer) -> None:
        """Antom has answered, whether or not that arrives."""

    def reached(self, request: httpx.Request, answer: HttpAnswer, sender: Process) -> None:
        """Antom's answer has come to the process that asked."""

    def answered(
        self, request: httpx.Request, answer: HttpAnswer, receiver: Process, since: float
    ) -> None:
        """A sidecar has answered what came to it at ``since``, whether or not that arrives."""


class WayToAntom(httpx.AsyncBaseTransport):
    """One process's connections to Antom; its failures are those of aiohttp."""

    def __init__(
        self, network: Network, sender: Process, antom: Process, gateway: Any, ear: Ear
    ) -> None:
        self._network = network
        self._sender = sender
        self._antom = antom
        self._gateway = gateway
        self._ear = ear

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request to Antom, and its answer back."""
        operation = request.url.path.rpartition("/")[2]
        self._ear.asks(operation, request.content, self._sender)
        try:
            return await self._asked(operation, request)
        finally:
            self._ear.asked(operation, request.content, self._sender)

    async def _asked(self, operation: str, request: httpx.Request) -> httpx.Response:
        network = self._network
        fate = network.to_antom.drawn(network.random)
        if fate:
            network.history.count(f"{operation} {fate}")
        if fate == "refused":
            raise aiohttp.ClientConnectorError(_KEY, OSError("refused"))
        if fate == "lost":
            await asyncio.sleep(_NEVER_SECONDS)
        if fate == "slow":
            await asyncio.sleep(network.random.uniform(0.5, 8.0))
        if fate == "twice":
            network.loop.spawn(self._antom, self._again(operation, request))
        answer = await self._carried(operation, request)
        if fate == "answer_lost" and network.random.random() < 0.5:
            await asyncio.sleep(_NEVER_SECONDS)
        if fate == "answer_lost" or not answer.status:
            raise aiohttp.ServerDisconnectedError
        self._ear.reached(request, answer, self._sender)
        return _as_response(answer)

    async def _carried(self, operation: str, request: httpx.Request) -> HttpAnswer:
        async def served() -> HttpAnswer:
            answer = await ask(self._gateway, request)
            self._ear.told(operation, request.content, answer)
            return answer

        return await self._network.call(self._antom, served)

    async def _again(self, operation: str, request: httpx.Request) -> None:
        await asyncio.sleep(self._network.random.uniform(0.0, 20.0))
        await self._carried(operation, request)


class WayToUs(httpx.AsyncBaseTransport):
    """Antom's connections to whichever sidecar the load balancer chooses."""

    def __init__(
        self,
        network: Network,
        antom: Process,
        choose: Callable[[], tuple[Process, Any]],
        ear: Callable[[], Ear],
    ) -> None:
        self._network = network
        self._antom = antom
        self._choose = choose
        self._ear = ear

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one notification, and the answer back."""
        network = self._network
        fate = network.to_us.drawn(network.random)
        if fate:
            network.history.count(f"notification {fate}")
        if fate == "refused":
            raise httpx.ConnectError("refused")
        if fate == "lost":
            await asyncio.sleep(_NEVER_SECONDS)
        if fate == "slow":
            await asyncio.sleep(network.random.uniform(0.5, 12.0))
        if fate == "twice":
            network.loop.spawn(self._antom, self._again(request))
        answer = await self._carried(request)
        if fate == "answer_lost":
            raise httpx.ReadError("cut")
        return _as_response(answer)

    async def _carried(self, request: httpx.Request) -> HttpAnswer:
        network = self._network
        try:
            process, app = self._choose()

            async def served() -> HttpAnswer:
                since = network.loop.time()
                answer = await ask(app, request)
                self._ear().answered(request, answer, process, since)
                return answer

            return await network.call(process, served)
        except Refused:
            raise httpx.ConnectError("refused") from None
        except Cut:
            raise httpx.ReadError("cut") from None

    async def _again(self, request: httpx.Request) -> None:
        await asyncio.sleep(self._network.random.uniform(0.0, 20.0))
        with contextlib.suppress(httpx.HTTPError):
            await self._carried(request)


def _as_response(answer: HttpAnswer) -> httpx.Response:
    """An answer that is still to be read, as one from a socket is."""
    stream = httpx.ByteStream(answer.body)
    return httpx.Response(answer.status, headers=answer.headers, stream=stream)


_KEY = SimpleNamespace(host="antom.example", port=443, is_ssl=True, ssl=True)
