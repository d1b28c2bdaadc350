"""A payments server that behaves, call by call, as a test says: above all badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health import aio as aio_health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_status import rpc_status

from antom_payments.client import Backoff
from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_service_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    GetPaymentRequest,
    GetPaymentResponse,
    ListPaymentEventsRequest,
    ListPaymentEventsResponse,
    ListPaymentsRequest,
    ListPaymentsResponse,
    ReportSdkEventRequest,
    ReportSdkEventResponse,
    StreamPaymentEventsRequest,
    StreamPaymentEventsResponse,
)
from antom_payments.v1.payment_service_pb2_grpc import (
    PaymentServiceServicer,
    add_PaymentServiceServicer_to_server,
)

Context = grpc.aio.ServicerContext[Any, Any]
Script = Callable[[Context], Awaitable[None]]


@dataclass
class ScriptedService(PaymentServiceServicer):
    """Plays one script for each stream, and one answer for each call; remembers the requests."""

    streams: list[Script] = field(default_factory=list)
    answers: list[Message | Refusal] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a follower went away from a `stay`."""

    async def CreateSession(  # noqa: N802 the contract's name
        self, request: CreateSessionRequest, context: Context
    ) -> CreateSessionResponse:
        return await self._answer(request, context)

    async def GetPayment(  # noqa: N802 the contract's name
        self, request: GetPaymentRequest, context: Context
    ) -> GetPaymentResponse:
        return await self._answer(request, context)

    async def ListPayments(  # noqa: N802 the contract's name
        self, request: ListPaymentsRequest, context: Context
    ) -> ListPaymentsResponse:
        return await self._answer(request, context)

    async def ListPaymentEvents(  # noqa: N802 the contract's name
        self, request: ListPaymentEventsRequest, context: Context
    ) -> ListPaymentEventsResponse:
        return await self._answer(request, context)

    async def ReportSdkEvent(  # noqa: N802 the contract's name
        self, request: ReportSdkEventRequest, context: Context
    ) -> ReportSdkEventResponse:
        return await self._answer(request, context)

    async def StreamPaymentEvents(  # noqa: N802 the contract's name
        self, request: StreamPaymentEventsRequest, context: Context
    ) -> None:
        self.requests.append(request)
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if not self.streams:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the script is over")
        await self.streams.pop(0)(context)

    async def stay(self, _: Context) -> None:
        """Script: say nothing more, and tell when the follower leaves."""
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()

    async def _answer(self, request: Message, context: Context) -> Any:
        self.requests.append(request)
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        answer = self.answers.pop(0)
        if isinstance(answer, Refusal):
            await context.abort_with_status(answer.status())
        return answer

    @property
    def cursors(self) -> list[str]:
        """Where each stream was asked to start after; empty for other starts."""
        return [request.after_cursor for request in self.requests]


@dataclass(frozen=True)
class Refusal:
    """A status with details, as the service sends them."""

    code: grpc.StatusCode
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_seconds: float | None = None
    violations: Sequence[tuple[str, str]] = ()
    domain: str = "antom-payments"

    def __str__(self) -> str:
        return self.reason or self.code.name

    def status(self) -> grpc.Status:
        details: list[Message] = []
        if self.reason:
            details.append(
                error_details_pb2.ErrorInfo(
                    reason=self.reason, domain=self.domain, metadata=self.metadata
                )
            )
        if self.retry_after_seconds is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_after_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for path, description in self.violations:
                bad.field_violations.add(field=path, description=description)
            details.append(bad)
        packed = []
        for detail in details:
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        return rpc_status.to_status(
            status_pb2.Status(code=self.code.value[0], message="said no", details=packed)
        )


def message(
    ids: Iterable[str] = (), *, cursor: str, caught_up: bool = False
) -> StreamPaymentEventsResponse:
    """A message of the stream with events of these ids."""
    response = StreamPaymentEventsResponse(
        events=[PaymentEvent(event_id=event_id) for event_id in ids], cursor=cursor
    )
    if caught_up:
        response.caught_up.SetInParent()
    elif not response.events:
        response.checkpoint.SetInParent()
    return response


def say(*messages: StreamPaymentEventsResponse, then: Script | Refusal | None = None) -> Script:
    """A stream that sends ``messages`` and then does as told; ends with OK when told nothing."""

    async def script(context: Context) -> None:
        for response in messages:
            await context.write(response)
        if isinstance(then, Refusal):
            await context.abort_with_status(then.status())
        elif then is not None:
            await then(context)

    return script


@dataclass
class ScriptedServer:
    """A server on loopback."""

    server: grpc.aio.Server
    port: int

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop at once: streams end with UNAVAILABLE."""
        await self.server.stop(None)


@asynccontextmanager
async def scripted_server(
    service: ScriptedService,
    *,
    port: int = 0,
    credentials: grpc.ServerCredentials | None = None,
    health: aio_health.HealthServicer | None = None,
) -> AsyncIterator[ScriptedServer]:
    """Serve ``service`` on loopback."""
    server = grpc.aio.server()
    add_PaymentServiceServicer_to_server(service, server)
    if health is not None:
        add_HealthServicer_to_server(health, server)
    address = f"127.0.0.1:{port}"
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield ScriptedServer(server, port)
    finally:
        await server.stop(None)


@dataclass
class Relay:
    """A wire between client and server that can be cut."""

    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Drop every connection without a word."""
        while self.writers:
            self.writers.pop().transport.abort()


@asynccontextmanager
async def relay(to_port: int) -> AsyncIterator[Relay]:
    """Relay TCP connections to a port of loopback."""
    wire = Relay()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to_port)
        wire.writers += [writer, far_writer]
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        wire.reset()
        server.close()
        await server.wait_closed()


@dataclass
class Waits:
    """Takes the place of sleeping: remembers the waits, and moves a clock of its own."""

    seconds: list[float] = field(default_factory=list)
    now: float = 1000.0

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.now += seconds

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def backoff(self, random: float = 0.5) -> Backoff:
        return Backoff(random=lambda: random, clock=lambda: self.now, sleep=self.sleep)
