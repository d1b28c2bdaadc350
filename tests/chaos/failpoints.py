"""Where a process can be made to die by kill -9 (R-04): listeners and wrappers, installed in it.

The code under test has no hook. All points are installed in every process, and cost a look at a
byte; which of them kills, the board says while the process works.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import aiohttp
from sqlalchemy import event
from sqlalchemy.engine import Engine

from antom_payments import app
from antom_payments.antom.wire import Wire
from antom_payments.grpc_api.health import Health
from antom_payments.grpc_api.limits import Admission
from antom_payments.grpc_api.stream import Delivery, OpenStreams
from antom_payments.notifications import NotificationApp
from antom_payments.notifications import app as sidecar
from antom_payments.service import PaymentService
from antom_payments.store.engines import WRITER
from chaos.asks import Asks
from chaos.board import Board

OF_SERVERS = (
    "before Antom is asked",
    "Antom asked, no answer yet",
    "Antom answered, nothing stored",
    "first statement about payments",
    "event inserted",
    "before commit",
    "committed, caller not answered",
    "before a stream write",
    "after a stream write",
)
OF_SIDECARS = (
    "before the signature check",
    "after the signature check",
    "first statement about payments",
    "fact inserted",
    "event inserted",
    "before commit",
    "committed, Antom not answered",
)
OF_DRAINING_SERVERS = (
    "calls still taken",
    "GOAWAY sent, streams open",
    "streams told to end",
    "no call left",
    "the server gone, the pool open",
)
OF_DRAINING_SIDECARS = ("told to go, still working", "nothing under way, still listening")
OF_MIGRATIONS = ("in the middle of a migration",)
KEYS_READ = "keys read"
OF_PRUNING = ("events deleted, not committed", "private data deleted, not committed")
NUMBERS = {
    point: number
    for number, point in enumerate(
        sorted(
            {
                *(*OF_SERVERS, *OF_SIDECARS, *OF_DRAINING_SERVERS, *OF_DRAINING_SIDECARS),
                *(*OF_MIGRATIONS, *OF_PRUNING, KEYS_READ),
            }
        ),
        start=1,
    )
}

_AFTER_STATEMENTS = {
    "fact inserted": "INSERT INTO facts",
    "event inserted": "INSERT INTO events",
    "in the middle of a migration": "ALTER TABLE payments ADD COLUMN chaos",
    "events deleted, not committed": "DELETE FROM events",
    "private data deleted, not committed": "DELETE FROM private_data",
}
_WROTE = "chaos_wrote_an_event"
_NO_STATEMENT_YET = "chaos_no_statement_about_payments_yet"
_ASKS_FOR_A_SESSION = "createPaymentSession"


class Failpoints:
    """The points of one process, which has a slot of the board."""

    def __init__(self, board: Board, slot: int, name: str, asks: Asks) -> None:
        self._board = board
        self._slot = slot
        self._name = name
        self._asks = asks

    def reached(self, point: str) -> None:
        """Die here, if the board says so."""
        if self._board.armed(self._slot) == NUMBERS[point]:
            self._board.note_dying(self._slot)
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Put the points where they belong, once per process."""
        event.listen(Engine, "begin", self._begun)
        event.listen(Engine, "after_cursor_execute", self._executed)
        event.listen(Engine, "commit", self._committing)
        self._around_asking()
        self._while_draining()
        self._around(PaymentService, "create_session", "", "committed, caller not answered")
        self._around(Delivery, "_write", "before a stream write", "after a stream write")
        prove = sidecar.prove

        @wraps(prove)
        def proven(*told: Any, **more: Any) -> Any:
            self.reached("before the signature check")
            proof = prove(*told, **more)
            self.reached("after the signature check")
            return proof

        sidecar.prove = proven
        load_public_key = app.load_public_key

        @wraps(load_public_key)
        def loaded(*told: Any, **more: Any) -> Any:
            self.reached(KEYS_READ)
            return load_public_key(*told, **more)

        app.load_public_key = loaded
        self._before_answers()

    def _around(self, of: type, name: str, before: str, after: str) -> None:
        inner: Callable[..., Awaitable[Any]] = getattr(of, name)

        @wraps(inner)
        async def wrapped(*told: Any, **more: Any) -> Any:
            if before:
                self.reached(before)
            result = await inner(*told, **more)
            if after:
                self.reached(after)
            return result

        setattr(of, name, wrapped)

    def _around_asking(self) -> None:
        """Of sessions only: an inquiry is asked again without a word."""
        post, start = Wire.post, aiohttp.ClientResponse.start

        @wraps(post)
        async def posted(wire: Wire, path: str, body: bytes, *told: Any, **more: Any) -> Any:
            if not path.endswith(_ASKS_FOR_A_SESSION):
                return await post(wire, path, body, *told, **more)
            self.reached("before Antom is asked")
            wanted = str(json.loads(body)["paymentRequestId"])
            ahead = self._board.ahead(0) + self._board.ahead(self._slot)
            with self._asks.noted(self._name, wanted, ahead):
                answer = await post(wire, path, body, *told, **more)
            self.reached("Antom answered, nothing stored")
            return answer

        @wraps(start)
        async def started(response: aiohttp.ClientResponse, *told: Any) -> Any:
            if response.url.path.endswith(_ASKS_FOR_A_SESSION):
                # What is left of the request goes to the kernel, which sends it even so.
                if response._writer is not None:
                    await asyncio.wait({response._writer})
                self.reached("Antom asked, no answer yet")
            return await start(response, *told)

        Wire.post = posted  # type: ignore[method-assign] # it kills
        aiohttp.ClientResponse.start = started  # type: ignore[method-assign] # it kills

    def _while_draining(self) -> None:
        health_drain, end_all = Health.drain, OpenStreams.end_all

        @wraps(health_drain)
        async def unready(health: Health) -> None:
            await health_drain(health)
            self.reached("calls still taken")

        @wraps(end_all)
        def ended(streams: OpenStreams, *told: Any) -> None:
            self.reached("GOAWAY sent, streams open")
            end_all(streams, *told)
            self.reached("streams told to end")

        Health.drain = unready  # type: ignore[method-assign] # it kills
        OpenStreams.end_all = ended  # type: ignore[method-assign] # it kills
        self._around(Admission, "idle", "", "no call left")
        self._around(PaymentService, "drain", "the server gone, the pool open", "")
        self._around(
            *(NotificationApp, "drain"),
            *("told to go, still working", "nothing under way, still listening"),
        )

    def _before_answers(self) -> None:
        respond = NotificationApp._respond

        @wraps(respond)
        async def responded(app: NotificationApp, *told: Any) -> Any:
            response = await respond(app, *told)
            if response.status_code == 200:
                self.reached("committed, Antom not answered")
            return response

        NotificationApp._respond = responded  # type: ignore[method-assign] # it kills

    def _begun(self, connection: Any) -> None:
        connection.info.pop(_WROTE, None)
        is_writer = connection.get_execution_options().get(WRITER)
        connection.info[_NO_STATEMENT_YET] = bool(is_writer)

    def _executed(self, connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        # Not `events` or leases of inquiries, which a transaction about nobody's money has, too.
        if "payments" in statement and connection.info.get(_NO_STATEMENT_YET):
            connection.info[_NO_STATEMENT_YET] = False
            self.reached("first statement about payments")
        if "INSERT INTO events" in statement:
            connection.info[_WROTE] = True
        for point, words in _AFTER_STATEMENTS.items():
            if words in statement:
                self.reached(point)

    def _committing(self, connection: Any) -> None:
        if connection.info.pop(_WROTE, False):
            self.reached("before commit")
