"""An Antom on a real socket that answers as a test says: signed, wrongly, late or never."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from antom_payments.antom import AntomClient
from antom_payments.antom.signing import Signer, Verifier, load_private_key, load_public_key
from antom_payments.antom.wire import open_wire
from clock import FrozenClock
from keys import golden_pair

CLIENT_ID = "SANDBOX_5X00000000000000"
SESSION, INQUIRY = "createPaymentSession", "inquiryPayment"

Json = dict[str, Any]
Behaviour = Callable[["Question"], Awaitable[None]]


@dataclass
class Question:
    """One request, whose signature was verified, and the way to answer it."""

    operation: str
    path: str
    raw: bytes
    signer: Signer
    writer: asyncio.StreamWriter
    time: datetime
    """By Antom's clock."""

    @property
    def body(self) -> Json:
        return dict(json.loads(self.raw))

    async def answer(self, message: Json, *, signed: bool = True) -> None:
        body = json.dumps(message).encode()
        headers = {"content-length": str(len(body)), "content-type": "application/json"}
        if signed:
            time = self.time.isoformat(timespec="seconds")
            headers |= {
                "client-id": self.signer.client_id,
                "response-time": time,
                "signature": self.signer.signature_header("POST", self.path, time, body),
            }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body)
        await self.writer.drain()


def result(status: str, code: str) -> Json:
    return {"resultStatus": status, "resultCode": code, "resultMessage": "as the test says"}


def session(
    session_id: str = "session-1",
    *,
    expiry: str = "2026-03-02T10:30:00Z",
    signed: bool = True,
    data: str = "",
) -> Behaviour:
    """Answer with a session."""
    message = {
        "result": result("S", "SUCCESS"),
        "paymentSessionId": session_id,
        "paymentSessionData": data or f"data of {session_id}",
        "paymentSessionExpiryTime": expiry,
    }
    return lambda question: question.answer(message, signed=signed)


def refused(code: str = "PARAM_ILLEGAL") -> Behaviour:
    """Answer with a signed F."""
    return lambda question: question.answer({"result": result("F", code)})


def unknown(code: str = "UNKNOWN_EXCEPTION") -> Behaviour:
    """Answer with a signed U."""
    return lambda question: question.answer({"result": result("U", code)})


async def cut(question: Question) -> None:
    """Cut the connection in place of an answer."""
    question.writer.transport.abort()


def inquired(status: str = "SUCCESS", *, minor_units: int = 4200, **more: Any) -> Behaviour:
    """Answer an inquiry: the payment that was asked for stands so."""

    async def behave(question: Question) -> None:
        asked = question.body["paymentRequestId"]
        await question.answer(
            {
                "result": result("S", "SUCCESS"),
                "paymentRequestId": asked,
                "paymentId": f"P-{asked}",
                "paymentStatus": status,
                "paymentResultCode": "SUCCESS" if status == "SUCCESS" else "PAYMENT_IN_PROCESS",
                "paymentAmount": {"currency": "SGD", "value": str(minor_units)},
                "transactions": None,
            }
            | more
        )

    return behave


AUTHORIZED = inquired(authExpiryTime="2026-03-09T09:30:00Z")
NOT_SUBMITTED = refused("ORDER_NOT_EXIST")


@dataclass
class Held:
    """Answers when it is let go."""

    then: Behaviour
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, question: Question) -> None:
        await self.go_on.wait()
        await self.then(question)


@dataclass
class ScriptedAntom:
    """Each operation plays its behaviours in turn, the last one for ever."""

    port: int
    now: Callable[[], datetime] = FrozenClock().now
    """Antom's clock."""
    asked: list[Question] = field(default_factory=list)
    _scripts: dict[str, list[Behaviour]] = field(default_factory=dict)
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def will(self, operation: str, *behaviours: Behaviour) -> None:
        self._scripts[operation] = list(behaviours)

    def forget(self) -> None:
        self.asked.clear()
        self._scripts.clear()

    @property
    def operations(self) -> list[str]:
        return [question.operation for question in self.asked]

    async def was_asked(self, count: int = 1) -> None:
        """Wait until so many requests have come."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.asked) >= count)

    async def take(self, question: Question) -> None:
        async with self._arrival:
            self.asked.append(question)
            self._arrival.notify_all()
        script = self._scripts[question.operation]
        await (script.pop(0) if len(script) > 1 else script[0])(question)


@contextlib.asynccontextmanager
async def scripted_antom() -> AsyncIterator[ScriptedAntom]:
    """Listen on loopback while the block runs."""
    verifier = Verifier([load_public_key(golden_pair("merchant").public, setting="test")])
    signer = Signer(load_private_key(golden_pair("antom").private, setting="test"), CLIENT_ID)
    antom: ScriptedAntom
    visits: set[asyncio.Task[None]] = set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        visits.add(task)
        # Whoever asked may leave while the answer is held back, and the test may end.
        with contextlib.suppress(
            asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        ):
            while not writer.transport.is_closing():
                await antom.take(await _question(reader, writer, verifier, signer, antom))
        writer.close()
        visits.discard(task)

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    antom = ScriptedAntom(server.sockets[0].getsockname()[1])
    try:
        yield antom
    finally:
        server.close()
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


async def _question(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    verifier: Verifier,
    signer: Signer,
    antom: ScriptedAntom,
) -> Question:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    path = head[0].split(" ")[1]
    fields = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in head[1:-2])
    raw = await reader.readexactly(int(fields["content-length"]))
    verifier.verify(
        method="POST",
        uri=path,
        client_id=fields["client-id"],
        time=fields["request-time"],
        body=raw,
        signature_header=fields["signature"],
    )
    return Question(path.rpartition("/")[2], path, raw, signer, writer, antom.now())


@contextlib.asynccontextmanager
async def antom_client(origin: str, **breaker: Any) -> AsyncIterator[AntomClient]:
    """The real client, whose repetitions follow at once."""
    antom, merchant = golden_pair("antom"), golden_pair("merchant")
    signer = Signer(load_private_key(merchant.private, setting="test"), CLIENT_ID)
    verifier = Verifier([load_public_key(antom.public, setting="test")])
    async with open_wire(origin) as wire:
        yield AntomClient(
            wire, signer, verifier, now=FrozenClock().now, jitter=lambda *_: 0.0, **breaker
        )
