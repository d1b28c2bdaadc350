"""Events made on a real store: payments, and captures of them under way, one event each."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text

from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import Payment, Source
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import LogPage, Member, PaymentStore
from antom_payments.store.database import Database

AMOUNT = Money("USD", 12_50)
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


class News:
    """Appends events to a store's log."""

    def __init__(self, store: PaymentStore) -> None:
        self._store = store
        self._known: set[tuple[str, str]] = set()

    async def about(
        self, *payment_request_ids: str, merchant_account: str = "default"
    ) -> list[PaymentEvent]:
        """One event per id, in one transaction."""
        for payment_request_id in payment_request_ids:
            await self._create(merchant_account, payment_request_id)
        return await self.tell(
            *(
                fact(merchant_account, payment_request_id, FactKind.CAPTURE, Outcome.PROCESSING)
                for payment_request_id in payment_request_ids
            )
        )

    async def payment_is(
        self, outcome: Outcome, payment_request_id: str, merchant_account: str = "default"
    ) -> PaymentEvent:
        """One event: the payment has that outcome."""
        await self._create(merchant_account, payment_request_id)
        told = fact(merchant_account, payment_request_id, FactKind.PAYMENT, outcome)
        return (await self.tell(told))[0]

    async def tell(self, *facts: Fact) -> list[PaymentEvent]:
        """One event per fact, in one transaction."""
        applied = await self._store.apply([Member(fact=told) for told in facts])
        return [made.event for made in applied if made.event is not None]

    async def _create(self, merchant_account: str, payment_request_id: str) -> None:
        key = (merchant_account, payment_request_id)
        if key not in self._known:
            await self._store.begin_session(payment(*key), b"{}", lease_seconds=10)
            self._known.add(key)


def payment(merchant_account: str, payment_request_id: str) -> Payment:
    return Payment(
        merchant_account=merchant_account,
        payment_request_id=payment_request_id,
        amount=AMOUNT,
        reference_order_id=f"order-{payment_request_id}",
        payment_method_type="CARD",
        capture_mode="",
        capture_expected=False,
        create_time=NOW,
        update_time=NOW,
    )


def fact(merchant_account: str, payment_request_id: str, kind: FactKind, outcome: Outcome) -> Fact:
    payment_id = f"antom-{merchant_account}-{payment_request_id}"
    return Fact(
        merchant_account=merchant_account,
        kind=kind,
        outcome=outcome,
        payment_id=payment_id,
        fact_id=payment_id if kind is FactKind.PAYMENT else uuid.uuid4().hex,
        source=Source.INQUIRY,
        amount=AMOUNT,
        payment_request_id=payment_request_id,
    )


async def whole_log(store: PaymentStore) -> list[tuple[int, str]]:
    """Sequence and id of every event kept."""
    found: Sequence[PaymentEvent] = ()
    events: list[PaymentEvent] = []
    oldest, head = await store.log.bounds()
    after = oldest - 1
    while after < head:
        page: LogPage = await store.log.page(after, event_filter=EventFilter())
        found, after = page.events, page.through
        events.extend(found)
    return [(event.sequence, event.event_id) for event in events]


async def execute(database_url: str, statement: str) -> None:
    """What an operator does to the database behind the service's back."""
    database = Database(database_url)
    try:
        await database.write(lambda connection: connection.execute(text(statement)))
    finally:
        await database.dispose()
