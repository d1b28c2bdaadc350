"""An HTTP server that a stranger cannot hold up: bounds on bytes, counts and time.

uvicorn alone waits for ever for a half-sent request, takes a head of 20 MB, and puts trailers among
the headers after the application has read them. Whatever is refused here is refused before the
application knows of it, with an answer that says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NoReturn

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may use. The defaults are those of a receiver of small signed messages."""

    head_bytes: int = 16 * 1024
    """Request line and headers together."""
    headers: int = 64
    body_bytes: int = 64 * 1024
    """Of the body as the application gets it, counted while it arrives."""
    request_seconds: float = 5.0
    """From the first byte of a request to its last; also for a new connection to say anything."""
    keep_alive_seconds: int = 75
    """Longer than the 60 s of common load balancers, so that they are the ones to close."""
    requests_per_connection: int = 100
    """So few that the answers to a client that never reads fit the kernel's buffer."""
    connections: int = 512
    """One more takes the place of the one that has waited longest without a whole request."""
    linger_seconds: float = 1.0
    """How long what follows a refusal is read and thrown away, so that no reset overtakes it."""


class HttpConfig(uvicorn.Config):
    """uvicorn's configuration with our limits; ``count_refusal`` gets a bounded reason."""

    def __init__(
        self, app: Any, *, limits: HttpLimits, count_refusal: Callable[[str], None], **options: Any
    ) -> None:
        super().__init__(app, http=BoundedHttpProtocol, **options)
        self.limits = limits
        self.count_refusal = count_refusal


class RequestRefused(Exception):
    """Stops the parser; the client gets ``status`` and nothing else."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status} {reason}")


_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _refusal(status: int) -> bytes:
    return (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ).encode()


class _Stage(Enum):
    """Where the connection is with its one request."""

    HEAD = auto()
    """The head is awaited."""
    BODY = auto()
    """The application runs, the body is awaited."""
    ANSWER = auto()
    """The request is whole, the answer is awaited."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol within `HttpLimits`. One request at a time: pipelining is not served."""

    config: HttpConfig

    def __init__(self, config: HttpConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._limits = config.limits
        self._clock: asyncio.TimerHandle | None = None
        self._requests = 0
        self._stage = _Stage.HEAD
        self._head_bytes = 0
        self._body_bytes = 0
        self._refused: RequestRefused | None = None
        self._deaf = False
        self._waits_since = 0.0
        self._gave_way = False

    # Connection

    # As uvicorn's own method narrows it: TCP gives a Transport, asyncio's protocol says less.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection if there is room for it."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        if not self._has_room():
            self._deaf = True
            self.config.count_refusal("connections")
            transport.write(_refusal(503))
            transport.close()
            return
        self._start_clock()

    def _has_room(self) -> bool:
        """Whether there is a place for this connection, made by another one if need be.

        Whoever holds every place and asks for nothing must not keep Antom out: a notification is
        whole milliseconds after its connection. Only requests that are being answered stay.
        """
        if len(self.connections) <= self._limits.connections:
            return True
        here = [
            one
            for one in self.connections
            if isinstance(one, BoundedHttpProtocol) and not one._gave_way  # noqa: SLF001 - our own
        ]
        if len(here) <= self._limits.connections:
            return True
        waiting = [one for one in here if one is not self and not one._is_answering()]  # noqa: SLF001
        if not waiting:
            return False
        min(waiting, key=lambda one: one._waits_since)._give_way()  # noqa: SLF001 - our own
        return True

    def _give_way(self) -> None:
        self._gave_way = self._deaf = True
        self.config.count_refusal("connections")
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, within the limits."""
        if self._deaf:
            return
        if self._is_answering():
            self._answer_then_close()
            return
        self._unset_keepalive_if_required()
        if self._clock is None:
            self._start_clock()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if self._is_answering():
                self._answer_then_close()
            else:
                self._refuse(self._refused or RequestRefused(400, "framing"))

    def _feed(self, data: bytes) -> None:
        """Feed the parser, a head never by more than its limit: the parser keeps what it gets."""
        while data:
            piece = data
            if self._stage is _Stage.HEAD:
                room = self._limits.head_bytes - self._head_bytes
                if room <= 0:
                    self._refuse(RequestRefused(431, "head_bytes"))
                    return
                piece = data[:room]
                self._head_bytes += len(piece)
            data = data[len(piece) :]
            self.parser.feed_data(piece)

    def _is_answering(self) -> bool:
        return self._stage is _Stage.ANSWER

    def _answer_then_close(self) -> None:
        """Answer the request at hand; what came after it is not read."""
        self._deaf = True
        self.cycle.keep_alive = False

    # Parser callbacks

    def on_message_begin(self) -> None:
        """Begin a request, unless one is being answered."""
        if self._is_answering():
            self._stop_parser(400, "pipelining")
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; refuse too many, and trailers."""
        if self._stage is not _Stage.HEAD:
            self._stop_parser(400, "trailer")
        if len(self.headers) >= self._limits.headers:
            self._stop_parser(431, "headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse ambiguous framing and a body that announces itself as too large."""
        if self.parser.should_upgrade():  # CONNECT, too
            self._stop_parser(400, "upgrade")
        lengths = [value for name, value in self.headers if name == b"content-length"]
        encodings = [value for name, value in self.headers if name == b"transfer-encoding"]
        hosts = [value for name, value in self.headers if name == b"host"]
        # Of two hosts a proxy may have obeyed the other one (RFC 9112, 3.2).
        if len(lengths) + len(encodings) > 1 or len(hosts) > 1:
            self._stop_parser(400, "framing")
        if encodings and (
            encodings[0].lower() != b"chunked" or self.parser.get_http_version() != "1.1"
        ):
            self._stop_parser(400, "framing")
        # The parser has checked that a length is a number, and its size.
        if lengths and int(lengths[0]) > self._limits.body_bytes:
            self._stop_parser(413, "body_bytes")
        super().on_headers_complete()
        self._stage = _Stage.BODY
        self._requests += 1
        if self._requests >= self._limits.requests_per_connection:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, up to the limit."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._stop_parser(413, "body_bytes")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: from here on the application's deadline counts."""
        self._stop_clock()
        self._head_bytes = self._body_bytes = 0
        super().on_message_complete()
        self._stage = _Stage.HEAD if self.cycle.response_complete else _Stage.ANSWER

    def on_response_complete(self) -> None:
        """The answer has left: the next request may come."""
        self._waits_since = self.loop.time()
        if self._stage is _Stage.ANSWER:
            self._stage = _Stage.HEAD
        super().on_response_complete()

    # Refusing

    def _stop_parser(self, status: int, reason: str) -> NoReturn:
        self._refused = RequestRefused(status, reason)
        raise self._refused

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer without the application, and close once the client had time to read it."""
        self._deaf = True
        self._stop_clock()
        self._unset_keepalive_if_required()
        self.config.count_refusal(refused.reason)
        if self._stage is _Stage.BODY:
            # The application waits for the rest of the body: let it go.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write(_refusal(refused.status))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._clock = self.loop.call_later(self._limits.linger_seconds, self.transport.abort)

    # Time

    def _start_clock(self) -> None:
        self._clock = self.loop.call_later(self._limits.request_seconds, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        if self._stage is _Stage.HEAD and not self._head_bytes:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(RequestRefused(408, "slow"))
