"""The admin listener: probes and metrics over plain HTTP, apart from all public listeners.

It tells how the process does and how much it works, and takes nothing: keep it inside the cluster.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from antom_payments import telemetry
from antom_payments.exposition import Exposition
from antom_payments.notifications import HttpLimits, serving, uvicorn_config

_LIMITS = HttpLimits(connections=32)
"""Of a kubelet and a few scrapers."""
_GRACE_SECONDS = 1
"""A scrape that is under way at the very end may take so long; it holds up nothing else."""

_log = telemetry.logger(__name__)


class Readiness:
    """What `/readyz` says: no, until there is somebody to follow."""

    def __init__(self) -> None:
        self._says: Callable[[], bool] = lambda: False

    def follow(self, says: Callable[[], bool]) -> None:
        """Say what ``says`` says from now on."""
        self._says = says

    def __call__(self) -> bool:
        """Whether the process can serve."""
        return self._says()


def admin_app(is_ready: Callable[[], bool], exposition: Exposition | None) -> Starlette:
    """`/livez`, `/readyz` and, with an ``exposition``, `/metrics`.

    `/livez` answers 200 while the event loop turns, and looks at nothing else: a restart mends no
    database. `/readyz` answers 200 or 503, as ``is_ready`` says: what gRPC health says.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        if is_ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", status_code=503)

    async def metrics(request: Request) -> Response:
        if exposition is None:
            return PlainTextResponse("metrics are off\n", status_code=404)
        text, content_type = await exposition.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
    )


@contextlib.asynccontextmanager
async def admin_listener(
    address: tuple[str, int] | None, is_ready: Callable[[], bool], exposition: Exposition | None
) -> AsyncIterator[None]:
    """Answer on ``address``, host and port, while the block runs; None is nowhere.

    Enter it first, so that a drain is seen to its end. Raises OSError when the address cannot be
    used.
    """
    if address is None:
        yield
        return
    host, port = address
    config = uvicorn_config(
        admin_app(is_ready, exposition),
        limits=_LIMITS,
        count_refusal=lambda _: None,
        grace_seconds=_GRACE_SECONDS,
    )
    async with serving(config, host=host, port=port) as chosen:
        _log.info("admin_serving", host=host, port=chosen)
        yield
