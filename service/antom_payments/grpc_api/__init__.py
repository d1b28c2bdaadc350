"""The gRPC edge: only this package and the client know protobuf.

edge.py        the outermost interceptor: admits, traces, answers errors
servicer.py    the methods: convert, call the use case, convert
requests.py    from protobuf        convert.py   to protobuf
stream.py      serving one subscription, and its ends
errors.py      which error is which status
limits.py      how many calls at once        tracing.py   spans and metrics of calls
health.py      liveness and readiness
server.py      built, started, drained
"""

from antom_payments.grpc_api.convert import encode
from antom_payments.grpc_api.health import HealthOptions
from antom_payments.grpc_api.limits import CallLimits
from antom_payments.grpc_api.server import (
    ConnectionOptions,
    DrainOptions,
    GrpcOptions,
    GrpcServer,
)
from antom_payments.grpc_api.servicer import Deadlines
from antom_payments.grpc_api.stream import StreamOptions

__all__ = [
    "CallLimits",
    "ConnectionOptions",
    "Deadlines",
    "DrainOptions",
    "GrpcOptions",
    "GrpcServer",
    "HealthOptions",
    "StreamOptions",
    "encode",
]
