"""The whole product on real sockets: server, sidecar and a local Antom, as `app` composes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from antom_payments import settings as settings_module
from antom_payments.antom.signing import Signer, load_private_key, load_public_key
from antom_payments.app import grpc_server, notification_receiver
from antom_payments.client import PLAINTEXT, Backoff, Payments, connect
from antom_payments.client.following import Start
from antom_payments.client.terminal import SessionWish
from antom_payments.emulator import (
    AnswerFault,
    BuyerAction,
    Cancellation,
    CaptureWish,
    Emulator,
    EmulatorOptions,
    FaultPlan,
    ManualCapture,
    NotificationFault,
    Step,
    charged_but_no_answer,
    server_config,
)
from antom_payments.settings import Settings
from antom_payments.store import new_data_key
from antom_payments.v1.payment_event_pb2 import EventSource, PaymentEvent, PaymentEventType
from antom_payments.v1.payment_pb2 import Payment, PaymentState
from antom_payments.v1.payment_service_pb2 import CreateSessionResponse
from client.tls import Authority
from emulator.world import serving
from keys import golden_pair

CLIENT_ID = "SANDBOX_5X00000000000000"
PATH = "/antom/notify"
PATIENCE = 20.0
SOON = Backoff(first_seconds=0.01, longest_seconds=0.05)
QUICK = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20)]


@cache
def _antom_key() -> RSAPrivateKey:
    return load_private_key(golden_pair("antom").private, setting="test")


@cache
def next_antom_key() -> RSAPrivateKey:
    """What the local Antom rotates to, when a fault says NEXT_KEY."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def trust_one_authority(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let TLS contexts load one certificate: the system's hundred take longer than most tests."""
    file = folder / "authority.pem"
    file.write_bytes(Authority("127.0.0.1")._certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))


