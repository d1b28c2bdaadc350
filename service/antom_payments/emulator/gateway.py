"""Antom's HTTP interface: who calls, is it signed, which operation; answers signed.

An answer is signed exactly when the caller was recognised by client id and signature. To anyone
else Antom answers unsigned (antom-api 1.8), with HTTP 200 like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from antom_payments import telemetry
from antom_payments.antom.endpoints import is_sandbox
from antom_payments.antom.signing import SignatureInvalid, Signer
from antom_payments.emulator import results
from antom_payments.emulator.emulator import Emulator
from antom_payments.emulator.faults import AnswerFault, AnswerFaultKind
from antom_payments.emulator.messages import Message, encoded
from antom_payments.emulator.requests import InquiryRequest, SessionRequest, named_payment, parse
from antom_payments.emulator.results import Refused
from antom_payments.emulator.severance import sever
from antom_payments.emulator.times import parse_request_time, time_text

_PRODUCTION, _SANDBOX = "/ams/api/v1", "/ams/sandbox/api/v1"
_GARBAGE = b"<html><head><title>200 OK</title></head><body>Please stand by.</body></html>"
_RESULTS: Mapping[AnswerFaultKind, results.Result] = MappingProxyType(
    {
        AnswerFaultKind.UNKNOWN: results.UNKNOWN_EXCEPTION,
        AnswerFaultKind.THROTTLED: results.REQUEST_TRAFFIC_EXCEED_LIMIT,
    }
)

_log = telemetry.logger(__name__)


def _create_payment_session(emulator: Emulator, client_id: str, body: bytes) -> Message:
    return emulator.create_payment_session(client_id, parse(SessionRequest, body))


def _inquiry_payment(emulator: Emulator, client_id: str, body: bytes) -> Message:
    return emulator.inquire_payment(client_id, parse(InquiryRequest, body))


OPERATIONS: Mapping[str, Callable[[Emulator, str, bytes], Message]] = MappingProxyType(
    {
        "/payments/createPaymentSession": _create_payment_session,
        "/payments/inquiryPayment": _inquiry_payment,
    }
)
"""What Antom does, by the path below the prefix."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as it was signed."""

    method: str
    uri: str
    """Path and query, undecoded."""
    client_id: str
    time: str
    signature: str
    content_type: str
    body: bytes


