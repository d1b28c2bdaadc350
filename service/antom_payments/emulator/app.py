"""The emulator as a web application, and how uvicorn serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from antom_payments.emulator.control import Control, told
from antom_payments.emulator.emulator import Emulator
from antom_payments.emulator.gateway import Gateway
from antom_payments.emulator.ledger import NotPossible
from antom_payments.emulator.options import EmulatorOptions
from antom_payments.emulator.results import Refused
from antom_payments.emulator.severance import SeverableProtocol

_GRACEFUL_SECONDS = 5


def emulator_app(options: EmulatorOptions) -> Starlette:
    """A local Antom as an ASGI application; its time passes while its lifespan runs.

    The domain is in ``app.state.emulator``, for tests in the same process.

    Raises:
        ConfigurationError: a client id is none that Antom could give.
    """
    emulator = Emulator(options)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with emulator.running():
            yield

    app = Starlette(
        routes=[Control(emulator).routes(), Route("/{path:path}", Gateway(emulator))],
        middleware=[Middleware(OriginForm)],
        exception_handlers=dict.fromkeys(
            (NotPossible, Refused, ValidationError, HTTPException, ClientDisconnect, Exception),
            told,
        ),
        lifespan=lifespan,
    )
    app.state.emulator = emulator
    return app


def server_config(
    options: EmulatorOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    certificate_file: Path | None = None,
    private_key_file: Path | None = None,
) -> uvicorn.Config:
    """How uvicorn serves an emulator; give it to ``uvicorn.Server``.

    Args:
        options: the emulator's.
        host: loopback, unless you know who can reach it: anyone who does can play the buyer.
        port: 0 takes a free one.
        certificate_file: PEM; with it and its key the emulator speaks TLS, which the official
            Python SDK insists on (and on port 443, antom-api 1.10).
        private_key_file: PEM.
    """
    return uvicorn.Config(
        emulator_app(options),
        host=host,
        port=port,
        ssl_certfile=certificate_file,
        ssl_keyfile=private_key_file,
        http=SeverableProtocol,
        ws="none",
        lifespan="on",
        # Ours names no URL: they carry ids of sessions, which are the buyer's secret.
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )


class OriginForm:
    """Turns absolute-form targets (`POST https://host/path`) into origin form.

    The official Python SDK sends them (antom-api 1.10). httptools cuts them before they come here,
    h11 does not: the application shall work on either.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its path only."""
        if scope["type"] == "http" and not scope["raw_path"].startswith(b"/"):
            scope = dict(scope)
            scope["path"] = "/" + scope["path"].partition("://")[2].partition("/")[2]
            scope["raw_path"] = b"/" + scope["raw_path"].partition(b"://")[2].partition(b"/")[2]
        await self._app(scope, receive, send)
