"""What is still to be asked outlives crashes and is shared by replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from antom_payments.cadence import Cadence, Phase
from antom_payments.fact import Outcome
from antom_payments.money import Money
from antom_payments.payment import PaymentState
from antom_payments.store import DataCipher, InquiryClaim, PaymentStore, Rate, open_store
from antom_payments.store.tables import IS_OPEN
from clock import FrozenClock
from facts import a_capture, a_payment_fact
from stored import (
    SESSION,
    about,
    begun,
    confirmed,
    execute,
    notified,
    numbered,
    rows,
    the_payment,
)

PLENTY = Rate(1_000, 1_000)
LEASE_SECONDS = 25.0


@pytest.fixture
async def store(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    steady = Cadence(jitter=lambda *_: 0.0)
    async with open_store(database_url, cipher=cipher, now=clock.now, cadence=steady) as store:
        yield store


async def to_come(store: PaymentStore) -> list[tuple[str, int]]:
    """Phases and steps of what is to be asked."""
    found = await rows(store, "SELECT phase, step FROM inquiries ORDER BY subject_id")
    return [(row.phase, row.step) for row in found]


async def claimed(store: PaymentStore, **more: Any) -> list[InquiryClaim]:
    usual: dict[str, Any] = {"limit": 100, "rate": PLENTY, "lease_seconds": LEASE_SECONDS}
    return await store.claim_inquiries("default", **usual | more)


async def test_an_intent_is_to_be_asked_about_before_antom_hears_of_it(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await begun(store)
    assert await to_come(store) == [("WAITING", 0)]
    assert await store.has_due_inquiry() is None
    clock.advance(30)
    assert await store.has_due_inquiry() == clock.now()


async def test_what_is_asked_follows_the_payment_in_the_same_transaction(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    assert await to_come(store) == [("WAITING", 0)]
    await store.apply([notified(a_payment_fact())])
    assert await to_come(store) == [("PRESSING", 0)]  # authorised: the capture is due
    await store.apply([notified(a_capture(Outcome.FAILED, "C-1"))])
    assert await to_come(store) == [("HELD", 0)]
    await store.apply([notified(a_capture(capture_id="C-2"))])
    assert await to_come(store) == [("SETTLED", 0)]
    await store.apply([notified(a_payment_fact(Outcome.CANCELLED))])
    assert await to_come(store) == []


async def test_a_refused_session_is_not_asked_about(store: PaymentStore) -> None:
    await store.refuse_session(await begun(store), "PARAM_ILLEGAL")
    assert await to_come(store) == []


async def test_news_that_contradicts_is_asked_about_at_once(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(amount=Money("EUR", 99)))])
    assert await to_come(store) == [("PRESSING", 0)]
    clock.advance(2)
    [claim] = await claimed(store)
    assert claim.payment
    assert claim.payment.inquiry_wanted


async def test_news_that_contradicts_a_final_state_is_asked_about(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(Outcome.FAILED))])
    assert await to_come(store) == []
    await store.apply([notified(a_payment_fact())])
    assert await to_come(store) == [("PRESSING", 0)]


async def test_each_inquiry_is_claimed_by_one_of_many(
    store: PaymentStore, database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    await numbered(store, 20)
    clock.advance(30)
    async with open_store(database_url, cipher=cipher, now=clock.now) as other:
        shares = await asyncio.gather(
            *(claimed(one, limit=7) for one in (store, other, store, other))
        )
    ids = [claim.subject_id for share in shares for claim in share]
    assert len(ids) == len(set(ids)) == 20


async def test_a_claim_that_is_never_settled_is_anybodys_after_its_lease(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    clock.advance(30)
    [lost] = await claimed(store)
    assert await claimed(store) == []
    clock.advance(LEASE_SECONDS)
    [again] = await claimed(store)
    assert again.subject_id == lost.subject_id
    # Whoever comes back late settles nothing of the one that is at it now.
    await store.settle_inquiry(lost)
    assert await to_come(store) == [("WAITING", 0)]
    await store.settle_inquiry(again)
    assert await to_come(store) == [("WAITING", 1)]


async def test_a_settled_inquiry_comes_again_by_its_cadence(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    for seconds in (30, 60, 120, 300):
        clock.advance(seconds - 1)
        assert await claimed(store) == []
        clock.advance(1)
        [claim] = await claimed(store)
        await store.settle_inquiry(claim)
    assert await to_come(store) == [("WAITING", 4)]
    due = [row.due_time for row in await rows(store, "SELECT due_time FROM inquiries")]
    expiry = SESSION.payment_session_expiry_time
    assert expiry
    assert str(due[0])[:19] == str(expiry)[:19]


async def test_an_inquiry_without_an_answer_is_asked_again_without_a_step(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    clock.advance(30)
    [claim] = await claimed(store)
    await store.settle_inquiry(claim, retry_seconds=15)
    assert await to_come(store) == [("WAITING", 0)]
    clock.advance(14)
    assert await claimed(store) == []
    clock.advance(1)
    assert len(await claimed(store)) == 1


async def test_news_that_comes_during_an_inquiry_decides_what_comes_next(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    clock.advance(30)
    [claim] = await claimed(store)
    await store.apply([notified(a_payment_fact(Outcome.PROCESSING))])
    assert await claimed(store) == []  # the lease holds
    await store.settle_inquiry(claim)
    [(phase, _)] = await to_come(store)
    assert phase == Phase.PRESSING
    [again] = [await claimed(store) for _ in [clock.advance(4)]]
    await store.apply([notified(a_payment_fact(Outcome.FAILED))])
    await store.settle_inquiry(again[0])
    assert await to_come(store) == []


async def test_the_merchants_rate_holds_for_all_replicas_together(
    store: PaymentStore, database_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    await numbered(store, 12)
    clock.advance(30)
    rate = Rate(2.0, 4.0)
    async with open_store(database_url, cipher=cipher, now=clock.now) as other:
        first = [len(await claimed(one, rate=rate)) for one in (store, other)]
        clock.advance(1)
        second = [len(await claimed(one, rate=rate)) for one in (other, store)]
        clock.advance(600)
        third = [len(await claimed(one, rate=rate, lease_seconds=999)) for one in (store, other)]
    assert (first, second, third) == ([4, 0], [2, 0], [4, 0])


async def test_evidence_goes_before_routine(store: PaymentStore, clock: FrozenClock) -> None:
    await numbered(store, 6)
    clock.advance(29)
    await store.apply([notified(about(5, Outcome.PROCESSING))])
    clock.advance(3)
    [first] = await claimed(store, limit=1)
    assert first.subject_id == "order-5"
    assert len(await claimed(store)) == 5


async def test_evidence_that_never_ends_leaves_routine_a_quarter(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 8)
    await store.apply([notified(about(n, Outcome.PROCESSING)) for n in range(1, 8)])
    clock.advance(30)
    asked = [(await claimed(store, limit=1))[0].subject_id for _ in range(4)]
    assert "order-0" in asked


async def test_asking_about_all_payments_again_puts_no_evidence_behind_them(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 6)
    await store.apply([notified(about(5, Outcome.PROCESSING))])
    await store.back_office.schedule_inquiries(
        clock.now() - timedelta(days=1), merchant_account="", after=None, limit=100, actor="ada"
    )
    [first] = await claimed(store, limit=1)
    assert first.subject_id == "order-5"


async def test_inquiries_of_other_merchants_are_left_alone(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store, merchant_account="other")
    clock.advance(30)
    assert await claimed(store) == []
    assert await store.has_due_inquiry() == clock.now()


async def test_somebody_who_waits_has_an_open_payment_asked_about_soon(
    store: PaymentStore, clock: FrozenClock
) -> None:
    payment = await confirmed(store)
    await store.hasten_inquiry(payment)
    clock.advance(2)
    [claim] = await claimed(store)
    await store.settle_inquiry(claim)
    assert await to_come(store) == [("WAITING", 1)]


async def test_somebody_who_reads_a_payment_that_is_paid_hastens_nothing(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact()), notified(a_capture())])
    await store.hasten_inquiry(await the_payment(store))
    clock.advance(60)
    assert await claimed(store) == []


async def test_what_is_open_and_not_asked_about_is_found(
    store: PaymentStore, clock: FrozenClock
) -> None:
    """As a version that knows no inquiries leaves it, which runs while the schema is migrated."""
    await numbered(store, 3)
    await store.apply([notified(about(2, Outcome.FAILED))])
    await store.apply([notified(about(7))])  # an orphan
    await execute(store, "DELETE FROM inquiries")
    assert await store.adopt_missing_inquiries() == 3
    found = await rows(store, "SELECT kind, subject_id FROM inquiries ORDER BY subject_id")
    assert [tuple(row) for row in found] == [
        ("ORPHAN", "P-7"),
        ("PAYMENT", "order-0"),
        ("PAYMENT", "order-1"),
    ]
    assert await store.adopt_missing_inquiries() == 0
    clock.advance(60)
    assert len(await claimed(store)) == 3


async def test_evidence_that_a_clock_far_ahead_put_off_is_asked_about_once_that_is_seen(
    store: PaymentStore, clock: FrozenClock
) -> None:
    """A sidecar's clock was 26 hours ahead: what it held back waits for an inquiry until then."""
    await numbered(store, 1)
    ahead = timedelta(hours=26).total_seconds()
    clock.advance(ahead)
    await store.apply([notified(about(0, Outcome.PENDING))])
    clock.advance(-ahead)
    assert await claimed(store) == []
    await store.adopt_missing_inquiries()
    assert len(await claimed(store)) == 1


