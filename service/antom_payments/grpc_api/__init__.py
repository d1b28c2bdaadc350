"""The gRPC edge: only this package and the client know protobuf.

Inwards: `edge` (the outermost interceptor: admits, traces, answers errors), `servicer` (convert,
call the use case, convert), `requests` and `convert`, `stream` (serving one subscription, and its
ends). Beside them: `errors` (which error is which status), `limits`, `tracing`, `health`, and
`server`, which is built, started and drained.
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
