"""An Antom whose answers are signed beforehand: `python -m bench.gateway CERTIFICATE KEY`.

Over TLS, because the official SDK speaks nothing else; it costs next to nothing beside what is
measured, and the same for both sides. The inquiries are our reconciler's, which goes on meanwhile.
Prints its port; the command `count` tells how many sessions it gave out since it was asked last.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop

from antom_payments.antom.endpoints import Operation, operation_path
from antom_payments.antom.signing import Signer, load_private_key
from bench.obedience import obey, say
from keys import golden_pair
from notifications.sidecars import CLIENT_ID

_END = b"\r\n\r\n"


def canned() -> dict[Operation, bytes]:
    """The whole HTTP answers; the sessions of a run are all the same, and no buyer has come."""
    now = datetime.now(UTC)
    session = {
        "paymentSessionData": "d" * 1024,
        "paymentSessionExpiryTime": _text(now + timedelta(hours=1)),
        "paymentSessionId": "session-of-the-bench",
        "result": {"resultCode": "SUCCESS", "resultMessage": "success.", "resultStatus": "S"},
    }
    unknown = {
        "result": {
            "resultCode": "ORDER_NOT_EXIST",
            "resultMessage": "The order does not exist.",
            "resultStatus": "F",
        }
    }
    return {
        Operation.CREATE_PAYMENT_SESSION: _signed(
            Operation.CREATE_PAYMENT_SESSION, session, _text(now)
        ),
        Operation.INQUIRY_PAYMENT: _signed(Operation.INQUIRY_PAYMENT, unknown, _text(now)),
    }


def _signed(operation: Operation, message: dict[str, Any], time: str) -> bytes:
    body = json.dumps(message).encode()
    signer = Signer(load_private_key(golden_pair("antom").private, setting="bench"), CLIENT_ID)
    path = operation_path(operation, CLIENT_ID)
    head = {
        "content-type": "application/json; charset=UTF-8",
        "content-length": str(len(body)),
        "client-id": CLIENT_ID,
        "response-time": time,
        "signature": signer.signature_header("POST", path, time, body),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + body


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class Conversation(asyncio.Protocol):
    """One connection; requests one after the other."""

    sessions = 0
    """How many were given out, on all of them."""

    def __init__(self, answers: Mapping[Operation, bytes]) -> None:
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_END)
        if not end:
            return
        fields = head.lower().split(b"\r\n")
        length = next(int(f.partition(b":")[2]) for f in fields if f.startswith(b"content-length"))
        if len(body) >= length:
            self._received = body[length:]
            is_session = Operation.CREATE_PAYMENT_SESSION.encode() in head
            Conversation.sessions += is_session
            asked = Operation.CREATE_PAYMENT_SESSION if is_session else Operation.INQUIRY_PAYMENT
            self._transport.write(self._answers[asked])


async def count() -> int:
    """How many sessions were given out since the last look."""
    sessions, Conversation.sessions = Conversation.sessions, 0
    return sessions


async def main(certificate: str, key: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    answers = canned()
    server = await asyncio.get_running_loop().create_server(
        lambda: Conversation(answers), "127.0.0.1", 0, ssl=tls, backlog=1024
    )
    say(server.sockets[0].getsockname()[1])
    await obey({"count": count})


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
