"""What calls fail with, for callers: told apart by what to do next.

ClientError
├── ConnectionClosed            the `connect` block was left
└── CallFailed                  the service, or the way to it, said no
    ├── InvalidRequest          mend the fields that `violations` names
    ├── NotFound                no such payment or merchant
    ├── PaymentRequestIdReused  the id belongs to another payment: a bug, or a new id is due
    ├── SessionRefused          Antom refused: mend the cause, use a new id
    ├── NewPaymentRequestIdNeeded
    ├── TryAgain                the same call, with the same id, may work later
    └── CursorUnusable          a stream cannot start there
        ├── CursorInvalid       garbled, or of another service
        ├── CursorExpired       events between it and `oldest_cursor` are gone
        └── LogRewound          the log was restored to an older point than the cursor

A declined payment is none of these: it is a payment in PAYMENT_STATE_FAILED.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DOMAIN = "antom-payments"
_DETAILS_KEY = "grpc-status-details-bin"


class ClientError(Exception):
    """Anything that this client raises."""


class ConnectionClosed(ClientError):
    """The connection was closed while it was used: its `connect` block was left."""

    def __init__(self) -> None:
        super().__init__("the connection is closed")


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: ``field`` is its path, as in ``order.goods[0].goods_name``."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Details:
    """What google.rpc.Status said beside code and message; empty when nothing came."""

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    violations: tuple[FieldViolation, ...] = ()
    retry_after_seconds: float | None = None


class CallFailed(ClientError):
    """A call ended with a status other than OK."""

    def __init__(
        self, code: grpc.StatusCode, message: str = "", details: Details | None = None
    ) -> None:
        details = details or Details()
        self.code = code
        """The gRPC code."""
        self.message = message
        """For people; its wording may change."""
        self.reason = details.reason
        """Name of an ErrorReason without its prefix; empty when the service did not speak."""
        self.metadata = details.metadata
        """Variables of the message, for machines."""
        self.violations = details.violations
        """Wrong fields; empty unless fields are at fault."""
        self.retry_after_seconds = details.retry_after_seconds
        """Least wait in seconds before the same call helps; None when the service did not say."""
        super().__init__(": ".join(filter(None, (f"{code.name} {self.reason}".strip(), message))))


class InvalidRequest(CallFailed):
    """Fields are missing or wrong; nothing was stored or sent."""


class NotFound(CallFailed):
    """There is no such payment, or merchant, that this caller may see."""


class PaymentRequestIdReused(CallFailed):
    """The id belongs to a payment with another amount, method, capture mode or order."""


class SessionRefused(CallFailed):
    """Antom refused the session for good; ``metadata["result_code"]`` says why."""


class NewPaymentRequestIdNeeded(CallFailed):
    """Antom says that the id is used up: call again with a new one."""


class TryAgain(CallFailed):
    """The same call may work later. What became of this one may be unknown.

    Repeat it with the same `payment_request_id`: a payment is never made twice for one id.
    """


class CursorUnusable(CallFailed):
    """A stream cannot start at the cursor."""


class CursorInvalid(CursorUnusable):
    """The cursor is garbled, or of another service."""


class CursorExpired(CursorUnusable):
    """The log no longer reaches back to the cursor: events in between are gone."""

    @property
    def oldest_cursor(self) -> str:
        """Where the log begins now; empty when the service did not say."""
        return self.metadata.get("oldest_cursor", "")


class LogRewound(CursorUnusable):
    """The log was restored to an older point: what was processed since may not exist any more."""


_BY_REASON: Mapping[str, type[CallFailed]] = MappingProxyType(
    {
        "SESSION_REFUSED": SessionRefused,
        "NEW_PAYMENT_REQUEST_ID_NEEDED": NewPaymentRequestIdNeeded,
        "CURSOR_INVALID": CursorInvalid,
        "LOG_REWOUND": LogRewound,
    }
)
"""Reasons that say more than their code."""

_BY_CODE: Mapping[grpc.StatusCode, type[CallFailed]] = MappingProxyType(
    {
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.ALREADY_EXISTS: PaymentRequestIdReused,
        grpc.StatusCode.OUT_OF_RANGE: CursorExpired,
        grpc.StatusCode.ABORTED: TryAgain,
        grpc.StatusCode.DEADLINE_EXCEEDED: TryAgain,
        grpc.StatusCode.RESOURCE_EXHAUSTED: TryAgain,
        grpc.StatusCode.UNAVAILABLE: TryAgain,
    }
)
"""The rest, reasons of a newer service among them."""


def failure_of(error: grpc.aio.AioRpcError) -> CallFailed:
    """The typed error for a gRPC one. Garbled details count as none."""
    details = _details(error)
    return kind_of(error.code(), details)(error.code(), error.details() or "", details)


def kind_of(code: grpc.StatusCode, details: Details) -> type[CallFailed]:
    """Which error a failure is: by its reason, else by its code."""
    return _BY_REASON.get(details.reason) or _BY_CODE.get(code, CallFailed)


def _details(error: grpc.aio.AioRpcError) -> Details:
    trailers = error.trailing_metadata()
    raw = trailers.get(_DETAILS_KEY) if trailers is not None else None
    if not isinstance(raw, bytes):
        return Details()
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_seconds = None
    try:
        for detail in status_pb2.Status.FromString(raw).details:
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(retry):
                delay = retry.retry_delay
                retry_after_seconds = max(0.0, delay.seconds + delay.nanos / 1e9)
    except DecodeError:
        return Details()
    # A proxy may add an ErrorInfo of its own: its reasons are not ours.
    ours = info.domain == _DOMAIN
    return Details(
        reason=info.reason if ours else "",
        metadata=MappingProxyType(dict(info.metadata) if ours else {}),
        violations=tuple(FieldViolation(v.field, v.description) for v in bad.field_violations),
        retry_after_seconds=retry_after_seconds,
    )