async def test_the_last_look_at_a_payment_that_succeeded_ends_the_inquiries(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact()), notified(a_capture())])
    looks = 0
    for _ in range(60):
        clock.advance(timedelta(hours=6).total_seconds())
        for claim in await claimed(store):
            assert claim.payment
            assert claim.payment.state is PaymentState.SUCCEEDED
            await store.settle_inquiry(claim)
            looks += 1
    assert await to_come(store) == []
    assert 8 <= looks <= 12


async def test_how_much_is_to_be_asked_is_known_by_phase(store: PaymentStore) -> None:
    await numbered(store, 3)
    await store.apply([notified(about(0, Outcome.PROCESSING))])
    assert await store.inquiries_by_phase() == {"WAITING": 2, "PRESSING": 1}


async def test_what_waits_longest_is_found_without_reading_what_is_not_due(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock
) -> None:
    """Asked each second by each replica; a table of millions waits for its time."""
    asked: list[tuple[str, Any]] = []
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        engine = store._database.engine.sync_engine
        event.listen(
            engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3]))
        )
        await store.has_due_inquiry()
        [(statement, values)] = [(one, told) for one, told in asked if "FROM inquiries" in one]
        async with store._database.engine.connect() as connection:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps = [row.detail for row in plan]
    assert steps == ["SEARCH inquiries USING INDEX ix_inquiries_due_time (due_time<?)"]


async def test_a_clock_that_was_far_ahead_stops_no_inquiry_once_it_is_put_right(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await numbered(store, 3)
    clock.advance(3600)
    assert len(await claimed(store, rate=Rate(1.0, 1.0), lease_seconds=0)) == 1
    clock.advance(60 - 3600)
    await claimed(store, rate=Rate(1.0, 1.0))
    clock.advance(1)
    assert len(await claimed(store, rate=Rate(1.0, 1.0))) == 1


async def test_the_net_reads_open_payments_by_their_index(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as connection:
        await connection.execute(text("SET enable_seqscan = off"))
        plan = await connection.execute(
            text("EXPLAIN SELECT * FROM payments WHERE " + IS_OPEN.text)
        )
        assert "ix_payments_open" in "\n".join(row[0] for row in plan)
    await engine.dispose()
