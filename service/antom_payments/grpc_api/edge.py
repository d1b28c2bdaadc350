"""The outermost interceptor: admits a call, traces it, and answers whatever goes wrong in it.

One wrapper round each handler, because the order of its steps is what makes it right: the answer is
made inside the span, sent outside it, and the slot is given back when the call is really gone.
Requests are parsed and responses serialised in here: gRPC would answer a request that does not
parse with UNKNOWN and the exception's text, and the stream writes bytes that are ready.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from antom_payments import telemetry
from antom_payments.errors import FieldViolation, InvalidRequest
from antom_payments.grpc_api import errors, tracing
from antom_payments.grpc_api.limits import Admission, Slot

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler; its types know the synchronous API only."""

_EXEMPT = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")

_ANSWERABLE = (Exception, asyncio.CancelledError)

_log = telemetry.logger(__name__)


class Edge(grpc.aio.ServerInterceptor):
    """Stands between gRPC and the servicers. Health and reflection are neither limited nor traced.

    Handlers are coroutines: a unary one returns its response, a streaming one writes bytes with
    `context.write` and ends by raising. Both raise PaymentsError for what callers should know.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of a method, wrapped; None for a method that does not exist."""
        path = handler_call_details.method
        known = self._wrapped.get(path)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            tracing.refuse_unknown(handler_call_details.invocation_metadata)
            return None
        if path.startswith(_EXEMPT):
            return handler
        self._wrapped[path] = self._wrap(path.removeprefix("/"), handler)
        return self._wrapped[path]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler))
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler))

    def _unary(self, method: str, handler: Handler) -> Any:
        async def serve(raw: bytes, context: Context) -> bytes:
            call = _Call(method, context)
            try:
                call.slot = self._admission.enter_unary()
                metadata = context.invocation_metadata()
                with tracing.server_span(method, method, metadata), errors.answered(method):
                    request = _parsed(handler, raw)
                    response = await handler.unary_unary(request, context)
                    data: bytes = handler.response_serializer(response)
            except BaseException as error:  # noqa: BLE001 - `fail` ends by raising
                await call.fail(error)
            call.succeed()
            return data

        return serve

    def _stream(self, method: str, handler: Handler) -> Any:
        async def serve(raw: bytes, context: Context) -> None:
            call = _Call(method, context)
            try:
                call.slot = self._admission.enter_stream(context.peer())
                with errors.answered(method):
                    await handler.unary_stream(_parsed(handler, raw), context)
            except BaseException as error:  # noqa: BLE001 - `fail` ends by raising
                await call.fail(error)
            call.succeed()

        return serve


class _Call:
    """One call, from its admission until it is gone."""

    def __init__(self, method: str, context: Context) -> None:
        self.slot: Slot | None = None
        self._method = method
        self._context = context
        self._started = time.perf_counter()

    def succeed(self) -> None:
        """The response is on its way; the slot is free once it is out, so that a drain waits."""
        # First, so that nothing can keep the slot for ever.
        # The stubs want an instance of a class of theirs; gRPC calls whatever is callable.
        self._context.add_done_callback(self._gone)  # type: ignore[arg-type]
        tracing.record_duration(self._method, "OK", self._started)

    async def fail(self, error: BaseException) -> NoReturn:
        """Answer ``error``, or leave quietly when nobody waits for an answer."""
        if isinstance(error, grpc.aio.AbortError) or not isinstance(error, _ANSWERABLE):
            self._leave()
            raise error
        if errors.is_peer_gone(error):
            self._leave()
            self._ended("CANCELLED", "")
            # What a failed write raises, gRPC would log with its frames.
            raise asyncio.CancelledError from None
        try:
            answer = (
                error if isinstance(error, errors.Answer) else errors.answer_to(error, self._method)
            )
            self._ended(answer.code.name, answer.reason)
        except Exception:  # noqa: BLE001 - whatever goes wrong here, the call ends and leaves
            answer = errors.last_resort()
        await errors.abort(self._context, answer, gone=self._leave)

    def _ended(self, code: str, reason: str) -> None:
        tracing.record_duration(self._method, code, self._started)
        # Refusals by a limit come in floods; a counter tells of them.
        tell = _log.debug if reason == "LIMIT_REACHED" else _log.info
        seconds = round(time.perf_counter() - self._started, 3)
        tell("call_ended", rpc_method=self._method, code=code, reason=reason, seconds=seconds)

    def _gone(self, _context: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self.slot is not None:
            self.slot.release()


def _parsed(handler: Handler, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        violation = FieldViolation("", "the message is not of the method's request type")
        raise InvalidRequest([violation]) from None
