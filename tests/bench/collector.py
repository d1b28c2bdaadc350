"""Receives spans and metrics over OTLP, and counts them: `python -m bench.collector`."""

from __future__ import annotations

from typing import Any

import grpc
import uvloop
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

from bench.obedience import obey, say

_received = {"spans": 0, "exports_of_metrics": 0}


class Traces(traces_grpc.TraceServiceServicer):
    async def Export(  # noqa: N802 - the name in the OTLP service
        self, request: traces.ExportTraceServiceRequest, _context: Any
    ) -> traces.ExportTraceServiceResponse:
        _received["spans"] += sum(
            len(scope.spans) for told in request.resource_spans for scope in told.scope_spans
        )
        return traces.ExportTraceServiceResponse()


class Metrics(metrics_grpc.MetricsServiceServicer):
    async def Export(  # noqa: N802 - the name in the OTLP service
        self, _request: metrics.ExportMetricsServiceRequest, _context: Any
    ) -> metrics.ExportMetricsServiceResponse:
        _received["exports_of_metrics"] += 1
        return metrics.ExportMetricsServiceResponse()


async def received() -> dict[str, int]:
    return _received


async def main() -> None:
    server = grpc.aio.server()
    traces_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(f"http://127.0.0.1:{port}")
    await obey({"received": received})
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main())
