"""Liveness and readiness over HTTP, for a listener of its own: never the public one."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def health_app(is_ready: Callable[[], bool]) -> Starlette:
    """`/livez` answers 200 while the event loop turns; `/readyz` 200 or 503, as ``is_ready`` says.

    Liveness looks at nothing else: a restart mends no database.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        if is_ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", status_code=503)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz)])
