"""Running an application on the bounded HTTP server, inside a running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from antom_payments.notifications.http_limits import HttpConfig, HttpLimits


def uvicorn_config(
    app: Any,
    *,
    limits: HttpLimits,
    count_refusal: Callable[[str], None],
    grace_seconds: int = 10,
) -> HttpConfig:
    """How uvicorn runs ``app``: within ``limits``, saying nothing about itself.

    `X-Forwarded-*` is not believed, nothing is logged by address or path, and the answers carry
    neither a server's name nor its clock. At the end, requests under way get ``grace_seconds``.
    """
    return HttpConfig(
        app,
        limits=limits,
        count_refusal=count_refusal,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=grace_seconds,
        reset_contextvars=True,
    )


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: whoever runs it says when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(config: uvicorn.Config, *, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port, which the system chooses when ``port`` is 0.

    Leaving the block closes the listener and idle connections, answers what is under way, and
    closes each connection after its answer; what is left after the grace is cancelled.

    Raises OSError when the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: 40 ms an answer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
        try:
            await server.ready.wait()
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await task
