"""Real sockets that behave as badly as the wire can, and an Antom that answers what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NAMED_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to whoever names none."""


@dataclass
class Request:
    """A request as it came over the wire; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Visit:
    """One request, and the means to answer it."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes, headers: Mapping[str, str] | None = None, status: str = "200 OK"
    ) -> None:
        """A sound HTTP answer."""
        head = {"Content-Length": str(len(body))} | dict(headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        await self.send(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)

    async def hang_up(self) -> None:
        """Close the connection in good order."""
        self.writer.close()

    async def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        connection = self.writer.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_left(self) -> None:
        """Say nothing more until the client closes the connection."""
        await self.reader.read()


Behaviour = Callable[[Visit], Awaitable[None]]


@dataclass
class Server:
    """A listening socket; each request gets the next behaviour, the last one for ever."""

    behaviours: tuple[Behaviour, ...]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request has come whole."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection is over."""
    open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    def origin(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open[task] = writer
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                request = await _read_request(reader)
                self.requests.append(request)
                self.arrived.set()
                behaviour = self.behaviours[min(len(self.requests), len(self.behaviours)) - 1]
                await behaviour(Visit(request, reader, writer))
        self.left.set()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    *behaviours: Behaviour, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """A server on a free port of this machine."""
    server = Server(behaviours)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
        for writer in server.open.values():
            writer.transport.abort()
        await asyncio.gather(*server.open)


def free_port() -> int:
    """A port that nobody listens on, and that other tests' servers are not given meanwhile."""
    for port in random.sample(NAMED_PORTS, len(NAMED_PORTS)):
        with socket.socket() as unused, contextlib.suppress(OSError):
            unused.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one test, and a server certificate of it."""

    ca_file: Path
    server_tls: ssl.SSLContext


def authority(folder: Path, *, host: str = "localhost") -> Authority:
    """An authority in ``folder`` that vouches for ``host`` and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)
    names = [x509.DNSName(host), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ca_file, key_file)
    return Authority(ca_file, tls)
