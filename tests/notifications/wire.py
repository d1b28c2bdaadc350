"""HTTP/1.1 by hand, over a real socket: what a client library would not let a test send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode().split("\r\n")[1:]
        pairs = [line.split(": ", 1) for line in lines if line]
        assert len(pairs) == len(dict(pairs)), "a header came twice"
        return dict(pairs)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer | None:
        """The next answer; None when the server closes instead."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        answer = Answer(int(head.split(b" ", 2)[1]), head, b"")
        body = await self.reader.readexactly(int(answer.headers.get("content-length", "0")))
        return Answer(answer.status, head, body)

    async def is_closed(self) -> bool:
        """Wait for the server's end of the connection."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


def request(
    body: bytes = b"",
    *,
    method: str = "POST",
    target: str = "/antom/notify",
    headers: list[tuple[str, str]] | None = None,
    framed: bool = True,
) -> bytes:
    """The bytes of a request, with a Content-Length unless ``framed`` is False."""
    lines = [f"{method} {target} HTTP/1.1", "host: merchant.example"]
    lines += [f"{name}: {value}" for name, value in headers or []]
    if framed:
        lines.append(f"content-length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


async def ask(port: int, data: bytes) -> Answer | None:
    """Send ``data`` on a connection of its own."""
    async with await Wire.connect(port) as wire:
        wire.send(data)
        return await wire.answer()
