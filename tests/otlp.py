"""A real OTLP collector, over gRPC or over HTTP, that keeps what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvicorn
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emulator.world import serving

PATIENCE = 20.0
_EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True, eq=False)
class Told:
    """A span as it was exported; ids are hexadecimal."""

    service: str
    schema_url: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_span_id: str
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...]
    """Trace and span."""
    is_error: bool
    has_message: bool
    """Whether its status has a text or it has events: places where exceptions are quoted."""
    seconds: float

    @property
    def ids(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


Enough = Callable[[list[Told]], object]


@dataclass
class Collector:
    """Spans in the order in which they came."""

    endpoint: str = ""
    protocol: str = "grpc"
    spans: list[Told] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    """Every byte of every request."""
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, request: bytes) -> bytes:
        """Keep an export request; what to answer."""
        self.raw += request
        for resource in collector.ExportTraceServiceRequest.FromString(request).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_told(span, service, scope.schema_url) for span in scope.spans]
        self._arrived.set()
        return collector.ExportTraceServiceResponse().SerializeToString()

    async def until(self, enough: Enough) -> list[Told]:
        """Wait until ``enough`` is true of the spans; all of them."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not enough(self.spans):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            names = [(span.name, span.links) for span in self.spans]
            raise AssertionError(f"not enough came: {names}") from None
        return self.spans

    def variables(self) -> dict[str, str]:
        """The standard variables with which a process exports to it."""
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": self.protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }


def _told(span: trace_pb2.Span, service: str, schema_url: str) -> Told:
    return Told(
        service=service,
        schema_url=schema_url,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        has_message=bool(span.status.message or span.events or span.trace_state),
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _attributes(items: Any) -> dict[str, Any]:
    def value(told: AnyValue) -> Any:
        return getattr(told, told.WhichOneof("value") or "string_value")

    return {item.key: value(item.value) for item in items}


@contextlib.asynccontextmanager
async def collecting(protocol: str = "grpc") -> AsyncIterator[Collector]:
    """Collect over that protocol (`grpc` or `http/protobuf`) while the block runs."""
    found = Collector(protocol=protocol)
    async with _over_grpc(found) if protocol == "grpc" else _over_http(found) as port:
        path = "" if protocol == "grpc" else "/v1/traces"
        found.endpoint = f"http://127.0.0.1:{port}{path}"
        yield found


@contextlib.asynccontextmanager
async def _over_grpc(found: Collector) -> AsyncIterator[int]:
    async def export(request: bytes, _context: object) -> bytes:
        return found.take(request)

    # Without deserialisers: the bytes as they come.
    method = grpc.unary_unary_rpc_method_handler(export)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_EXPORT, {"Export": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def _over_http(found: Collector) -> AsyncIterator[int]:
    async def export(request: Request) -> Response:
        return Response(found.take(await request.body()), media_type="application/x-protobuf")

    app = Starlette(routes=[Route("/v1/traces", export, methods=["POST"])])
    async with serving(uvicorn.Config(app, lifespan="off", log_config=None)) as port:
        yield port
