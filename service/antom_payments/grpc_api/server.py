"""The gRPC server: built, started and drained in the order that was measured to work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import grpc
from grpc_reflection.v1alpha import reflection

from antom_payments import telemetry
from antom_payments.errors import ConfigurationError
from antom_payments.event_stream import EventStream
from antom_payments.grpc_api.edge import Edge
from antom_payments.grpc_api.health import Health, HealthOptions
from antom_payments.grpc_api.limits import Admission, CallLimits
from antom_payments.grpc_api.servicer import SERVICE, Deadlines, PaymentServicer
from antom_payments.grpc_api.stream import OpenStreams, StreamOptions
from antom_payments.service import PaymentService
from antom_payments.v1 import payment_service_pb2_grpc

_AGE_MARGIN_SECONDS = 60.0

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """HTTP/2 connections. Times in seconds, sizes in bytes; the reasons are in ops 1.3 and 1.4.

    Attributes:
        keepalive_seconds: idle time before a ping,
        keepalive_timeout_seconds: and how long the peer has to answer it. A frozen peer is noticed
            after both; gRPC's own ping timeout, set with them, would add a minute.
        min_ping_seconds: shortest time between pings of a peer without data,
        ping_strikes: and how often it may be shorter.
        max_age_seconds: connections are asked to end after it (gRPC adds 10 % jitter), so that new
            replicas get traffic,
        max_age_grace_seconds: and are cut so much later.
        max_idle_seconds: connections without calls are closed after it.
        max_receive_bytes, max_send_bytes: longest messages.
        max_concurrent_streams: calls on one connection; more wait in the caller, invisibly.
    """

    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 10.0
    min_ping_seconds: float = 20.0
    ping_strikes: int = 2
    max_age_seconds: float = 1200.0
    max_age_grace_seconds: float = 1200.0
    max_idle_seconds: float = 900.0
    max_receive_bytes: int = 256 * 1024
    max_send_bytes: int = 1024 * 1024
    max_concurrent_streams: int = 1000

    def channel_arguments(self) -> list[tuple[str, int]]:
        """As gRPC core wants them."""
        timeout = round(self.keepalive_timeout_seconds * 1000)
        min_ping = round(self.min_ping_seconds * 1000)
        return [
            ("grpc.keepalive_time_ms", round(self.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", timeout),
            ("grpc.http2.ping_timeout_ms", timeout),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", min_ping),
            ("grpc.http2.max_ping_strikes", self.ping_strikes),
            ("grpc.max_connection_age_ms", round(self.max_age_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", round(self.max_age_grace_seconds * 1000)),
            ("grpc.max_connection_idle_ms", round(self.max_idle_seconds * 1000)),
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", self.max_send_bytes),
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            # Two servers on one port share its connections without a word.
            ("grpc.so_reuseport", 0),
        ]


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """How the server stops. In seconds; their sum must stay below the pod's termination grace.

    Attributes:
        endpoint_delay_seconds: how long calls are still taken after readiness ended, until load
            balancers know.
        spread_seconds: streams are ended over so long, so that not all callers come back at once.
        grace_seconds: what is still running so long after the GOAWAY is cut.
    """

    endpoint_delay_seconds: float = 10.0
    spread_seconds: float = 3.0
    grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Everything about the gRPC server that can be set.

    Raises ConfigurationError when streams could outlive their connections: no handler is told that
    its connection ages out, so a stream has only the grace for sure.
    """

    address: str = "127.0.0.1:50051"
    reflection: bool = False
    limits: CallLimits = field(default_factory=CallLimits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    streams: StreamOptions = field(default_factory=StreamOptions)
    health: HealthOptions = field(default_factory=HealthOptions)
    connections: ConnectionOptions = field(default_factory=ConnectionOptions)
    drain: DrainOptions = field(default_factory=DrainOptions)

    def __post_init__(self) -> None:
        longest = self.connections.max_age_grace_seconds - _AGE_MARGIN_SECONDS
        if self.streams.lifetime_seconds[1] > longest:
            raise ConfigurationError(
                "grpc stream lifetime",
                f"must be at most max_connection_age_grace - 60 s: {longest}",
            )


class GrpcServer:
    """Serves PaymentService and health while it is entered; leaving it drains.

    Args:
        service: the use cases.
        event_stream: running.
        check: raises when the service cannot serve now; readiness follows it.
        options: see `GrpcOptions`.
        now: the wall clock, aware UTC.
    """

    def __init__(
        self,
        service: PaymentService,
        event_stream: EventStream,
        *,
        check: Callable[[], Awaitable[None]],
        options: GrpcOptions | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._options = options or GrpcOptions()
        self.admission = Admission(self._options.limits)
        """The calls under way."""
        self.health = Health(check, self._options.health)
        """What health probes are told."""
        self.port = 0
        """Where it listens, once started."""
        self._streams = OpenStreams(self._options.streams)
        self._servicer = PaymentServicer(
            service,
            event_stream,
            streams=self._streams,
            stream_options=self._options.streams,
            deadlines=self._options.deadlines,
            now=now,
        )
        self._server: grpc.aio.Server | None = None
        self._measured = ExitStack()
        self._following_health: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.drain()

    async def start(self) -> None:
        """Open the port, not ready yet; readiness follows the first good check.

        Raises ConfigurationError when the address cannot be listened on.
        """
        self._server = grpc.aio.server(
            interceptors=[Edge(self.admission)],
            options=self._options.connections.channel_arguments(),
        )
        payment_service_pb2_grpc.add_PaymentServiceServicer_to_server(self._servicer, self._server)
        await self.health.register(self._server)
        if self._options.reflection:
            names = (SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        try:
            self.port = self._server.add_insecure_port(self._options.address)
        except RuntimeError:
            raise ConfigurationError(
                "grpc address", f"{self._options.address} cannot be listened on"
            ) from None
        await self._server.start()
        self._measured.enter_context(self.admission.measured())
        self._measured.enter_context(self._streams.written.measured())
        self._following_health = asyncio.create_task(self.health.follow())
        _log.info("grpc_serving", address=self._options.address, port=self.port)

    async def drain(self) -> None:
        """Stop without a call lost: see `DrainOptions`. Harmless when repeated.

        The GOAWAY goes first, then the streams end. The other way round a caller that comes back at
        once finds the same server again (measured: 267 times in 0.2 s).
        """
        server, self._server = self._server, None
        if server is None:
            return
        options = self._options.drain
        _log.info("grpc_draining", streams=self.admission.streams, unary=self.admission.unary)
        await self.health.drain()
        await asyncio.sleep(options.endpoint_delay_seconds)
        stopping = asyncio.create_task(server.stop(options.grace_seconds))
        # One turn of the loop, in which `stop` sends the GOAWAY.
        await asyncio.sleep(0)
        self._streams.end_all(options.spread_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(options.grace_seconds):
                await self.admission.idle()
        # Left are watches of health, which never end by themselves, and peers that do not read.
        await server.stop(None)
        await stopping
        if self._following_health is not None:
            await self._following_health
        self._measured.close()
        _log.info("grpc_stopped")