class Gateway:
    """Answers everything that is not the emulator's own interface; an ASGI application."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        call = _call_of(request, await request.body())
        answer = await self._answer(call)
        await answer(scope, receive, send)

    async def _answer(self, call: _Call) -> ASGIApp:
        stranger = self._fault_in_caller(call)
        fault = None if stranger else self._fault_of(call)
        message: Message = {}
        if fault is None or fault.takes_effect or not fault.replaces_the_answer:
            try:
                message = self._done(call, stranger)
            except Refused as refusal:
                message = _result(refusal.result)
        _log.info(
            "emulator.answered",
            operation=_operation_of(call),
            result_code=message["result"]["resultCode"] if message else None,
            signed=stranger is None,
            spoilt=fault.fault if fault else None,
        )
        if fault and fault.replaces_the_answer:
            return self._replaced(call, fault.fault)
        if fault and fault.delay_seconds:
            await self._emulator.timeline.wait(fault.delay_seconds)
        signer = None if stranger else self._signer(call, fault.fault if fault else None)
        return self._response(call, message, signer)

    def _fault_of(self, call: _Call) -> AnswerFault | None:
        """What is to go wrong with a call of an operation."""
        if _below_prefix(call, recognised=True) not in OPERATIONS:
            return None
        named = named_payment(call.body)
        payment_request_id = self._emulator.payment_request_id(call.client_id, named.payment_id)
        return self._emulator.faults.of_answer(
            _operation_of(call), payment_request_id or named.payment_request_id
        )

    def _replaced(self, call: _Call, kind: AnswerFaultKind) -> ASGIApp:
        """What comes in place of the true answer."""
        if kind is AnswerFaultKind.DROP:
            return sever
        if kind is AnswerFaultKind.GARBAGE:
            return Response(_GARBAGE, media_type="text/html")
        if result := _RESULTS.get(kind):
            return self._response(call, _result(result), self._signer(call, kind))
        return Response(status_code=int(kind.removeprefix("HTTP_")))

    def _signer(self, call: _Call, kind: AnswerFaultKind | None) -> Signer | None:
        """Who signs an answer that goes wrong in this way; None when nobody does."""
        signers = self._emulator.signers
        match kind:
            case AnswerFaultKind.UNSIGNED:
                return None
            case AnswerFaultKind.BADLY_SIGNED:
                return signers.forger[call.client_id]
            case AnswerFaultKind.NEXT_KEY:
                return signers.next[call.client_id]
            case AnswerFaultKind.WRONG_CLIENT_ID:
                return signers.stranger
            case _:
                return signers.antom[call.client_id]

    def _fault_in_caller(self, call: _Call) -> results.Result | None:
        """Why the caller is not recognised; None when it is."""
        verifier = self._emulator.verifiers.get(call.client_id)
        if verifier is None:
            return results.CLIENT_INVALID
        try:
            verifier.verify(
                method=call.method,
                uri=call.uri,
                client_id=call.client_id,
                time=call.time,
                body=call.body,
                signature_header=call.signature,
            )
        except SignatureInvalid as error:
            _log.warning("emulator.signature_invalid", reason=error.reason)
            return results.INVALID_SIGNATURE
        return None

    def _done(self, call: _Call, fault: results.Result | None) -> Message:
        """The operation's answer. A wrong address is told even to strangers: it explains most."""
        if call.method != "POST":
            raise Refused(results.METHOD_NOT_SUPPORTED)
        operation = OPERATIONS.get(_below_prefix(call, recognised=fault is None))
        if operation is None:
            raise Refused(results.NO_INTERFACE_DEF)
        if fault:
            raise Refused(fault)
        if call.content_type not in {"", "application/json"}:
            raise Refused(results.MEDIA_TYPE_NOT_ACCEPTABLE)
        try:
            parse_request_time(call.time)
        except ValueError as error:
            raise Refused(results.PARAM_ILLEGAL.because(f"Request-Time: {error}")) from None
        return operation(self._emulator, call.client_id, call.body)

    def _response(self, call: _Call, message: Message, signer: Signer | None) -> Response:
        body = encoded(message)
        # Lower case: the official Python SDK finds these headers in no other (antom-api 1.10).
        headers = {"content-type": "application/json; charset=UTF-8"}
        if signer:
            time = time_text(self._emulator.timeline.now())
            headers |= {
                "client-id": signer.client_id,
                "response-time": time,
                "signature": signer.signature_header("POST", call.uri, time, body),
            }
        return Response(body, headers=headers)


def _result(result: results.Result) -> Message:
    return {"result": result.json()}


def _operation_of(call: _Call) -> str:
    """The last word of the path, as Antom's documentation calls the operation."""
    return call.uri.partition("?")[0].rpartition("/")[2][:64]


def _call_of(request: Request, body: bytes) -> _Call:
    query = request.scope["query_string"]
    target = request.scope["raw_path"] + (b"?" + query if query else b"")

    def header(name: str) -> str:
        # A header that comes twice is one list (RFC 9110, 5.3): it then fits nothing.
        return ", ".join(request.headers.getlist(name))

    return _Call(
        method=request.method,
        uri=target.decode("latin-1"),
        client_id=header("client-id"),
        time=header("request-time"),
        signature=header("signature"),
        content_type=header("content-type").partition(";")[0].strip().lower(),
        body=body,
    )


def _below_prefix(call: _Call, *, recognised: bool) -> str:
    """The operation's path; empty when the prefix is not the client's (antom-api 1.2).

    The client id of a stranger proves nothing, so that either prefix will do to hear the fault.
    """
    path = call.uri.partition("?")[0]
    prefixes = [_SANDBOX if is_sandbox(call.client_id) else _PRODUCTION]
    if not recognised:
        prefixes = [_SANDBOX, _PRODUCTION]
    return next((path.removeprefix(one) for one in prefixes if path.startswith(one + "/")), "")
