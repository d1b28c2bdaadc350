"""A service in front of a scripted Antom, and how its callers use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, event
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.antom import AntomClient, SessionPolicy
from antom_payments.caller import EVERYONE
from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment
from antom_payments.reconcile import ReconcileOptions, Reconciler
from antom_payments.service import (
    Merchant,
    PaymentKey,
    PaymentService,
    SessionAnswer,
)
from antom_payments.session import Buyer, Order, PaymentMethod, SessionRequest
from antom_payments.store import PaymentStore
from antom_payments.store.tables import events, facts, inquiries, payments, private_data
from clock import FrozenClock
from facts import a_payment_fact
from scripted_antom import (
    Json,
    ScriptedAntom,
    inquired,
)
from stored import whole_log

SGD_42 = Money("SGD", 4200)
POLICY = SessionPolicy(notify_url="https://pay.example/antom/notify")
REQUEST = SessionRequest(
    payment_request_id="pay-1",
    payment_amount=SGD_42,
    order=Order(
        reference_order_id="order-1",
        order_description="Two tickets",
        order_amount=SGD_42,
        buyer=Buyer(reference_buyer_id="buyer-1"),
    ),
    payment_method=PaymentMethod(payment_method_type="CARD"),
    payment_redirect_url="https://shop.example/return",
    is_authorization=True,
    metadata={"basket": "7"},
)
THE_PAYMENT = PaymentKey(payment_request_id="pay-1")
CALL_BUDGET_SECONDS = 10.0
LEASE_SECONDS = CALL_BUDGET_SECONDS + 5
PATIENCE = 20.0
END_SECONDS = 3600
"""When the session ends, after its beginning."""
LAPSE_SECONDS = END_SECONDS + 16 * 60


@dataclass
class Till:
    """A service in front of Antom, and how its callers use it."""

    service: PaymentService
    store: PaymentStore
    antom: ScriptedAntom
    clock: FrozenClock

    async def create(self, request: SessionRequest = REQUEST, **more: Any) -> SessionAnswer:
        budget_seconds = more.pop("budget_seconds", PATIENCE)
        return await self.service.create_session(
            EVERYONE, replace(request, **more), budget_seconds=budget_seconds
        )

    async def read(self, key: PaymentKey = THE_PAYMENT, *, fresh: bool = False) -> Payment:
        return await self.service.get_payment(EVERYONE, key, fresh=fresh, budget_seconds=PATIENCE)

    async def stored(self) -> Payment | None:
        return await self.store.payment("default", payment_request_id="pay-1")

    async def news(self) -> list[EventType]:
        return [event.type for event in await whole_log(self.store)]


async def forget_all(till: Till) -> None:
    """As a restore to a dump of before does."""

    async def forgotten(connection: AsyncConnection) -> None:
        for table in (events, facts, payments, private_data, inquiries):
            await connection.execute(delete(table))

    await till.store._database.write(forgotten)


def break_writes(store: PaymentStore) -> tuple[asyncio.Event, Callable[[], None]]:
    """Let every statement of ``store`` fail as in an outage; what tells so, and what mends it."""
    noticed = asyncio.Event()
    engine = store._database.engine.sync_engine

    def fail(*_: object) -> None:
        noticed.set()
        raise OSError("the network is gone")

    event.listen(engine, "before_cursor_execute", fail)
    return noticed, lambda: event.remove(engine, "before_cursor_execute", fail)


def reconciler(till: Till, client: AntomClient, **options: Any) -> Reconciler:
    return Reconciler(
        till.store,
        till.service.inquirer,
        {"default": Merchant("default", client, POLICY)},
        now=till.clock.now,
        call_budget_seconds=CALL_BUDGET_SECONDS,
        options=ReconcileOptions(**options),
    )


async def pass_time(till: Till, reconcile: Reconciler, seconds: float, *, step: float = 10) -> None:
    """Let time pass; what is due meanwhile is asked."""
    passed = 0.0
    while passed < seconds:
        till.clock.advance(min(step, seconds - passed))
        passed += step
        while await reconcile.run_due():
            pass


def captures(*results: tuple[str, str]) -> list[Json]:
    """Captures in an inquiry's `transactions`: id and status."""
    return [
        {
            "transactionType": "CAPTURE",
            "transactionStatus": status,
            "transactionId": capture_id,
            "transactionRequestId": f"request-{capture_id}",
            "transactionAmount": {"currency": "SGD", "value": "4200"},
            "transactionResult": {"resultCode": status, "resultStatus": "S", "resultMessage": ""},
        }
        for capture_id, status in results
    ]


def paid(*results: tuple[str, str]) -> Any:
    return inquired(authExpiryTime="2026-03-09T09:30:00Z", transactions=captures(*results))


def payment_news(outcome: Outcome = Outcome.SUCCEEDED, amount: Money = SGD_42) -> Fact:
    """What a notification tells of the payment at the till."""
    return a_payment_fact(
        outcome,
        payment_request_id="pay-1",
        payment_id="P-pay-1",
        fact_id="P-pay-1",
        amount=amount,
    )
