"""A TCP proxy in front of a database, which does what networks do: delay, freeze, cut, refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from sqlalchemy import URL, make_url

Spoils = Callable[[bytes], bool]
"""Whether a piece of traffic is where the connection is cut; the piece is not passed on."""


DIRECTIONS = ("request", "answer")


def never(_: bytes) -> bool:
    return False


def _gates(*, are_open: bool) -> dict[str, asyncio.Event]:
    """One for each direction."""
    gates = {direction: asyncio.Event() for direction in DIRECTIONS}
    for gate in gates.values() if are_open else ():
        gate.set()
    return gates


@dataclass
class DatabaseProxy:
    """Passes bytes between the store and its database, until told otherwise."""

    upstream: URL
    port: int = 0
    delay_seconds: float = 0.0
    """Of each piece, in each direction."""
    request_spoils: Spoils = never
    answer_spoils: Spoils = never
    connections: int = 0
    """How many were made so far."""
    held: int = 0
    """How many pieces had to wait, for a thaw or for a delay."""
    _passing: dict[str, asyncio.Event] = field(default_factory=lambda: _gates(are_open=False))
    _pipes: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The database's URL through here."""
        through = self.upstream.set(host="127.0.0.1", port=self.port)
        return through.render_as_string(hide_password=False)

    async def accept(self) -> None:
        """Take connections, on the same port as before."""
        self.thaw()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def open_ends(self) -> int:
        """Two for each connection that is open."""
        return len(self._writers)

    def refuse(self) -> None:
        """Cut what is open, and take no connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset what is open."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def freeze(self, *directions: str) -> None:
        """Pass nothing on, and let nobody notice: new connections are taken, and wait.

        In both directions, or only for a `request` or an `answer`.
        """
        for direction in directions or DIRECTIONS:
            self._passing[direction].clear()

    def freeze_open(self) -> None:
        """Pass nothing on for connections that are open; new ones work."""
        self.freeze()
        self._passing = _gates(are_open=True)

    def thaw(self) -> None:
        for gate in self._passing.values():
            gate.set()

    async def close(self) -> None:
        self.refuse()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection onwards. Raises OSError."""
        return await asyncio.open_connection(self.upstream.host, self.upstream.port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            upstream = await self.reach()
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(upstream[1])
        passing = self._passing
        for source, sink, direction in (
            (reader, upstream[1], "request"),
            (upstream[0], writer, "answer"),
        ):
            pipe = asyncio.create_task(self._pipe(source, sink, direction, passing[direction]))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        direction: str,
        passing: asyncio.Event,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(65536):
                # Looked up now: tests arm it while connections are open.
                spoils = self.request_spoils if direction == "request" else self.answer_spoils
                if spoils(piece):
                    self.cut()
                    return
                self.held += bool(self.delay_seconds) or not passing.is_set()
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await passing.wait()
                if sink.is_closing():
                    # Cut meanwhile: uvloop's transports refuse what is written after that.
                    break
                sink.write(piece)
                await sink.drain()
        sink.close()
        self._writers.discard(sink)


@contextlib.asynccontextmanager
async def database_proxy(url: str) -> AsyncIterator[DatabaseProxy]:
    """A proxy in front of ``url`` while the block runs."""
    proxy = DatabaseProxy(make_url(url))
    await proxy.accept()
    try:
        yield proxy
    finally:
        await proxy.close()


def once(word: bytes) -> Spoils:
    """True for the first piece that holds ``word``."""
    left = [True]

    def spoils(piece: bytes) -> bool:
        return word in piece and left.pop() if left else False

    return spoils
