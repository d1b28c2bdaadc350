"""What callers get instead of an error: one table, rich details, and nothing that leaks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from antom_payments import errors, redaction, telemetry
from antom_payments.v1 import error_reason_pb2 as pb

DOMAIN = "antom-payments"
"""`domain` of every google.rpc.ErrorInfo."""

MAX_DETAILS_BYTES = 4096
"""Beyond 16,384 bytes of metadata gRPC replaces the status itself (measured: ops M11)."""

_ABORT_SECONDS = 2.0
_MESSAGE_BYTES = 512
_VALUE_BYTES = 256
_MOST_VARIABLES = 6

_Code = grpc.StatusCode

ERRORS: Mapping[type[errors.PaymentsError], tuple[grpc.StatusCode, pb.ErrorReason.ValueType]] = (
    MappingProxyType(
        {
            errors.InvalidRequest: (
                _Code.INVALID_ARGUMENT,
                pb.ERROR_REASON_INVALID_REQUEST,
            ),
            errors.PaymentNotFound: (_Code.NOT_FOUND, pb.ERROR_REASON_PAYMENT_NOT_FOUND),
            errors.MerchantNotFound: (_Code.NOT_FOUND, pb.ERROR_REASON_MERCHANT_NOT_FOUND),
            errors.PaymentRequestIdReused: (
                _Code.ALREADY_EXISTS,
                pb.ERROR_REASON_PAYMENT_REQUEST_ID_REUSED,
            ),
            errors.SessionInFlight: (_Code.ABORTED, pb.ERROR_REASON_SESSION_IN_FLIGHT),
            errors.AntomRefused: (_Code.FAILED_PRECONDITION, pb.ERROR_REASON_SESSION_REFUSED),
            errors.NewPaymentRequestIdNeeded: (
                _Code.FAILED_PRECONDITION,
                pb.ERROR_REASON_NEW_PAYMENT_REQUEST_ID_NEEDED,
            ),
            errors.OutcomeUnknown: (_Code.UNAVAILABLE, pb.ERROR_REASON_OUTCOME_UNKNOWN),
            errors.AntomUnavailable: (_Code.UNAVAILABLE, pb.ERROR_REASON_ANTOM_UNAVAILABLE),
            errors.AntomUntrusted: (_Code.INTERNAL, pb.ERROR_REASON_ANTOM_UNTRUSTED),
            errors.StoreUnavailable: (_Code.UNAVAILABLE, pb.ERROR_REASON_STORE_UNAVAILABLE),
            errors.StoreOverloaded: (_Code.RESOURCE_EXHAUSTED, pb.ERROR_REASON_LIMIT_REACHED),
            errors.Undecipherable: (_Code.UNAVAILABLE, pb.ERROR_REASON_STORE_UNAVAILABLE),
            errors.CursorInvalid: (_Code.INVALID_ARGUMENT, pb.ERROR_REASON_CURSOR_INVALID),
            errors.CursorExpired: (_Code.OUT_OF_RANGE, pb.ERROR_REASON_CURSOR_EXPIRED),
            errors.LogRewound: (_Code.FAILED_PRECONDITION, pb.ERROR_REASON_LOG_REWOUND),
            errors.SubscriberTooSlow: (
                _Code.RESOURCE_EXHAUSTED,
                pb.ERROR_REASON_SUBSCRIBER_TOO_SLOW,
            ),
            errors.StreamLifetimeReached: (
                _Code.ABORTED,
                pb.ERROR_REASON_STREAM_LIFETIME_REACHED,
            ),
            errors.ServerDraining: (_Code.ABORTED, pb.ERROR_REASON_SERVER_DRAINING),
            errors.LimitReached: (_Code.RESOURCE_EXHAUSTED, pb.ERROR_REASON_LIMIT_REACHED),
            errors.DeadlineExceeded: (
                _Code.DEADLINE_EXCEEDED,
                pb.ERROR_REASON_DEADLINE_EXCEEDED,
            ),
            # The operator's matters: callers get an error id, the log gets the rest.
            errors.SchemaOutdated: (_Code.INTERNAL, pb.ERROR_REASON_INTERNAL),
            errors.IndexBeingBuilt: (_Code.INTERNAL, pb.ERROR_REASON_INTERNAL),
            errors.LogCorrupt: (_Code.INTERNAL, pb.ERROR_REASON_INTERNAL),
            errors.ConfigurationError: (_Code.INTERNAL, pb.ERROR_REASON_INTERNAL),
        }
    )
)
"""Every error that can reach a caller. The code tells what to do, the reason what happened."""

_log = telemetry.logger(__name__)


class Answer(Exception):
    """The status that a caller gets instead of a response."""

    def __init__(self, code: grpc.StatusCode, reason: str, status: status_pb2.Status) -> None:
        self.code = code
        self.reason = reason
        self.status = status
        super().__init__(reason)


def answer_to(error: BaseException, method: str) -> Answer:
    """The status for ``error``; what has no row is logged once, under the id that callers get."""
    row = ERRORS.get(type(error)) if isinstance(error, errors.PaymentsError) else None
    if isinstance(error, errors.PaymentsError) and row and row[1] != pb.ERROR_REASON_INTERNAL:
        return _answer(*row, error)
    error_id = secrets.token_hex(4)
    _log.error("call_failed", rpc_method=method, error_id=error_id, exc_info=error)
    broken = errors.PaymentsError("something broke here; the error id finds it in the log")
    broken.metadata = {"error_id": error_id}
    return _answer(_Code.INTERNAL, pb.ERROR_REASON_INTERNAL, broken)


def last_resort() -> Answer:
    """The answer when making the answer failed; nothing of the error is looked at."""
    status = status_pb2.Status(code=_Code.INTERNAL.value[0], message="something broke here")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN))
    return Answer(_Code.INTERNAL, "INTERNAL", status)


@contextmanager
def answered(method: str) -> Iterator[None]:
    """Turn what is raised inside into an `Answer`, unless nobody waits for one."""
    try:
        yield
    except (Answer, grpc.aio.AbortError):
        raise
    except (Exception, asyncio.CancelledError) as error:
        if is_peer_gone(error):
            raise
        raise answer_to(error, method) from None


def is_peer_gone(error: BaseException) -> bool:
    """Whether nobody waits for an answer: the peer cancelled, vanished, or the server stopped.

    A handler sees that as a cancellation from outside, or, while it writes, as a failed batch (ops
    M5). A CancelledError that the handler's own work raised has no cancellation behind it, and
    without an answer the caller would hang (grpc/grpc#29248).
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, grpc.aio.BaseError)


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], answer: Answer, *, gone: Callable[[], None]
) -> NoReturn:
    """End the call with ``answer``, and call ``gone`` once it really ended.

    A peer that does not read takes no status either: the handler is let go after 2 seconds, and
    the call stays, also in our counts, until the peer reads on or its connection ends.
    """
    ending = asyncio.create_task(_send(context, answer))
    ending.add_done_callback(lambda _: gone())
    done, _ = await asyncio.wait({ending}, timeout=_ABORT_SECONDS)
    if done and (sent := ending.result()):
        raise sent
    # Not a return: grpc.aio would take it for a suppressed abort, and log that.
    raise asyncio.CancelledError


