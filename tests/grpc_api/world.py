"""The gRPC server on real parts and real sockets, and what a caller sees of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from antom_payments.antom import AntomClient, SessionPolicy
from antom_payments.event_stream import EventStream, Pace
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.grpc_api import DrainOptions, GrpcOptions, GrpcServer, StreamOptions, encode
from antom_payments.grpc_api.edge import Edge
from antom_payments.grpc_api.limits import Admission, CallLimits
from antom_payments.money import Money
from antom_payments.payment import Source
from antom_payments.service import Merchant, PaymentService
from antom_payments.store import Member, PaymentStore
from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from clock import FrozenClock
from event_stream.news import News
from grpc_api.sessions import new_id

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""
AT_ONCE = DrainOptions(endpoint_delay_seconds=0, spread_seconds=0, grace_seconds=5)
EAGER = Pace(busy_seconds=0.001, idle_seconds=0.01, retry_seconds=0.001, max_retry_seconds=0.01)
EARLIEST = pb.StreamPaymentEventsRequest(earliest=pb.StreamPaymentEventsRequest.Earliest())
LATEST = pb.StreamPaymentEventsRequest(latest=pb.StreamPaymentEventsRequest.Latest())
POLICY = SessionPolicy(notify_url="https://pay.example/antom/notify")


def options(**changes: Any) -> GrpcOptions:
    """A free port, and a drain that waits for nobody but calls."""
    return GrpcOptions(**{"address": "127.0.0.1:0", "drain": AT_ONCE} | changes)


def stream_options(**changes: Any) -> GrpcOptions:
    return options(streams=replace(StreamOptions(), **changes))


@dataclass
class Following:
    """A stream as its caller reads it."""

    call: Any
    responses: list[pb.StreamPaymentEventsResponse] = field(default_factory=list)

    @property
    def events(self) -> list[Any]:
        return [event for response in self.responses for event in response.events]

    @property
    def markers(self) -> list[str | None]:
        return [response.WhichOneof("marker") for response in self.responses]

    @property
    def cursor(self) -> str:
        return self.responses[-1].cursor

    async def read(self) -> pb.StreamPaymentEventsResponse:
        """The next response; raises the status when the stream ended."""
        async with asyncio.timeout(PATIENCE):
            response = await self.call.read()
        if response is grpc.aio.EOF:
            raise AssertionError("a subscription never ends with OK")
        self.responses.append(response)
        return response

    async def until_events(self, count: int) -> Following:
        while len(self.events) < count:
            await self.read()
        return self

    async def until_marker(self, marker: str) -> pb.StreamPaymentEventsResponse:
        while True:
            response = await self.read()
            if response.WhichOneof("marker") == marker:
                return response

    async def until_end(self) -> Refusal:
        """Read until the stream ends; the status that it ends with."""
        try:
            while True:
                await self.read()
        except grpc.aio.AioRpcError as error:
            return Refusal(error)


class Refusal:
    """A status with its details."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        status = rpc_status.from_call(error)
        self.error = error
        self.code = error.code()
        self.message = error.details() or ""
        self.status: status_pb2.Status = status or status_pb2.Status()
        self.info = self._detail(error_details_pb2.ErrorInfo)
        self.retry_info = self._detail(error_details_pb2.RetryInfo)
        self.bad_request = self._detail(error_details_pb2.BadRequest)

    @property
    def reason(self) -> str:
        return str(self.info.reason)

    @property
    def retry_seconds(self) -> float:
        return float(self.retry_info.retry_delay.ToNanoseconds() / 1e9)

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.bad_request.field_violations]

    @property
    def wire_bytes(self) -> bytes:
        """Everything that came over the wire."""
        trailing = self.error.trailing_metadata() or ()
        return b"|".join(
            [self.message.encode(), self.status.SerializeToString()]
            + [str(value).encode() for _, value in trailing]
        )

    def _detail(self, kind: Any) -> Any:
        found = kind()
        for detail in self.status.details:
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(found)
        return found


async def refusal_of(call: Any) -> Refusal:
    """The status that a unary call is refused with."""
    try:
        async with asyncio.timeout(PATIENCE):
            await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError("the call worked")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)


async def pour(store: PaymentStore, count: int = 6_000) -> int:
    """Fill the log with some megabytes, more than gRPC buffers; returns how many events."""
    await News(store).about("order-1")
    told = news("order-1")
    for start in range(1, count, 500):
        number = min(500, count - start)
        await store.apply([Member(replace(told, fact_id=new_id())) for _ in range(number)])
    return count


def news(payment_request_id: str, **changes: Any) -> Fact:
    """News of another amount: an event each, of the same size, which concludes nothing."""
    fields: dict[str, Any] = {
        "merchant_account": "default",
        "kind": FactKind.PAYMENT,
        "outcome": Outcome.SUCCEEDED,
        "payment_id": "P-1",
        "fact_id": new_id(),
        "source": Source.INQUIRY,
        "amount": Money("EUR", 1),
        "payment_request_id": payment_request_id,
    }
    return Fact(**fields | changes)


@dataclass
class Served:
    """A server, its parts, and a caller's stub."""

    server: GrpcServer
    store: PaymentStore
    stream: EventStream
    news: News
    channel: grpc.aio.Channel
    stub: Any

    def follow(self, request: pb.StreamPaymentEventsRequest = EARLIEST, **call: Any) -> Following:
        return Following(self.stub.StreamPaymentEvents(request, **call))


@contextlib.asynccontextmanager
async def serving(
    store: PaymentStore,
    grpc_options: GrpcOptions | None = None,
    *,
    clock: FrozenClock | None = None,
    antom: AntomClient | None = None,
    check: Callable[[], Any] | None = None,
    merchants: tuple[str, ...] = ("default",),
) -> AsyncIterator[Served]:
    """The server over ``store``, with one caller connected."""
    now = (clock or FrozenClock()).now
    stream = EventStream(store.log, encode=encode, pace=EAGER)
    tail = asyncio.create_task(stream.run())
    configured = {name: Merchant(name, antom, POLICY) for name in merchants}  # type: ignore[arg-type]
    service = PaymentService(store, configured, now=now, call_budget_seconds=5)
    server = GrpcServer(
        service, stream, check=check or store.ping, options=grpc_options or options(), now=now
    )
    try:
        async with server, connected(server.port) as channel:
            yield Served(
                server, store, stream, News(store), channel, pb_grpc.PaymentServiceStub(channel)
            )
        await service.drain()
    finally:
        tail.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tail


@contextlib.asynccontextmanager
async def connected(port: int, **arguments: int) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own, not one shared with other channels of the process."""
    named = {"grpc.use_local_subchannel_pool": 1} | {
        f"grpc.{name.replace('__', '.')}": value for name, value in arguments.items()
    }
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=list(named.items())
    ) as channel:
        yield channel


@contextlib.asynccontextmanager
async def edge_around(
    methods: dict[str, Any], limits: CallLimits | None = None
) -> AsyncIterator[tuple[grpc.aio.Channel, Admission]]:
    """A server with the given handlers of service `test.Service`, behind the edge."""
    admission = Admission(limits or CallLimits())
    server = grpc.aio.server(interceptors=[Edge(admission)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(port) as channel:
            yield channel, admission
    finally:
        await server.stop(None)
