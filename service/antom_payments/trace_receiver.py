"""Receives spans over OTLP on loopback, and shows traces with the links between them.

For the demo: what a tracing backend would show, without one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """What is shown of a span. Ids are hexadecimal; times are nanoseconds since the epoch."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start: int
    end: int
    linked_trace_ids: tuple[str, ...]


class TraceReceiver(collector_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self._arrived = asyncio.Event()

    async def Export(  # noqa: N802 - the name in the OTLP service
        self,
        request: collector.ExportTraceServiceRequest,
        context: object,  # noqa: ARG002 - the signature of a servicer
    ) -> collector.ExportTraceServiceResponse:
        """Keep the spans."""
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            service = names.get("service.name", "")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        ReceivedSpan(
                            service=service,
                            name=span.name,
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_span_id=span.parent_span_id.hex(),
                            start=span.start_time_unix_nano,
                            end=span.end_time_unix_nano,
                            linked_trace_ids=tuple(link.trace_id.hex() for link in span.links),
                        )
                    )
        self._arrived.set()
        return collector.ExportTraceServiceResponse()

    async def until(
        self, enough: Callable[[list[ReceivedSpan]], bool], timeout_seconds: float
    ) -> bool:
        """Wait until ``enough`` of the spans have arrived; whether they did in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not enough(self.spans):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return False
        return True


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[tuple[TraceReceiver, str]]:
    """Receive spans while the block runs; the receiver, and the endpoint to send them to."""
    receiver = TraceReceiver()
    server = grpc.aio.server()
    # Generated code without annotations.
    collector_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


def rendered(spans: list[ReceivedSpan], trace_ids: set[str]) -> Iterator[str]:
    """The traces as indented lines, oldest first, each with the traces that it links to."""
    traces: dict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        if span.trace_id in trace_ids:
            traces[span.trace_id].append(span)
    for trace_id, members in sorted(
        traces.items(), key=lambda item: min(span.start for span in item[1])
    ):
        links = sorted({linked for span in members for linked in span.linked_trace_ids})
        arrow = f"  ⇢ linked to trace {', '.join(link[:8] for link in links)}" if links else ""
        yield f"trace {trace_id[:8]}{arrow}"
        known = {span.span_id for span in members}
        roots = [span for span in members if span.parent_span_id not in known]
        for root in sorted(roots, key=lambda span: span.start):
            yield from _tree(root, members, "  ")


def _tree(span: ReceivedSpan, members: list[ReceivedSpan], indent: str) -> Iterator[str]:
    milliseconds = (span.end - span.start) / 1e6
    yield f"{indent}{span.name}  [{span.service}, {milliseconds:.1f} ms]"
    children = [child for child in members if child.parent_span_id == span.span_id]
    for child in sorted(children, key=lambda child: child.start):
        yield from _tree(child, members, indent + "  ")
