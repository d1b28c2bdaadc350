"""Real sidecars that are killed at a chosen point between verification and answer.

A script: it reads orders, one JSON object a line, forks a sidecar for each and reports its port and
then how it died. Forked, because importing everything takes seconds. The kill points are listeners
and wrappers of this script: the code under test has none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import datetime
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from antom_payments.antom.signing import Verifier, load_public_key
from antom_payments.notifications import (
    Counts,
    HttpLimits,
    Sender,
    notification_app,
    serving,
    uvicorn_config,
)
from antom_payments.service import PaymentService
from antom_payments.store import DataCipher, open_store

AFTER_STATEMENTS = {
    "begun": "",
    "fact stored": "INSERT INTO facts",
    "event stored": "INSERT INTO events",
}
POINTS = ["verified", *AFTER_STATEMENTS, "committing", "committed"]
SAFETY_NET_SECONDS = 60


def report(**what: int) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Armed:
    """The service; from its call on, the kill point is armed."""

    def __init__(self, service: PaymentService, point: str) -> None:
        self._service = service
        self._point = point

    async def apply_notification(self, *told: Any) -> Any:
        if self._point == "verified":
            die()
        if self._point in AFTER_STATEMENTS:
            event.listen(Engine, "after_cursor_execute", self._after_statement)
        if self._point == "committing":
            event.listen(Engine, "commit", die)
        return await self._service.apply_notification(*told)

    def _after_statement(self, _conn, _cursor, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN") and AFTER_STATEMENTS[self._point] in statement:
            die()


def dies_before_answering(app: Any) -> Any:
    async def wrapped(scope, receive, _) -> None:
        await app(scope, receive, die_async)

    return wrapped


async def die_async(_: object) -> None:
    die()


async def serve(order: dict[str, str]) -> None:
    now = datetime.fromisoformat(order["now"])
    key = load_public_key(order["public_key"], setting="test")
    async with open_store(
        order["database_url"], cipher=DataCipher(order["data_key"]), now=lambda: now
    ) as store:
        counts = Counts()
        app: Any = notification_app(
            Armed(PaymentService(store, {}, now=lambda: now), order["point"]),
            {order["client_id"]: Sender("default", Verifier([key]))},
            path=order["path"],
            clock=lambda: now,
            counts=counts,
        )
        if order["point"] == "committed":
            app = dies_before_answering(app)
        config = uvicorn_config(app, limits=HttpLimits(), count_refusal=counts.malformed)
        async with serving(config, host="127.0.0.1", port=0) as port:
            report(port=port)
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
