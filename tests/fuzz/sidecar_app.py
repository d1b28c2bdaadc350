"""The sidecar's application on a real store, called without sockets, and what is watched on it."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from antom.golden import private_key, public_key
from antom_payments import telemetry
from antom_payments.antom.signing import Signer, Verifier
from antom_payments.notifications import NotificationApp, Sender, notification_app
from antom_payments.notifications import app as app_module
from antom_payments.service import PaymentService
from antom_payments.store import DataCipher, PaymentStore, migrate, new_data_key, open_store
from fuzz.mutation import SECRET
from fuzz.target import Input, must, raw
from notifications.sidecars import CLIENT_ID, PATH, Metrics

NOW = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
"""When the golden notifications were signed."""


_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of ours in it


def now() -> datetime:
    return NOW


class Ears:
    """Takes what is logged, and keeps only whether it told a secret."""

    def __init__(self) -> None:
        self.lines = 0
        self.leaks: list[str] = []

    def write(self, line: str) -> int:
        self.lines += 1
        if SECRET[:12] in line or SECRET[12:28] in line:
            self.leaks.append(line)
        return len(line)

    def flush(self) -> None:
        """Nothing is held back."""


@contextlib.contextmanager
def listening() -> Iterator[Ears]:
    """The product's own log, as it is in production, with ears in place of stderr."""
    root, ours = logging.getLogger(), logging.getLogger("antom_payments")
    before = root.handlers[:], root.level, ours.level
    telemetry.configure_logs("INFO", "json")
    [handler] = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    ears = Ears()
    handler.setStream(ears)
    try:
        yield ears
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


@dataclass
class Watch:
    """What the process did: statements to the database, and looks into a message."""

    statements: int = 0
    parsed: int = 0

    @contextlib.contextmanager
    def on(self) -> Iterator[Watch]:
        def executed(*_: object) -> None:
            self.statements += 1

        def counted(original: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                self.parsed += 1
                return original(*arguments, **named)

            return call

        places: list[tuple[Any, str]] = [
            *((json, "loads"), (json.JSONDecoder, "decode"), (json.JSONDecoder, "raw_decode")),
            (app_module, "understand"),
        ]
        originals = [getattr(place, name) for place, name in places]
        event.listen(Engine, "before_cursor_execute", executed)
        for (place, name), original in zip(places, originals, strict=True):
            setattr(place, name, counted(original))
        try:
            yield self
        finally:
            for (place, name), original in zip(places, originals, strict=True):
                setattr(place, name, original)
            event.remove(Engine, "before_cursor_execute", executed)


class Profile:
    """Every function that is entered while it is on: the proof that no parser is among them."""

    _PARSERS = ("/json/decoder.py", "/json/scanner.py", "/antom/messages/", "/pydantic/", "/store/")

    def __init__(self) -> None:
        self.entered: set[str] = set()

    def __enter__(self) -> Profile:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, kind: str, called: Any) -> None:
        if kind == "call" and any(part in frame.f_code.co_filename for part in self._PARSERS):
            self.entered.add(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        if kind == "c_call" and "pydantic" in (getattr(called, "__module__", None) or ""):
            self.entered.add(called.__qualname__)


@dataclass
class Answer:
    """What the application sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


async def asked(app: NotificationApp, given: Input) -> Answer:
    """Call the application as the HTTP server does."""
    target = raw(given["target"])
    raw_path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": given["method"],
        "scheme": "http",
        "path": raw_path.decode("latin-1"),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [(raw(name).lower(), raw(value)) for name, value in given["headers"]],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    answer = Answer()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw(given["body"]), "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = list(message["headers"])
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


@dataclass
class SidecarApp:
    """The application and its store."""

    app: NotificationApp
    store: PaymentStore
    metrics: Metrics
    ears: Ears
    watch: Watch

    async def rows(self, query: str, **values: Any) -> list[Any]:
        """What the database says, not counted as the application's statements."""
        before = self.watch.statements
        async with self.store._database.engine.connect() as connection:
            found = list((await connection.execute(text(query), values)).all())
        self.watch.statements = before
        return found

    async def end(self) -> None:
        """Nothing secret was logged, and no outcome was an error."""
        must(not self.ears.leaks, f"a secret was logged: {self.ears.leaks[:1]}")
        errors = {name for name in self.metrics.outcomes() if name.startswith("error")}
        must(not errors, f"outcomes that must not be: {errors}")


def antom_signer(client_id: str = CLIENT_ID) -> Signer:
    return Signer(private_key("antom_private"), client_id)


def antom_verifier() -> Verifier:
    return Verifier([public_key("antom_public")])


@contextlib.asynccontextmanager
async def store_in_memory() -> AsyncIterator[PaymentStore]:
    """A real store on SQLite, in a folder that costs no disk."""
    with tempfile.TemporaryDirectory(prefix="antom-payments-fuzz-", dir=_FOLDER) as place:
        url = f"sqlite+aiosqlite:///{place}/payments.db"
        await migrate(url)
        async with open_store(url, cipher=DataCipher(new_data_key()), now=now) as store:
            yield store


@contextlib.asynccontextmanager
async def sidecar_app(senders: Mapping[str, Sender]) -> AsyncIterator[SidecarApp]:
    """The application for these senders, on an empty store."""
    metrics, watch = Metrics(), Watch()
    async with store_in_memory() as store:
        app = notification_app(
            PaymentService(store, {}, now=now),
            senders,
            path=PATH,
            clock=now,
            counts=metrics.counts(),
            deadline_seconds=30,
        )
        with listening() as ears, watch.on():
            yield SidecarApp(app, store, metrics, ears, watch)
    metrics.reader.shutdown()
