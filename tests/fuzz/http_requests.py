"""Raw HTTP at a real sidecar: framing that is ambiguous or broken never hides a second request."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from random import Random

from fuzz.mutation import mutated_bytes
from fuzz.sidecar_process import SidecarProcess, sidecar_process
from fuzz.target import Input, Kind, Target, must, raw
from notifications.sidecars import ACKNOWLEDGEMENT, PATH
from notifications.wire import Wire, ask

HIDDEN = "<a genuine notification>"
"""Where the check puts one: no answer to anything around it may be an acknowledgement."""
_ANSWERS = {100, 400, 401, 404, 408, 413, 431, 503}
_WAIT_SECONDS = 0.05
_PATIENCE_SECONDS = 20.0
_CONTROL_EVERY = 100

_LENGTHS = (
    "content-length: {n}",
    "content-length: 0",
    "Content-Length: {n}\r\ncontent-length: 0",
    "content-length: +{n}",
    "content-length: {n}, {n}",
    "content-length : {n}",
    "content-length: 0x10",
    "content-length:\x0b{n}",
    "content-length: {n}\n",
    "content_length: 3",
    "transfer-encoding: chunked",
    "Transfer-Encoding: Chunked\r\ncontent-length: {n}",
    "content-length: {n}\r\ntransfer-encoding: chunked",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    "transfer-encoding:\tchunked",
    "transfer-encoding: chunked, chunked",
    "transfer-encoding\x00: chunked",
    "x: y",
    " transfer-encoding: chunked",
    "x: y\r\n transfer-encoding: chunked",
    "x: y\n\ncontent-length: 5",
    "transfer-encoding: gzip",
    "transfer-encoding: ;chunked",
    "expect: 100-continue\r\nx: y",
    "upgrade: h2c\r\nconnection: upgrade",
    "connection: close, content-length\r\ncontent-length: 3",
)
_BODIES = (
    "{hidden}",
    "0\r\n\r\n{hidden}",
    "5\r\nhello\r\n0\r\n\r\n{hidden}",
    "\r\n\r\n{hidden}",
    "{size}\r\n{hidden}\r\n0\r\n\r\n",
    "{size};a=b\r\n{hidden}\r\n0\r\n\r\n",
    "-1\r\n{hidden}",
    "0x5\r\nhello\r\n0\r\n\r\n{hidden}",
    "0\r\nsignature: x\r\n\r\n{hidden}",
    "00000000\r\n\r\n{hidden}",
    "5\nhello\n0\n\n{hidden}",
    "ffffffffffffffff\r\n{hidden}",
    "5 \r\nhello\r\n0\r\n\r\n{hidden}",
    "0;{long}\r\n\r\n{hidden}",
    "{hidden}{hidden}",
    "",
    "0\r\n\r\n\r\n\r\n{hidden}",
)
_LINES = (
    f"POST {PATH} HTTP/1.1",
    f"POST {PATH} HTTP/1.0",
    f"GET {PATH} HTTP/1.1",
    "POST / HTTP/1.1",
    f"POST {PATH}  HTTP/1.1",
    f"post {PATH} HTTP/1.1",
    f"POST {PATH} HTTP/1.1\r\n x: y",
    "\r\n\r\n",
    f"POST {PATH} HTTP/2.0",
    "PRI * HTTP/2.0\r\n\r\nSM",
    "CONNECT a:1 HTTP/1.1",
    f"POST {PATH}",
    f"HEAD {PATH} HTTP/1.1",
    f"POST http://a{PATH} HTTP/1.1",
    f"POST {PATH}\x00 HTTP/1.1",
)


def _make(random: Random) -> Input:
    line = random.choice(_LINES) if random.random() < 0.5 else _LINES[0]
    body = random.choice(_BODIES).replace("{hidden}", HIDDEN).replace("{long}", "x" * 20_000)
    fields = ["host: merchant.example", *random.sample(_LENGTHS, random.choice((1, 1, 2)))]
    if random.random() < 0.1:
        fields += [f"h{n}: v" for n in range(random.choice((10, 70)))]
    random.shuffle(fields)
    end = random.choice(("\r\n",) * 8 + ("\n", "\r", "\r\n "))
    data = (end.join([line, *fields]) + end + end + body).encode("latin-1")
    if random.random() < 0.4:
        head, separator, rest = data.partition(HIDDEN.encode())
        data = mutated_bytes(random, head) + separator + rest
    return {"data": data.decode("latin-1")}


class HttpRequests:
    """Sends, and reads every answer to the end of the connection."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._sidecar = sidecar
        self._count = 0

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        self._count += 1
        hidden = self._sidecar.notification()
        head, separator, rest = raw(given["data"]).partition(HIDDEN.encode())
        sizes = {b"{n}": b"%d" % len(hidden), b"{size}": b"%x" % len(hidden)}
        for name, size in sizes.items():
            head = head.replace(name, size)
        before = self._sidecar.stored()
        answered = await self._answers(head + (separator and hidden) + rest)
        statuses = [int(one) for one in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answered, re.MULTILINE)]
        acknowledged = answered.count(ACKNOWLEDGEMENT)
        # What stands before the end of the first head is not hidden: it is that request.
        is_hidden = re.search(rb"\r?\n\r?\n", head.lstrip(b"\r\n"))
        must(not acknowledged or not is_hidden, "a hidden notification was acknowledged")
        must(
            set(statuses) - ({200} if acknowledged else set()) <= _ANSWERS,
            f"answers that must not be: {statuses}",
        )
        must(answered.startswith(b"HTTP/1.1 ") or not answered, "an answer that is no HTTP")
        stored = self._sidecar.stored() - before
        must(stored == acknowledged, f"{stored} stored, {acknowledged} acknowledged")
        if self._count % _CONTROL_EVERY == 0:
            await self.control()
        final = [status for status in statuses if status != 100]
        must(len(final) <= 1, f"several answers: {final}")
        if acknowledged:
            return "accepted: with another head"
        return f"refused: {final[0]}" if final else "refused: closed"

    async def control(self) -> None:
        """A genuine notification by itself is taken."""
        answer = await asyncio.wait_for(
            ask(self._sidecar.port, self._sidecar.notification()), _PATIENCE_SECONDS
        )
        must(answer and answer.body == ACKNOWLEDGEMENT, "a genuine notification was not taken")

    async def _answers(self, data: bytes) -> bytes:
        """Everything that comes back; the sending side is closed after a while."""
        async with await Wire.connect(self._sidecar.port) as wire:
            wire.send(data)
            read = asyncio.create_task(wire.reader.read())
            await asyncio.wait([read], timeout=_WAIT_SECONDS)
            if not read.done() and wire.writer.can_write_eof():
                with contextlib.suppress(OSError):
                    wire.writer.write_eof()
            with contextlib.suppress(ConnectionError):
                return await asyncio.wait_for(read, _PATIENCE_SECONDS)
        return b""


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The sidecar as a process."""
    async with sidecar_process() as sidecar:
        feeding = HttpRequests(sidecar)
        yield Target(_make, feeding.check, feeding.control, sidecar.pid)


KIND = Kind("http_requests", opened, is_timed=True)