def key_files(folder: Path) -> dict[str, Any]:
    """Settings that name files with the golden keys, which are written to ``folder``.

    A data key that is there already stays: something may be encrypted with it.
    """
    data_key = folder / "data_key_file"
    texts = {
        "merchant_private_key_file": golden_pair("merchant").private,
        "antom_public_key_files": golden_pair("antom").public,
        "data_key_file": data_key.read_text() if data_key.exists() else new_data_key(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: str(folder / name) for name in texts}


def settings(folder: Path, **changes: Any) -> Settings:
    """Settings with which server and sidecar start on free ports and stop at once."""
    usual = key_files(folder) | {
        "database_url": f"sqlite:///{folder / 'payments.db'}",
        "client_id": CLIENT_ID,
        "antom_url": "http://127.0.0.1:1",
        "notify_url": f"http://127.0.0.1:1{PATH}",
        "grpc_address": "127.0.0.1:0",
        "notification_address": "127.0.0.1:0",
        "drain_delay_seconds": 0,
        "drain_grace_seconds": 0.2,
    }
    return settings_module.load(**(usual | changes))


def named(event: PaymentEvent) -> tuple[str, str, str]:
    """An event in three words: what happened, where the payment stands, who told."""
    return (
        PaymentEventType.Name(event.type).removeprefix("PAYMENT_EVENT_TYPE_"),
        PaymentState.Name(event.payment.state).removeprefix("PAYMENT_STATE_"),
        EventSource.Name(event.source).removeprefix("EVENT_SOURCE_"),
    )


@dataclass
class Follower:
    """A subscriber: what came so far, with the cursor that each message brought."""

    batches: Any
    events: list[PaymentEvent] = field(default_factory=list)
    cursors: list[tuple[str, int]] = field(default_factory=list)
    """Each with the number of events that came up to it."""
    has_caught_up: bool = False

    async def until(self, count: int) -> list[tuple[str, str, str]]:
        """Wait for ``count`` events in all."""
        async with asyncio.timeout(PATIENCE):
            while len(self.events) < count:
                await self._next()
        return [named(event) for event in self.events]

    async def until_caught_up(self) -> list[PaymentEvent]:
        async with asyncio.timeout(PATIENCE):
            while not self.has_caught_up:
                await self._next()
        return self.events

    async def one_more(self) -> None:
        """Wait for another message: the server is done with those before it by then."""
        async with asyncio.timeout(PATIENCE):
            await self._next()

    async def _next(self) -> None:
        batch = await anext(self.batches)
        self.events += batch.events
        self.cursors.append((batch.cursor, len(self.events)))
        self.has_caught_up = self.has_caught_up or batch.caught_up


@dataclass
class Shop:
    """A caller of the service, its buyer, and an Antom."""

    payments: Payments
    antom: Emulator
    settings: Settings
    port: int = 0
    """The server's."""

    async def create(self, payment_request_id: str = "pay-1", **more: Any) -> CreateSessionResponse:
        usual = {"minor_units": 4200, "currency_code": "SGD", "reference_order_id": "order-1"}
        wish = SessionWish(payment_request_id=payment_request_id, **(usual | more))
        return await self.payments.create_session(wish.request())

    async def buyer(
        self, step: Step, payment_request_id: str = "pay-1", *, later: float = 60, **words: Any
    ) -> None:
        """Let the buyer act, and all that follows at Antom happen."""
        self.antom.play_buyer(payment_request_id, BuyerAction(action=step, **words))
        await self.antom.timeline.advance(later)

    async def cancel_in_dashboard(
        self, payment_request_id: str = "pay-1", *, force: bool = False, later: float = 0
    ) -> None:
        """Cancel at Antom; no notification tells of it."""
        self.antom.cancel_payment(payment_request_id, Cancellation(force=force))
        await self.antom.timeline.advance(later)

    async def capture_in_dashboard(
        self, payment_request_id: str = "pay-1", *, later: float = 0, **words: Any
    ) -> None:
        """Capture at Antom (words of `ManualCapture`), and all that follows at Antom happen."""
        self.antom.capture_payment(payment_request_id, ManualCapture(**words))
        await self.antom.timeline.advance(later)

    def spoil_answers(self, fault: str, **words: Any) -> None:
        """Let Antom's answers go wrong: words of `AnswerFault`; of every call, if not narrowed."""
        spoilt = AnswerFault.model_validate({"fault": fault, **words})
        self.antom.add_faults(FaultPlan(answers=(spoilt,)))

    def spoil_notifications(self, fault: str, **words: Any) -> None:
        """Let Antom's notifications go wrong: words of `NotificationFault`; of all, likewise."""
        spoilt = NotificationFault.model_validate({"fault": fault, **words})
        self.antom.add_faults(FaultPlan(notifications=(spoilt,)))

    def charge_without_answer(self, payment_request_id: str = "pay-1") -> None:
        """Let neither sessions' answers nor notifications arrive; only inquiry tells."""
        self.antom.add_faults(charged_but_no_answer(payment_request_id))

    def mend(self) -> None:
        """Let everything at Antom go right again."""
        self.antom.faults.clear()

    async def read(self, payment_request_id: str = "pay-1", *, fresh: bool = False) -> Payment:
        answer = await self.payments.get_payment(payment_request_id=payment_request_id, fresh=fresh)
        return answer.payment

    @contextlib.asynccontextmanager
    async def following(self, start: Start, **how: Any) -> AsyncIterator[Follower]:
        batches = self.payments.follow(start, backoff=SOON, **how).batches()
        async with contextlib.aclosing(batches):
            yield Follower(batches)

    async def notify(self, message: dict[str, Any]) -> int:
        """Send a notification that Antom's key signed, whatever it says; the HTTP status."""
        body = json.dumps(message).encode()
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        signer = Signer(_antom_key(), CLIENT_ID)
        headers = {
            "content-type": "application/json; charset=UTF-8",
            "client-id": CLIENT_ID,
            "request-time": time,
            "signature": signer.signature_header("POST", PATH, time, body),
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(self.settings.notify_url, content=body, headers=headers)
        return answer.status_code

    def payment_id(self, payment_request_id: str = "pay-1") -> str:
        """Antom's id of a payment."""
        ids = {one.payment_request_id: one.payment_id for one in self.antom.payments}
        return ids[payment_request_id]


def captured(order: str) -> CaptureWish:
    return CaptureWish.model_validate({"order": order})


@contextlib.asynccontextmanager
async def local_antom(**options: Any) -> AsyncIterator[tuple[Emulator, str]]:
    """An Antom whose time stands until it is moved, and its origin."""
    config = server_config(
        EmulatorOptions(
            antom_private_key=_antom_key(),
            antom_next_private_key=next_antom_key(),
            merchant_public_keys={
                CLIENT_ID: [load_public_key(golden_pair("merchant").public, setting="test")]
            },
            clock_scale=0,
            **options,
        )
    )
    async with serving(config) as port:
        app: Any = config.app
        yield app.state.emulator, f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def shop_on(
    database_url: str,
    folder: Path,
    *,
    one_clock: bool = False,
    reconciles: bool = False,
    **changes: Any,
) -> AsyncIterator[Shop]:
    """Server, sidecar and Antom while the block runs, and a caller.

    With ``one_clock`` server and sidecar have Antom's time, so that news after hours of it is not
    from their future. The database keeps its own. Unless it ``reconciles``, the server asks Antom
    only when a caller wishes it, so that a test sees who told what.
    """
    async with contextlib.AsyncExitStack() as parts:
        antom, antom_url = await parts.enter_async_context(local_antom())
        chosen = settings(folder, database_url=database_url, antom_url=antom_url, **changes)
        clock: dict[str, Any] = {"now": antom.timeline.now} if one_clock else {}
        _, port = await parts.enter_async_context(notification_receiver(chosen, **clock))
        chosen = chosen.model_copy(update={"notify_url": f"http://127.0.0.1:{port}{PATH}"})
        look = 0.02 if reconciles else 3600.0
        server = await parts.enter_async_context(grpc_server(chosen, **clock, look_seconds=look))
        payments = await parts.enter_async_context(caller(server.port))
        yield Shop(payments, antom, chosen, server.port)


def caller(port: int) -> contextlib.AbstractAsyncContextManager[Payments]:
    """A connection that is made again quickly."""
    return connect(f"127.0.0.1:{port}", credentials=PLAINTEXT, options=QUICK)