async def _send(
    context: grpc.aio.ServicerContext[Any, Any], answer: Answer
) -> grpc.aio.AbortError | None:
    """Send the status; grpc.aio wants the very AbortError that this made to end the handler."""
    try:
        await context.abort_with_status(rpc_status.to_status(answer.status))
    except grpc.aio.AbortError as sent:
        return sent
    except grpc.aio.BaseError:
        return None


def _answer(
    code: grpc.StatusCode, reason: pb.ErrorReason.ValueType, error: errors.PaymentsError
) -> Answer:
    name = pb.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")
    status = status_pb2.Status(code=code.value[0], message=_cut(str(error), _MESSAGE_BYTES))
    variables = list(error.metadata.items())[:_MOST_VARIABLES]
    info = error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN)
    info.metadata.update({_cut(key, 64): _cut(text, _VALUE_BYTES) for key, text in variables})
    status.details.add().Pack(info)
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after_seconds))
        status.details.add().Pack(retry)
    if isinstance(error, errors.InvalidRequest):
        room = MAX_DETAILS_BYTES - status.ByteSize() - 64
        status.details.add().Pack(_bad_request(error, room))
    return Answer(code, name, status)


def _bad_request(error: errors.InvalidRequest, room: int) -> error_details_pb2.BadRequest:
    """The violations, as many as fit into ``room`` bytes, then how many did not."""
    bad = error_details_pb2.BadRequest()
    for told, violation in enumerate(error.violations):
        bad.field_violations.add(
            field=_cut(violation.field, _VALUE_BYTES),
            description=_cut(violation.description, _VALUE_BYTES),
        )
        if bad.ByteSize() > room - 64:
            bad.field_violations.pop()
            bad.field_violations.add(description=f"and {len(error.violations) - told} more")
            break
    return bad


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _cut(text: str, size: int) -> str:
    """``text`` redacted, as at most ``size`` bytes of UTF-8."""
    raw = redaction.redact(text, longest=4 * size).encode("utf-8", "replace")
    return text_of(raw[:size]) if len(raw) <= size else f"{text_of(raw[: size - 3])}…"


def text_of(raw: bytes) -> str:
    """UTF-8, without a character that was cut in half."""
    return raw.decode("utf-8", "ignore")
