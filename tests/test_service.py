"""The use cases on real parts: database, client, and an Antom on a socket that can misbehave."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, make_url

from antom_payments import service as service_module
from antom_payments.antom import AntomClient, SessionPolicy
from antom_payments.errors import (
    AntomRefused,
    AntomUnavailable,
    AntomUntrusted,
    DeadlineExceeded,
    InvalidRequest,
    LimitReached,
    MerchantNotFound,
    NewPaymentRequestIdNeeded,
    OutcomeUnknown,
    PaymentNotFound,
    PaymentRequestIdReused,
    SessionInFlight,
    StoreUnavailable,
)
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState, Source
from antom_payments.service import (
    EVERYONE,
    Caller,
    Merchant,
    PaymentKey,
    PaymentService,
    SessionAnswer,
)
from antom_payments.session import Buyer, Order, PaymentMethod, SessionRequest
from antom_payments.store import DataCipher, PaymentStore, open_store
from clock import START, FrozenClock
from databases import Databases
from scripted_antom import (
    AUTHORIZED,
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    ScriptedAntom,
    antom_client,
    cut,
    inquired,
    refused,
    scripted_antom,
    session,
    unknown,
)
from stored import rows, whole_log

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


@pytest.fixture(scope="session")
async def listening() -> AsyncIterator[tuple[ScriptedAntom, AntomClient]]:
    async with scripted_antom() as antom, antom_client(antom.origin) as client:
        yield antom, client


@pytest.fixture
def antom(listening: tuple[ScriptedAntom, AntomClient]) -> ScriptedAntom:
    listening[0].forget()
    return listening[0]


@pytest.fixture
def till_on(
    antom: ScriptedAntom, listening: tuple[ScriptedAntom, AntomClient], clock: FrozenClock
) -> Callable[..., Till]:
    """A service over a store; one more is what a restart or another replica makes."""

    def made(store: PaymentStore, client: AntomClient = listening[1], **options: Any) -> Till:
        merchants = {"default": Merchant("default", client, POLICY)}
        service = PaymentService(
            store, merchants, now=clock.now, call_budget_seconds=CALL_BUDGET_SECONDS, **options
        )
        return Till(service, store, antom, clock)

    return made


@pytest.fixture
async def till(store: PaymentStore, till_on: Callable[..., Till]) -> AsyncIterator[Till]:
    """A service on each kind of database."""
    till = till_on(store)
    yield till
    async with asyncio.timeout(PATIENCE):
        await till.service.drain()


@pytest.fixture
async def sqlite_till(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock, till_on: Callable[..., Till]
) -> AsyncIterator[Till]:
    """For what is the same whatever the database is."""
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        till = till_on(store)
        yield till
        async with asyncio.timeout(PATIENCE):
            await till.service.drain()


# Sessions: the plain way, and repetitions


async def test_a_session_is_created_and_stored(till: Till) -> None:
    till.antom.will(SESSION, session())
    answer = await till.create()
    assert answer.session
    assert answer.session.payment_session_data == "data of session-1"
    assert answer.payment.state is PaymentState.AWAITING_BUYER
    assert answer.payment.metadata == {"basket": "7"}
    assert answer.payment == await till.stored()
    assert await till.news() == [EventType.SESSION_CREATED]
    [asked] = till.antom.asked
    assert asked.body["paymentRequestId"] == "pay-1"
    assert asked.body["paymentNotifyUrl"] == POLICY.notify_url
    assert "basket" not in asked.raw.decode()


async def test_the_intent_is_stored_before_antom_is_called(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    intent = await till.stored()
    assert intent
    assert intent.state is PaymentState.CREATING
    assert await till.news() == []
    answer.go_on.set()
    await creating


async def test_what_antom_would_refuse_is_neither_stored_nor_sent(sqlite_till: Till) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await sqlite_till.create(payment_redirect_url="")
    assert [one.field for one in refusal.value.violations] == ["payment_redirect_url"]
    assert await sqlite_till.stored() is None
    assert sqlite_till.antom.asked == []


async def test_a_repetition_gets_the_stored_session_and_asks_nobody(till: Till) -> None:
    till.antom.will(SESSION, session())
    first = await till.create()
    again = await till.create(payment_redirect_url="https://shop.example/other", metadata={})
    assert again == first
    assert len(till.antom.asked) == 1


async def test_a_repetition_after_the_sessions_end_gets_a_fresh_one(till: Till) -> None:
    till.antom.will(SESSION, session(), session("session-2", expiry="2026-03-02T12:00:00Z"))
    await till.create()
    till.clock.advance(3600)
    answer = await till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-2"
    assert await till.news() == [EventType.SESSION_CREATED, EventType.SESSION_RENEWED]
    first, second = till.antom.asked
    assert first.raw == second.raw


async def test_a_fresh_session_ends_when_the_repetition_says_and_is_otherwise_as_first_asked(
    sqlite_till: Till,
) -> None:
    sqlite_till.antom.will(SESSION, session(expiry="2026-03-02T09:40:00Z"), session("session-2"))
    await sqlite_till.create(payment_session_expiry_time=START + timedelta(minutes=10))
    sqlite_till.clock.advance(700)
    await sqlite_till.create(
        payment_session_expiry_time=START + timedelta(minutes=30), locale="en_US"
    )
    first, second = (question.body for question in sqlite_till.antom.asked)
    assert second.pop("paymentSessionExpiryTime") == "2026-03-02T10:00:00Z"
    assert first.pop("paymentSessionExpiryTime") == "2026-03-02T09:40:00Z"
    assert second == first


async def test_a_payment_that_is_authorized_gets_no_session_and_antom_is_not_asked(
    till: Till,
) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    authorized = await till.read(fresh=True)
    assert authorized.state is PaymentState.AUTHORIZED
    till.antom.asked.clear()
    for seconds in (0, 7200):
        till.clock.advance(seconds)
        assert await till.create() == SessionAnswer(authorized, None)
    assert till.antom.asked == []


async def test_a_repetition_after_its_own_expiry_gets_a_fresh_session_that_says_none(
    till: Till,
) -> None:
    expiry = START + timedelta(minutes=10)
    till.antom.will(
        SESSION,
        session(expiry="2026-03-02T09:40:00Z"),
        session("session-2", expiry="2026-03-02T11:00:00Z"),
    )
    await till.create(payment_session_expiry_time=expiry)
    till.clock.advance(700)
    answer = await till.create(payment_session_expiry_time=expiry)
    assert answer.session
    assert answer.session.payment_session_id == "session-2"
    first, second = (question.body for question in till.antom.asked)
    assert first.pop("paymentSessionExpiryTime") == "2026-03-02T09:40:00Z"
    assert second == first


async def test_a_repetition_after_its_own_expiry_gets_a_final_payment(sqlite_till: Till) -> None:
    expiry = START + timedelta(minutes=10)
    sqlite_till.antom.will(SESSION, session(expiry="2026-03-02T09:40:00Z"))
    sqlite_till.antom.will(INQUIRY, inquired("FAIL", paymentResultCode="ORDER_IS_CLOSED"))
    await sqlite_till.create(payment_session_expiry_time=expiry)
    failed = await sqlite_till.read(fresh=True)
    assert failed.state is PaymentState.FAILED
    sqlite_till.clock.advance(700)
    answer = await sqlite_till.create(payment_session_expiry_time=expiry)
    assert answer == SessionAnswer(failed, None)


async def test_an_expiry_that_has_passed_is_refused_in_a_first_request(sqlite_till: Till) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await sqlite_till.create(payment_session_expiry_time=START - timedelta(minutes=1))
    assert [one.field for one in refusal.value.violations] == ["payment_session_expiry_time"]
    assert await sqlite_till.stored() is None


async def test_after_an_unknown_outcome_the_same_bytes_are_sent_while_their_expiry_holds(
    sqlite_till: Till,
) -> None:
    sqlite_till.antom.will(SESSION, unknown())
    with pytest.raises(OutcomeUnknown):
        await sqlite_till.create(payment_session_expiry_time=START + timedelta(minutes=10))
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.clock.advance(60)
    await sqlite_till.create(payment_session_expiry_time=START + timedelta(minutes=30))
    assert len({question.raw for question in sqlite_till.antom.asked}) == 1


async def test_a_session_is_fresh_after_the_first_requests_private_data_was_erased(
    till: Till,
) -> None:
    till.antom.will(SESSION, session(), session("session-2", expiry="2026-03-02T15:00:00Z"))
    await till.create()
    till.clock.advance(3 * 3600)
    assert await till.store.erase_expired() == 1
    answer = await till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-2"
    assert await till.create() == answer
    assert len(till.antom.asked) == 2


@pytest.mark.parametrize(
    ("differing", "change"),
    [
        ("payment_amount", {"payment_amount": Money("SGD", 4201)}),
        ("payment_amount", {"payment_amount": Money("USD", 4200)}),
        ("payment_method_type", {"payment_method": PaymentMethod(payment_method_type="GCASH")}),
        ("capture_mode", {"capture_mode": "MANUAL"}),
        ("reference_order_id", {"order": replace(REQUEST.order, reference_order_id="order-2")}),
    ],
)
async def test_an_id_belongs_to_one_payment(
    sqlite_till: Till, differing: str, change: dict[str, Any]
) -> None:
    sqlite_till.antom.will(SESSION, session())
    await sqlite_till.create()
    with pytest.raises(PaymentRequestIdReused) as refusal:
        await sqlite_till.create(**change)
    assert refusal.value.differing == differing
    assert len(sqlite_till.antom.asked) == 1


async def test_of_two_calls_at_the_same_instant_one_asks_antom(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    calls = [asyncio.create_task(till.create()) for _ in range(2)]
    done, [waiting] = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    [late] = done
    in_flight = late.exception()
    assert isinstance(in_flight, SessionInFlight)
    assert in_flight.retry_after_seconds == LEASE_SECONDS
    answer.go_on.set()
    assert (await waiting).session
    assert len(till.antom.asked) == 1


# Crashes, and callers that leave


async def test_after_a_crash_under_the_call_a_repetition_ends_in_one_session(
    till: Till, till_on: Callable[..., Till]
) -> None:
    till.antom.will(SESSION, Held(session("never told")), session())
    crashing = asyncio.create_task(till.create())
    await till.antom.was_asked()
    for call in till.service._calls:
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crashing

    restarted = till_on(till.store)
    with pytest.raises(SessionInFlight) as in_flight:
        await restarted.create()
    assert in_flight.value.retry_after_seconds == LEASE_SECONDS
    till.clock.advance(LEASE_SECONDS + 1)
    answer = await restarted.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-1"
    assert await till.news() == [EventType.SESSION_CREATED]
    assert len(await rows(till.store, "SELECT 1 FROM payments")) == 1
    first, second = till.antom.asked
    assert first.raw == second.raw


async def test_a_call_lasts_as_long_as_its_caller_waits_and_can_be_repeated_at_once(
    sqlite_till: Till,
) -> None:
    sqlite_till.antom.will(SESSION, Held(session("too late")), session())
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        await sqlite_till.create(budget_seconds=0.2)
    await sqlite_till.service.drain()
    answer = await sqlite_till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-1"
    assert len(sqlite_till.antom.asked) == 2


async def test_an_answer_that_came_in_time_is_stored_though_its_caller_left(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create(budget_seconds=0.5))
    await till.antom.was_asked()
    _, mend = break_writes(till.store)
    answer.go_on.set()
    with pytest.raises(DeadlineExceeded):
        await creating
    mend()
    await till.service.drain()
    assert (await till.create()).session
    assert await till.news() == [EventType.SESSION_CREATED]
    assert len(till.antom.asked) == 1


async def test_a_call_goes_on_when_its_caller_cancels(till: Till) -> None:
    answer = Held(session())
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    answer.go_on.set()
    await till.service.drain()
    assert (await till.create()).session
    assert len(till.antom.asked) == 1


async def test_a_caller_that_leaves_at_once_leaves_no_lease_behind(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session())
    creating = asyncio.create_task(sqlite_till.create())
    await asyncio.sleep(0)  # it has begun, and waits for the database
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await sqlite_till.service.drain()
    assert (await sqlite_till.create()).session
    assert len(sqlite_till.antom.asked) == 1


# Refusals and unknown outcomes


async def test_a_refusal_fails_the_payment_and_later_calls_get_it_without_a_session(
    till: Till,
) -> None:
    till.antom.will(SESSION, refused("PARAM_ILLEGAL"))
    with pytest.raises(AntomRefused) as refusal:
        await till.create()
    assert refusal.value.result_code == "PARAM_ILLEGAL"
    [told] = await whole_log(till.store)
    assert (told.type, told.source) == (EventType.SESSION_REFUSED, Source.API)
    assert told.payment.state is PaymentState.FAILED
    assert told.payment.result_code == "PARAM_ILLEGAL"
    again = await till.create()
    assert again == SessionAnswer(told.payment, None)
    assert till.antom.operations == [SESSION]


async def test_a_refusal_after_an_unknown_outcome_counts_when_inquiry_agrees(till: Till) -> None:
    till.antom.will(SESSION, cut, refused())
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    with pytest.raises(AntomRefused):
        await till.create()
    assert till.antom.operations == [SESSION, SESSION, INQUIRY]
    assert (await till.read()).state is PaymentState.FAILED


async def test_a_refusal_on_a_later_call_counts_when_inquiry_agrees(till: Till) -> None:
    till.antom.will(SESSION, unknown())
    with pytest.raises(OutcomeUnknown):
        await till.create()
    till.antom.forget()
    till.antom.will(SESSION, refused())
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    with pytest.raises(AntomRefused):
        await till.create()
    assert till.antom.operations == [SESSION, INQUIRY]
    assert await till.news() == [EventType.SESSION_REFUSED]


async def test_a_refusal_of_a_payment_that_antom_has_is_only_about_the_repetition(
    till: Till,
) -> None:
    till.antom.will(SESSION, cut, refused())
    till.antom.will(INQUIRY, inquired("PROCESSING"))
    answer = await till.create()
    assert answer.session is None
    assert answer.payment.state is PaymentState.PROCESSING
    assert await till.news() == [EventType.PAYMENT_PROCESSING]
    till.antom.will(SESSION, session())
    assert (await till.create()).session


async def test_a_status_that_nobody_knows_yet_is_no_proof_of_a_refusal(till: Till) -> None:
    till.antom.will(SESSION, cut, refused())
    till.antom.will(INQUIRY, inquired("INVENTED_TOMORROW"))
    answer = await till.create()
    assert answer.payment.state is PaymentState.CREATING
    assert await till.news() == []


async def test_a_refusal_that_cannot_be_checked_leaves_the_outcome_unknown(till: Till) -> None:
    till.antom.will(SESSION, cut, refused("PARAM_ILLEGAL"), session())
    till.antom.will(INQUIRY, unknown())
    with pytest.raises(OutcomeUnknown) as doubt:
        await till.create()
    assert doubt.value.result_code == "PARAM_ILLEGAL"
    assert (await till.read()).state is PaymentState.CREATING
    assert (await till.create()).session


async def test_an_unknown_outcome_can_be_repeated_at_once(till: Till) -> None:
    till.antom.will(SESSION, unknown())
    with pytest.raises(OutcomeUnknown):
        await till.create()
    assert len(till.antom.asked) > 1
    assert (await till.read()).state is PaymentState.CREATING
    till.antom.will(SESSION, session())
    assert (await till.create()).session


async def test_when_nothing_was_sent_the_call_can_be_repeated_at_once(
    till: Till, till_on: Callable[..., Till]
) -> None:
    async with scripted_antom() as gone:
        origin = gone.origin
    async with antom_client(origin) as nowhere:
        with pytest.raises(AntomUnavailable):
            await till_on(till.store, nowhere).create()
    assert (await till.read()).state is PaymentState.CREATING
    till.antom.will(SESSION, session())
    assert (await till.create()).session


async def test_an_answer_that_is_not_antoms_concludes_nothing(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session("forged", signed=False), session())
    with pytest.raises(AntomUntrusted):
        await sqlite_till.create()
    answer = await sqlite_till.create()
    assert answer.session
    assert answer.session.payment_session_id == "session-1"


async def test_an_id_that_antom_used_up_is_told_and_the_payment_stays_open(till: Till) -> None:
    till.antom.will(SESSION, refused("ORDER_IS_CLOSED"))
    till.antom.will(INQUIRY, NOT_SUBMITTED)
    for _ in range(2):
        with pytest.raises(NewPaymentRequestIdNeeded):
            await till.create()
    assert till.antom.operations == [SESSION, SESSION, INQUIRY]
    assert (await till.read()).state is PaymentState.CREATING
    assert await till.news() == []


async def test_an_id_whose_order_is_over_gets_the_payment_as_it_ended(till: Till) -> None:
    till.antom.will(SESSION, cut, refused("ORDER_IS_CLOSED"))
    till.antom.will(INQUIRY, inquired("FAIL", paymentResultCode="ORDER_IS_CLOSED"))
    answer = await till.create()
    assert answer.session is None
    assert answer.payment.state is PaymentState.FAILED
    assert answer.payment.result_code == "ORDER_IS_CLOSED"


# The database goes away


def break_writes(store: PaymentStore) -> tuple[asyncio.Event, Callable[[], None]]:
    """Let every statement of ``store`` fail as in an outage; what tells so, and what mends it."""
    noticed = asyncio.Event()
    engine = store._database.engine.sync_engine

    def fail(*_: object) -> None:
        noticed.set()
        raise OSError("the network is gone")

    event.listen(engine, "before_cursor_execute", fail)
    return noticed, lambda: event.remove(engine, "before_cursor_execute", fail)


@pytest.mark.parametrize("told", [session(), refused()], ids=["session", "refusal"])
async def test_antoms_answer_outlives_an_outage_of_the_database(
    till: Till, told: Callable[..., Awaitable[None]]
) -> None:
    answer = Held(told)
    till.antom.will(SESSION, answer)
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    noticed, mend = break_writes(till.store)
    answer.go_on.set()
    await noticed.wait()
    mend()
    [outcome] = await asyncio.gather(creating, return_exceptions=True)
    assert isinstance(outcome, SessionAnswer | AntomRefused)
    assert len(await till.news()) == 1
    assert len(till.antom.asked) == 1


async def test_an_answer_that_cannot_be_kept_is_fetched_again(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_KEEP_ANSWER_SECONDS", 0.0)
    answer = Held(session("lost"))
    till.antom.will(SESSION, answer, session())
    creating = asyncio.create_task(till.create())
    await till.antom.was_asked()
    _, mend = break_writes(till.store)
    answer.go_on.set()
    with pytest.raises(StoreUnavailable):
        await creating
    mend()
    till.clock.advance(LEASE_SECONDS + 1)
    again = await till.create()
    assert again.session
    assert again.session.payment_session_id == "session-1"
    assert await till.news() == [EventType.SESSION_CREATED]


async def test_antoms_answer_outlives_another_processs_lock_on_sqlite(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock, till_on: Callable[..., Till]
) -> None:
    answer = Held(session())
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        till = till_on(store)
        till.antom.will(SESSION, answer)
        creating = asyncio.create_task(till.create())
        await till.antom.was_asked()
        other = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer.go_on.set()
        assert (await till.stored()) is not None  # readers are not held up
        other.execute("ROLLBACK")
        other.close()
        assert (await creating).session


async def test_antoms_answer_outlives_postgresql_turning_everybody_away(
    postgres_url: str,
    databases: Databases,
    cipher: DataCipher,
    clock: FrozenClock,
    till_on: Callable[..., Till],
) -> None:
    name = make_url(postgres_url).database
    admin_url = databases.server().url.set(drivername="postgresql")
    admin = await asyncpg.connect(admin_url.render_as_string(hide_password=False))
    answer = Held(session())
    async with open_store(postgres_url, cipher=cipher, now=clock.now) as store:
        till = till_on(store)
        till.antom.will(SESSION, answer)
        creating = asyncio.create_task(till.create())
        await till.antom.was_asked()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        refused_once = asyncio.Event()
        engine = store._database.engine.sync_engine
        event.listen(engine, "do_connect", lambda *_: refused_once.set())
        answer.go_on.set()
        await refused_once.wait()
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert (await creating).session
    await admin.close()


# Reading


async def test_a_payment_is_found_by_each_of_its_ids(till: Till) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    payment = await till.read(fresh=True)
    for key in (
        PaymentKey("default", payment_request_id="pay-1"),
        PaymentKey(payment_id="P-pay-1"),
        PaymentKey(reference_order_id="order-1"),
    ):
        assert await till.read(key) == payment


@pytest.mark.parametrize(
    "key",
    [
        PaymentKey(payment_request_id="pay-2"),
        PaymentKey(payment_id="P-pay-2"),
        PaymentKey(reference_order_id="order-2"),
    ],
)
async def test_an_unknown_payment_is_not_found_and_nobody_is_asked(
    sqlite_till: Till, key: PaymentKey
) -> None:
    with pytest.raises(PaymentNotFound):
        await sqlite_till.read(key, fresh=True)
    assert sqlite_till.antom.asked == []


async def test_a_fresh_read_stores_what_antom_says(till: Till) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, AUTHORIZED)
    await till.create()
    payment = await till.read(fresh=True)
    assert payment.state is PaymentState.AUTHORIZED
    assert payment == await till.stored()
    _, told = await whole_log(till.store)
    assert (told.type, told.source) == (EventType.PAYMENT_AUTHORIZED, Source.INQUIRY)


async def test_a_fresh_read_of_what_nobody_submitted_changes_nothing(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, NOT_SUBMITTED)
    created = await sqlite_till.create()
    assert await sqlite_till.read(fresh=True) == created.payment
    assert await sqlite_till.news() == [EventType.SESSION_CREATED]


@pytest.mark.parametrize("code", ["ACCESS_DENIED", "PARAM_ILLEGAL"])
async def test_an_inquiry_that_antom_refuses_says_nothing_about_the_payment(
    sqlite_till: Till, code: str
) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, refused(code))
    created = await sqlite_till.create()
    with pytest.raises(OutcomeUnknown) as doubt:
        await sqlite_till.read(fresh=True)
    assert doubt.value.result_code == code
    assert await sqlite_till.read() == created.payment
    assert await sqlite_till.news() == [EventType.SESSION_CREATED]


async def test_a_fresh_read_that_is_told_another_amount_concludes_nothing_and_alerts(
    till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    till.antom.will(SESSION, session())
    till.antom.will(INQUIRY, inquired(minor_units=1, authExpiryTime="2026-03-09T09:30:00Z"))
    await till.create()
    payment = await till.read(fresh=True)
    assert payment.state is PaymentState.AWAITING_BUYER
    assert await till.news() == [EventType.SESSION_CREATED, EventType.AMOUNT_MISMATCH]
    [alert] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "inquiry_contradicts" in str(alert.msg)


async def test_callers_of_the_same_second_share_one_inquiry(
    sqlite_till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, AUTHORIZED)
    await sqlite_till.create()
    monkeypatch.setattr(service_module, "_SHARED_INQUIRY_SECONDS", PATIENCE)
    together = await asyncio.gather(*(sqlite_till.read(fresh=True) for _ in range(5)))
    together.append(await sqlite_till.read(fresh=True))
    assert {payment.state for payment in together} == {PaymentState.AUTHORIZED}
    assert sqlite_till.antom.operations == [SESSION, INQUIRY]
    monkeypatch.setattr(service_module, "_SHARED_INQUIRY_SECONDS", 0.0)
    await sqlite_till.read(fresh=True)
    assert sqlite_till.antom.operations == [SESSION, INQUIRY, INQUIRY]


async def test_all_who_share_an_inquiry_share_its_failure(sqlite_till: Till) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, unknown())
    await sqlite_till.create()
    failures = await asyncio.gather(
        *(sqlite_till.read(fresh=True) for _ in range(3)), return_exceptions=True
    )
    assert [type(failure) for failure in failures] == [OutcomeUnknown] * 3


async def test_a_reader_who_leaves_does_not_stop_the_inquiry_of_the_others(
    sqlite_till: Till,
) -> None:
    answer = Held(AUTHORIZED)
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, answer)
    await sqlite_till.create()
    leaving, staying = (asyncio.create_task(sqlite_till.read(fresh=True)) for _ in range(2))
    await sqlite_till.antom.was_asked(2)
    leaving.cancel()
    answer.go_on.set()
    assert (await staying).state is PaymentState.AUTHORIZED


# Merchants and limits


@pytest.fixture
def two_merchants(
    sqlite_till: Till, listening: tuple[ScriptedAntom, AntomClient]
) -> PaymentService:
    merchants = {name: Merchant(name, listening[1], POLICY) for name in ("books", "music")}
    return PaymentService(sqlite_till.store, merchants, now=sqlite_till.clock.now)


async def test_each_merchant_has_payments_of_its_own(
    sqlite_till: Till, two_merchants: PaymentService
) -> None:
    sqlite_till.antom.will(SESSION, session("of books"), session("of music"))
    for name in ("books", "music"):
        answer = await two_merchants.create_session(
            EVERYONE, replace(REQUEST, merchant_account=name), budget_seconds=PATIENCE
        )
        assert answer.session
        assert answer.session.payment_session_id == f"of {name}"
        assert answer.payment.merchant_account == name
    assert await sqlite_till.stored() is None


async def test_a_caller_touches_its_own_merchants_only(
    sqlite_till: Till, two_merchants: PaymentService
) -> None:
    sqlite_till.antom.will(SESSION, session())
    clerk = Caller("clerk", frozenset({"books"}))
    answer = await two_merchants.create_session(clerk, REQUEST, budget_seconds=PATIENCE)
    assert answer.payment.merchant_account == "books"
    read = await two_merchants.get_payment(clerk, THE_PAYMENT, fresh=False, budget_seconds=1)
    assert read == answer.payment
    for stranger in ("music", "nobody"):
        key = replace(THE_PAYMENT, merchant_account=stranger)
        with pytest.raises(MerchantNotFound, match=stranger):
            await two_merchants.get_payment(clerk, key, fresh=False, budget_seconds=1)
        with pytest.raises(MerchantNotFound, match=stranger):
            two_merchants.scope(clerk, [stranger])


async def test_with_several_merchants_one_must_be_named(two_merchants: PaymentService) -> None:
    with pytest.raises(MerchantNotFound, match="name one"):
        await two_merchants.create_session(EVERYONE, REQUEST, budget_seconds=1)


async def test_a_stream_is_scoped_to_what_its_caller_may_see(
    sqlite_till: Till, two_merchants: PaymentService
) -> None:
    clerk = Caller("clerk", frozenset({"books"}))
    assert two_merchants.scope(EVERYONE, []) is None
    assert two_merchants.scope(EVERYONE, ["books"]) == {"books"}
    assert two_merchants.scope(clerk, []) == {"books"}
    assert two_merchants.scope(Caller("new", frozenset()), []) == frozenset()
    assert sqlite_till.service.scope(EVERYONE, [""]) == {"default"}


async def test_calls_beyond_the_limit_are_turned_away_before_anything_is_stored(
    sqlite_till: Till, till_on: Callable[..., Till]
) -> None:
    sqlite_till.antom.will(SESSION, session())
    await sqlite_till.create()
    small = till_on(sqlite_till.store, antom_in_flight=1)
    answer = Held(session("session-2"))
    sqlite_till.antom.will(SESSION, answer)
    both = [asyncio.create_task(small.create(payment_request_id=f"pay-{n}")) for n in (2, 3)]
    await sqlite_till.antom.was_asked(2)
    assert isinstance(both[1].exception(), LimitReached)
    assert await sqlite_till.store.payment("default", payment_request_id="pay-3") is None
    with pytest.raises(LimitReached) as refusal:
        await small.read(fresh=True)
    assert refusal.value.metadata == {"limit": "antom_in_flight"}
    assert (await small.read()).state is PaymentState.AWAITING_BUYER
    answer.go_on.set()
    assert (await both[0]).session
    await small.service.drain()
