"""A service in front of a scripted Antom, and how its callers use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, event
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.antom import SessionPolicy
from antom_payments.caller import EVERYONE
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment
from antom_payments.service import (
    PaymentKey,
    PaymentService,
    SessionAnswer,
)
from antom_payments.session import Buyer, Order, PaymentMethod, SessionRequest
from antom_payments.store import PaymentStore
from antom_payments.store.tables import events, facts, inquiries, payments, private_data
from clock import FrozenClock
from scripted_antom import (
    ScriptedAntom,
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
