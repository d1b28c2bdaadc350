"""The gRPC edge: every method, fed with messages of any shape and with bytes that are none."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from antom_payments import v1
from antom_payments.grpc_api.errors import DOMAIN, ERRORS, MAX_DETAILS_BYTES
from antom_payments.v1 import error_reason_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from fuzz.mutation import ODD_TEXTS, SECRET, mutated_bytes
from fuzz.sidecar_app import listening, store_in_memory
from fuzz.target import Input, Kind, Target, must, raw
from grpc_api.sessions import card_session
from grpc_api.world import Refusal, Served, serving
from scripted_antom import INQUIRY, NOT_SUBMITTED, SESSION, antom_client, scripted_antom, session

KNOWN_ID = "order-known"
_PATIENCE_SECONDS = 20.0
_LOOK_EVERY = 50
_LARGE = 5 * 1024 * 1024
"""More than gRPC takes as one message."""
_INTEGERS = (0, 1, -1, 2, 99, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 315_576_000_000)
_TEXTS = tuple(
    text.encode("utf-8", "replace").decode()
    for text in (*ODD_TEXTS, "default", KNOWN_ID, "SGD", "CARD", "https://shop.example/", "US")
)
_ROWS = {
    (code.name, error_reason_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_"))
    for code, reason in ERRORS.values()
}
_BUGS = ("INTERNAL", "UNKNOWN")
_SOUND: dict[str, Any] = {
    "CreateSession": card_session(KNOWN_ID),
    "GetPayment": pb.GetPaymentRequest(payment_request_id=KNOWN_ID),
    "ListPayments": pb.ListPaymentsRequest(reference_order_id=KNOWN_ID, page_size=2),
    "ListPaymentEvents": pb.ListPaymentEventsRequest(payment_request_ids=[KNOWN_ID], page_size=2),
    "StreamPaymentEvents": pb.StreamPaymentEventsRequest(earliest={}),
    "ReportSdkEvent": pb.ReportSdkEventRequest(payment_request_id=KNOWN_ID, event_code=1),
}
"""Requests that methods take."""


def methods() -> dict[str, MethodDescriptor]:
    """Every method of every service of the contract, by its path."""
    found = {}
    for module in pkgutil.iter_modules(v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                for method in service.methods:
                    found[f"/{service.full_name}/{method.name}"] = method
    return found


def fill(random: Random, message: Any, density: float) -> None:
    """Set some of the message's fields to odd values; fewer the deeper they are."""
    for one in message.DESCRIPTOR.fields:
        if random.random() < density:
            with contextlib.suppress(ValueError, TypeError):  # out of the field's own range
                _fill_one(random, message, one, density * 0.8)


def _fill_one(random: Random, message: Any, one: FieldDescriptor, density: float) -> None:
    inner = one.message_type
    if inner is not None and inner.GetOptions().map_entry:
        getattr(message, one.name)[random.choice(_TEXTS)] = random.choice(_TEXTS)
    elif inner is not None and one.is_repeated:
        for _ in range(random.choice((0, 1, 2, 101))):
            fill(random, getattr(message, one.name).add(), density)
    elif inner is not None:
        getattr(message, one.name).SetInParent()
        fill(random, getattr(message, one.name), density)
    elif one.is_repeated:
        count = random.choice((0, 1, 2, 100, 101))
        getattr(message, one.name).extend(_value(random, one) for _ in range(count))
    else:
        setattr(message, one.name, _value(random, one))


def _value(random: Random, one: FieldDescriptor) -> Any:
    match one.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = random.choice(_TEXTS)
            return text.encode() if one.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return random.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
        case _:
            return random.choice(_INTEGERS)


def make(random: Random) -> Input:
    """A call of some method."""
    path, method = random.choice(list(methods().items()))
    message = GetMessageClass(method.input_type)()
    if (sound := _SOUND.get(method.name)) is not None and random.random() < 0.6:
        message.CopyFrom(sound)
    fill(random, message, random.choice((0.0, 0.05, 0.2, 0.6)))
    data = message.SerializeToString()
    for _ in range(random.choice((0, 0, 1, 1, 3))):
        data = mutated_bytes(random, data)
    given: Input = {"path": path, "request": data.decode("latin-1")}
    if random.random() < 0.002:
        given["padding"] = _LARGE
    return given


class GrpcEdge:
    """Calls, and holds each answer against the table of errors."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._methods = methods()
        self._count = 0

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        self._count += 1
        method = self._methods[given["path"]]
        data = raw(given["request"]) + b"\x00" * given.get("padding", 0)
        verdict = await self._called(given["path"], method, data)
        if self._count % _LOOK_EVERY == 0:
            await self.is_alive()
        return verdict

    async def is_alive(self) -> None:
        """A sound call works."""
        answer = await self._served.stub.GetPayment(
            pb.GetPaymentRequest(payment_request_id=KNOWN_ID), timeout=_PATIENCE_SECONDS
        )
        must(answer.payment.payment_request_id == KNOWN_ID, "another payment")

    async def _called(self, path: str, method: MethodDescriptor, data: bytes) -> str:
        name = method.name
        try:
            if method.server_streaming:
                call = self._served.channel.unary_stream(path)(data, timeout=_PATIENCE_SECONDS)
                response = await call.read()
                call.cancel()
                must(response is not grpc.aio.EOF, "a subscription ended with OK")
            else:
                response = await self._served.channel.unary_unary(path)(
                    data, timeout=_PATIENCE_SECONDS
                )
        except grpc.aio.AioRpcError as error:
            return f"refused: {name} {self._refused(error, len(data))}"
        with contextlib.suppress(DecodeError):
            GetMessageClass(method.input_type).FromString(data)
            GetMessageClass(method.output_type).FromString(response)
            return f"accepted: {name}"
        must(False, "bytes that are no message were answered")
        return ""

    def _refused(self, error: grpc.aio.AioRpcError, size: int) -> str:
        refusal = Refusal(error)
        code = refusal.code.name
        if code == "RESOURCE_EXHAUSTED" and size >= _LARGE:
            return "too large for gRPC"
        must(code not in _BUGS, f"{code}: {refusal.message!r}")
        must((code, refusal.reason) in _ROWS, f"{code} {refusal.reason!r} is in no table")
        must(refusal.info.domain == DOMAIN, "ErrorInfo of another domain")
        details = sum(detail.ByteSize() for detail in refusal.status.details)
        must(details <= MAX_DETAILS_BYTES, f"{details} bytes of details")
        must(SECRET[12:28].encode() not in refusal.wire_bytes, "an answer told a card number")
        return f"{code} {refusal.reason}"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The server on a real port, in front of an Antom that gives a session to everybody."""
    with listening() as ears:
        async with contextlib.AsyncExitStack() as parts:
            antom = await parts.enter_async_context(scripted_antom())
            antom.will(SESSION, session())
            antom.will(INQUIRY, NOT_SUBMITTED)
            client = await parts.enter_async_context(antom_client(antom.origin))
            store = await parts.enter_async_context(store_in_memory())
            served = await parts.enter_async_context(serving(store, antom=client))
            await served.stub.CreateSession(card_session(KNOWN_ID))
            calling = GrpcEdge(served)

            async def check(given: Input) -> str:
                antom.asked.clear()
                return await calling.check(given)

            async def end() -> None:
                await calling.is_alive()
                must(not ears.leaks, f"a secret was logged: {ears.leaks[:1]}")

            yield Target(make, check, end)


KIND = Kind("grpc_edge", opened)
