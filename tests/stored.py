"""What tests do with a store: payments brought to a state, and the whole log read back."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from sqlalchemy import select, text, update

from antom_payments.fact import Fact, Outcome
from antom_payments.payment import Payment, PaymentState
from antom_payments.payment_event import PaymentEvent
from antom_payments.session import Session
from antom_payments.store import Kind, Member, PaymentStore, SessionClaim
from antom_payments.store.rows import payment_from_row
from antom_payments.store.tables import events, payments
from facts import NOW, a_notification, a_payment, a_payment_fact

REQUEST = b'{"order": {"buyer": {"buyerEmail": "ada@example.com"}}}'
SESSION = Session(
    payment_session_data="session-data",
    payment_session_id="session-1",
    payment_session_expiry_time=NOW + timedelta(hours=1),
    normal_url="https://antom.example/checkout",
)


async def begun(store: PaymentStore, *, lease_seconds: float = 15, **more: Any) -> SessionClaim:
    """An intent, stored before Antom is asked."""
    intent = a_payment(PaymentState.CREATING, version=0, **more)
    return await store.begin_session(intent, REQUEST, lease_seconds=lease_seconds)


async def confirmed(store: PaymentStore, **more: Any) -> Payment:
    """A payment whose buyer is awaited."""
    return (await store.confirm_session(await begun(store, **more), SESSION)).payment


async def numbered(store: PaymentStore, count: int) -> list[Payment]:
    """Payments `order-0` … whose facts name `P-0` …"""
    return [
        await confirmed(store, payment_request_id=f"order-{n}", reference_order_id=f"order-{n}")
        for n in range(count)
    ]


async def intended(store: PaymentStore, count: int) -> None:
    """Payments like `numbered`'s before Antom answered: half the cost when many are needed."""
    for n in range(count):
        await begun(store, payment_request_id=f"order-{n}", reference_order_id=f"order-{n}")


async def all_payments(store: PaymentStore) -> list[Payment]:
    """Every payment, by its id."""
    query = select(payments).order_by(payments.c.payment_request_id)
    result = await store._database.read(lambda connection: connection.execute(query))
    return [payment_from_row(row) for row in result.mappings()]


def about(number: int, outcome: Outcome = Outcome.SUCCEEDED) -> Fact:
    """A payment fact about `order-{number}`."""
    payment_id = f"P-{number}"
    return a_payment_fact(
        outcome,
        payment_id=payment_id,
        fact_id=payment_id,
        payment_request_id=f"order-{number}",
    )


def notified(fact: Fact, body: bytes | None = None) -> Member:
    """A fact as a notification tells it."""
    return Member(fact, a_notification(body))


async def whole_log(store: PaymentStore) -> list[PaymentEvent]:
    """Every event, read page by page as a stream reads them."""
    found: list[PaymentEvent] = []
    after = 0
    while True:
        page = await store.log.page(after)
        found += page.events
        after = page.through
        if after >= page.head:
            return found


async def rows(store: PaymentStore, query: str, **values: Any) -> list[Any]:
    """What the database itself says."""
    async with store._database.engine.connect() as connection:
        return list((await connection.execute(text(query), values)).all())


async def execute(store: PaymentStore, statement: str, **values: Any) -> None:
    """Change the database behind the store's back."""
    async with store._database.writer.begin() as connection:
        await connection.execute(text(statement), values)


def told_kinds(log: list[PaymentEvent]) -> list[tuple[str, str]]:
    """Which news of which payment, without order."""
    return sorted((event.payment.payment_request_id, event.type.value) for event in log)


async def the_payment(store: PaymentStore) -> Payment:
    payment = await store.payment("default", payment_request_id="order-1-attempt-1")
    assert payment is not None
    return payment


async def pruned(store: PaymentStore) -> Counter[Kind]:
    """Prune now; how many rows of each kind it was."""
    removed: Counter[Kind] = Counter()
    async for kind, count in store.retention.prune():
        removed[kind] += count
    return removed


async def erased(store: PaymentStore) -> int:
    """Prune now; of how many payments private data was erased."""
    return (await pruned(store))[Kind.PRIVATE_DATA]


async def aged(store: PaymentStore, days: float, *, through: int) -> None:
    """Let the log up to ``through`` be so many days older."""
    query = select(events.c.sequence, events.c.append_time).where(events.c.sequence <= through)
    async with store._database.writer.begin() as connection:
        for sequence, time in (await connection.execute(query)).all():
            await connection.execute(
                update(events)
                .where(events.c.sequence == sequence)
                .values(append_time=time - timedelta(days=days))
            )
