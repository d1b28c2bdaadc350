"""Real servers, as `app` composes them, that are killed at a chosen point of CreateSession.

A script: it reads orders, one JSON object a line, forks a server for each, reports its port and its
pid, and then how it died. Forked, because importing everything takes seconds. The kill points are
listeners and wrappers of this script: the code under test has none. A server's clock stands still,
at the order's time and as many seconds later as the order's file says.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from antom_payments import settings
from antom_payments.antom.wire import Wire
from antom_payments.app import grpc_server
from antom_payments.service import PaymentService

SAFETY_NET_SECONDS = 60


def report(**what: int) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Make this process die at ``point``, the first time that it gets there."""
    post, create_session = Wire.post, PaymentService.create_session

    async def dies_before_asking(*_: Any, **__: Any) -> None:
        die()

    async def dies_when_answered(wire: Wire, *args: Any, **kwargs: Any) -> None:
        await post(wire, *args, **kwargs)
        die()

    async def dies_before_answering(service: PaymentService, *args: Any, **kwargs: Any) -> None:
        await create_session(service, *args, **kwargs)
        die()

    def dies_with_the_event(_conn: Any, _cursor: Any, statement: str, *_: object) -> None:
        if "INSERT INTO events" in statement:
            event.listen(Engine, "commit", die)

    match point:
        case "intent committed":
            Wire.post = dies_before_asking  # type: ignore[assignment, method-assign] # it dies
        case "answered":
            Wire.post = dies_when_answered  # type: ignore[assignment, method-assign] # it dies
        case "confirming":
            event.listen(Engine, "after_cursor_execute", dies_with_the_event)
        case "session committed":
            PaymentService.create_session = dies_before_answering  # type: ignore[assignment, method-assign] # it dies


async def serve(order: dict[str, Any]) -> None:
    start, later = datetime.fromisoformat(order["start"]), Path(order["later"])
    arm(order["point"])
    async with grpc_server(
        settings.load(**order["settings"]),
        now=lambda: start + timedelta(seconds=float(later.read_text())),
    ) as server:
        report(port=server.port, pid=os.getpid())
        await asyncio.Event().wait()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.alarm(SAFETY_NET_SECONDS)
            asyncio.run(serve(json.loads(line)))
        _, status = os.waitpid(child, 0)
        report(signal=os.WTERMSIG(status))


if __name__ == "__main__":
    main()
