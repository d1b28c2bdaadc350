"""A client in front of a server that answers as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from antom.golden import (
    SANDBOX_CLIENT_ID,
    SEED,
    compact,
    private_key,
    public_key,
    sample,
)
from antom.wires import Behaviour, Server, Visit, serving
from antom_payments.antom import AntomClient
from antom_payments.antom.signing import Signer, Verifier
from antom_payments.antom.wire import Budgets, open_wire
from antom_payments.errors import (
    AntomError,
)
from antom_payments.session import Session

NOW = datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)
RESPONSE_TIME = "2026-03-02T17:30:00+08:00"
CREATE = "/ams/sandbox/api/v1/payments/createPaymentSession"
INQUIRY = "/ams/sandbox/api/v1/payments/inquiryPayment"
REQUEST = compact(sample(SEED / "01_createPaymentSession_request.json"))
SESSION = (SEED / "02_createPaymentSession_response.json").read_bytes()
PAID = (SEED / "05_inquiryPayment_response_success_transactions_null.json").read_bytes()


def result(status: str, code: str, **fields: Any) -> bytes:
    result = {"resultStatus": status, "resultCode": code, "resultMessage": "a message"}
    return compact({"result": result} | fields)


def signed(
    body: bytes, *, client_id: str = SANDBOX_CLIENT_ID, key: str = "antom_private", **headers: str
) -> Behaviour:
    """Antom's answer with that body, signed; ``headers`` by attribute name replace its own."""

    async def behaviour(visit: Visit) -> None:
        signer = Signer(private_key(key), client_id)
        path = visit.request.path
        own = {
            "client-id": client_id,
            "response-time": RESPONSE_TIME,
            "signature": signer.signature_header("POST", path, RESPONSE_TIME, body),
        }
        replaced = {name.replace("_", "-"): value for name, value in headers.items()}
        await visit.answer(body, {name: text for name, text in (own | replaced).items() if text})

    return behaviour


def unsigned(body: bytes, **headers: str) -> Behaviour:
    async def behaviour(visit: Visit) -> None:
        await visit.answer(body, {name.replace("_", "-"): text for name, text in headers.items()})

    return behaviour


async def hangs_up(visit: Visit) -> None:
    await visit.hang_up()


async def fails(visit: Visit) -> None:
    await visit.answer(b"<html>502</html>", status="500 Oops")


@dataclass
class Pauses:
    """The pauses between attempts, taken without waiting."""

    asked: list[float] = field(default_factory=list)
    highest: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)

    def jitter(self, lowest: float, highest: float) -> float:
        assert lowest == 0
        self.highest.append(highest)
        return highest / 2


@asynccontextmanager
async def antom(
    *behaviours: Behaviour,
    pauses: Pauses | None = None,
    budgets: Budgets | None = None,
    **breaker: Any,
) -> AsyncIterator[tuple[AntomClient, Server]]:
    async with serving(*behaviours) as server, open_wire(server.origin(), budgets=budgets) as wire:
        yield client_of(wire, pauses or Pauses(), **breaker), server


def client_of(wire: Any, pauses: Pauses, **breaker: Any) -> AntomClient:
    return AntomClient(
        wire,
        Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID),
        Verifier([public_key("antom_public")]),
        now=lambda: NOW,
        sleep=pauses.sleep,
        jitter=pauses.jitter,
        **breaker,
    )


async def create(client: AntomClient) -> Session:
    return await client.create_payment_session(REQUEST, budget_seconds=20)


async def inquire(client: AntomClient, payment_request_id: str = "paymentRequestId01") -> Any:
    return await client.inquire_payment(
        merchant_account="shop", payment_request_id=payment_request_id, budget_seconds=20
    )


async def error_of(
    *behaviours: Behaviour, call: Callable[[AntomClient], Any] = create
) -> tuple[AntomError, Server]:
    async with antom(*behaviours) as (client, server):
        with pytest.raises(AntomError) as failed:
            await call(client)
    return failed.value, server
