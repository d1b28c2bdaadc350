"""A merchant's side of the wire: its signatures, its receiver of notifications, its server."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

GOLDEN = Path(__file__).parent.parent / "golden" / "antom"
SANDBOX_ID, LIVE_ID, OTHER_ID = "SANDBOX_5X00000000000000", "5J5XSU7Y2Y182W01981", "SANDBOX_other"
CREATE = "/ams/sandbox/api/v1/payments/createPaymentSession"
INQUIRE = "/ams/sandbox/api/v1/payments/inquiryPayment"
ACKNOWLEDGED = {
    "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}
}

Json = dict[str, Any]


def golden(path: str) -> Any:
    return json.loads((GOLDEN / path).read_text())


def sample(name: str) -> Json:
    """A message of the documentation, parsed."""
    (path,) = (GOLDEN / "samples").glob(f"*/{name}.json")
    return json.loads(path.read_text())


def session_request(payment_request_id: str = "order-1", **changes: Any) -> Json:
    """A card session, authorised first, that sends its notifications to the emulator's default."""
    request = sample("01_createPaymentSession_request") | {"paymentRequestId": payment_request_id}
    request.pop("paymentNotifyUrl")
    return request | changes


def wallet_request(payment_request_id: str = "order-1", **changes: Any) -> Json:
    request = session_request(payment_request_id, paymentMethod={"paymentMethodType": "GCASH"})
    request.pop("paymentFactor")
    return request | changes


def text_to_sign(method: str, uri: str, client_id: str, time: str, body: bytes) -> bytes:
    return f"{method} {uri}\n{client_id}.{time}.".encode() + body


def is_signed(
    key: RSAPublicKey, headers: httpx.Headers, time_header: str, uri: str, body: bytes
) -> bool:
    """Whether Antom signed this; raises when the signature is there and wrong."""
    if "signature" not in headers:
        return False
    value = headers["signature"].removeprefix("algorithm=RSA256,keyVersion=1,signature=")
    signed = text_to_sign("POST", uri, headers["client-id"], headers[time_header], body)
    key.verify(base64.b64decode(unquote(value)), signed, PKCS1v15(), hashes.SHA256())
    return True


@dataclass
class Answer:
    """What the emulator answered."""

    status: int
    headers: httpx.Headers
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    signed: bool

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["result"]["resultCode"]

    @property
    def message(self) -> str:
        return self.json["result"]["resultMessage"]


class Merchant:
    """Signs requests, verifies answers, and plays the buyer."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        private_key: RSAPrivateKey,
        antom_key: RSAPublicKey,
        client_id: str = SANDBOX_ID,
    ) -> None:
        self.http = http
        self.client_id = client_id
        self._private_key = private_key
        self._antom_key = antom_key

    def signed_as(self, client_id: str) -> Merchant:
        return Merchant(self.http, self._private_key, self._antom_key, client_id)

    def signature(self, method: str, uri: str, time: str, body: bytes) -> str:
        signed = text_to_sign(method, uri, self.client_id, time, body)
        value = base64.b64encode(self._private_key.sign(signed, PKCS1v15(), hashes.SHA256()))
        return f"algorithm=RSA256,keyVersion=1,signature={quote(value, safe='')}"

    async def call(
        self,
        uri: str,
        message: Json | bytes,
        *,
        method: str = "POST",
        time: str = "1685599933871",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        sent = self.headers(method, uri, time, body) | (headers or {})
        return await self.send(method, uri, sent, body)

    async def raw(self, uri: str, message: Json) -> httpx.Response:
        """The answer to a signed request as it comes; its own signature is left alone."""
        body = json.dumps(message).encode()
        headers = self.headers("POST", uri, "1685599933871", body)
        return await self.http.post(uri, content=body, headers=headers)

    def headers(self, method: str, uri: str, time: str, body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json; charset=UTF-8",
            "Client-Id": self.client_id,
            "Request-Time": time,
            "Signature": self.signature(method, uri, time, body),
        }

    async def send(self, method: str, uri: str, headers: dict[str, str], body: bytes) -> Answer:
        response = await self.http.request(method, uri, content=body, headers=headers)
        return Answer(
            status=response.status_code,
            headers=response.headers,
            raw_headers=response.headers.raw,
            body=response.content,
            signed=is_signed(
                self._antom_key, response.headers, "response-time", uri, response.content
            ),
        )

    async def create(self, message: Json) -> Answer:
        return await self.call(CREATE, message)

    async def inquire(self, payment_request_id: str = "order-1") -> Json:
        """The answer about a payment; it is signed."""
        answer = await self.call(INQUIRE, {"paymentRequestId": payment_request_id})
        assert answer.signed
        return answer.json

    async def buyer(self, reference: str = "order-1", **action: Any) -> httpx.Response:
        return await self.http.post(f"/emulator/buyer/{quote(reference, safe='')}", json=action)

    async def dashboard(
        self, action: str, reference: str = "order-1", **words: Any
    ) -> httpx.Response:
        return await self.http.post(
            f"/emulator/dashboard/{action}/{quote(reference, safe='')}", json=words
        )

    async def spoil(self, **plan: list[Json]) -> Json:
        """Add faults; all that there are then."""
        response = await self.http.post("/emulator/faults", json=plan)
        assert response.status_code == 200, response.text
        return response.json()

    async def advance(self, seconds: float = 0) -> None:
        response = await self.http.post("/emulator/clock", json={"advanceSeconds": seconds})
        assert response.status_code == 200, response.text

    async def deliveries(self) -> list[Json]:
        return (await self.http.get("/emulator/notifications")).json()["notifications"]


@dataclass
class Notified:
    """A notification as it came over the wire."""

    target: str
    headers: httpx.Headers
    names: list[str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A bare HTTP server that keeps what it gets and answers what it is told."""

    origin: str = ""
    got: list[Notified] = field(default_factory=list)
    status: int = 200
    content_type: str = "application/json"
    answer: bytes = json.dumps(ACKNOWLEDGED).encode()
    answers: bool = True
    """Whether it answers at all."""
    arrivals: asyncio.Condition = field(default_factory=asyncio.Condition)
    hold: Callable[[Notified], Any] | None = None
    """Awaited between a notification and its answer."""

    def forget(self) -> None:
        """As new, at the same address."""
        new = Receiver(self.origin)
        self.__dict__.update(new.__dict__)

    @property
    def types(self) -> list[str]:
        return [one.json["notifyType"] for one in self.got]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = [line.split(": ", 1) for line in head[1:] if line]
        headers = httpx.Headers([(name, value) for name, value in fields])
        body = await reader.readexactly(int(headers["content-length"]))
        notified = Notified(head[0].split(" ")[1], headers, [name for name, _ in fields], body)
        async with self.arrivals:
            self.got.append(notified)
            self.arrivals.notify_all()
        if self.hold:
            await self.hold(notified)
        if self.answers:
            writer.write(
                f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.content_type}\r\n"
                f"content-length: {len(self.answer)}\r\nconnection: close\r\n\r\n".encode()
                + self.answer
            )
            await writer.drain()
        writer.close()

    async def received(self, count: int) -> list[Notified]:
        async with self.arrivals:
            await self.arrivals.wait_for(lambda: len(self.got) >= count)
        return self.got


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncIterator[int]:
    """Serve on a free port of loopback; the connections wait in its queue until it is up."""
    server = uvicorn.Server(config)
    # With the protocol named, or asyncio leaves TCP_NODELAY off and every answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running
