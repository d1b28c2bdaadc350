"""PostgreSQL down, in each of the ways: told at once or in bounded time, and over in seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import make_url

from antom_payments.errors import StoreUnavailable
from antom_payments.session import Session
from antom_payments.store import (
    AppliedOutcome,
    DataCipher,
    PaymentStore,
    PoolOptions,
    hints,
    migrate,
    open_store,
)
from antom_payments.store.database import Database
from clock import FrozenClock
from database_proxy import DatabaseProxy, database_proxy, once
from facts import a_payment_fact
from postgres_cluster import PostgresCluster, postgres_cluster
from stored import SESSION, begun, confirmed, notified, rows, whole_log

IMPATIENT = PoolOptions(
    size=4, timeout_seconds=0.3, command_timeout_seconds=0.3, budget_seconds=1.0
)
SECONDS = 5.0
"""What "within seconds" is in these tests, on a machine that is busy with others."""


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[DatabaseProxy]:
    async with database_proxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def store(
    proxy: DatabaseProxy, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    """A store behind the proxy, with a full pool."""
    async with open_store(proxy.url, cipher=cipher, now=clock.now, pool=IMPATIENT) as store:
        await confirmed(store)
        await fill_pool(store)
        yield store
        proxy.thaw()


async def fill_pool(store: PaymentStore) -> None:
    """Let every connection of the pool be open, and idle."""
    everybody = asyncio.Barrier(IMPATIENT.size)

    async def meet(_: object) -> None:
        await everybody.wait()

    await asyncio.gather(*(store._database.read(meet) for _ in range(IMPATIENT.size)))


async def seconds_of(work: Awaitable[object]) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await work
    return time.monotonic() - began


async def until_it_works(work: Callable[[], Awaitable[object]]) -> float:
    """Try until it works; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        while True:
            try:
                await work()
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return time.monotonic() - began


async def test_connections_that_were_cut_cost_nobody_a_failure(
    proxy: DatabaseProxy, store: PaymentStore
) -> None:
    proxy.cut()
    before = proxy.connections
    await asyncio.gather(*(store.ping() for _ in range(20)))
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.outcome is AppliedOutcome.APPLIED
    assert proxy.connections - before <= IMPATIENT.size, "each was replaced once"


async def test_a_server_that_refuses_is_unavailable_at_once_and_back_at_once(
    proxy: DatabaseProxy, store: PaymentStore
) -> None:
    proxy.refuse()
    for work in (store.ping(), begun(store), store.apply([notified(a_payment_fact())])):
        assert await seconds_of(work) < IMPATIENT.budget_seconds
    await proxy.accept()
    await store.ping()
    [applied] = await store.apply([notified(a_payment_fact())])
    assert applied.outcome is AppliedOutcome.APPLIED


async def test_many_at_once_are_refused_in_bounded_time(
    proxy: DatabaseProxy, store: PaymentStore
) -> None:
    proxy.refuse()
    took = await asyncio.gather(*(seconds_of(store.ping()) for _ in range(50)))
    assert max(took) < SECONDS
    await proxy.accept()
    assert await until_it_works(store.ping) < SECONDS


async def test_a_frozen_server_is_noticed_by_time_and_its_connections_are_given_up(
    proxy: DatabaseProxy, store: PaymentStore
) -> None:
    proxy.freeze()
    assert await seconds_of(store.ping()) < SECONDS
    assert await seconds_of(begun(store, payment_request_id="order-2")) < SECONDS
    took = await asyncio.gather(
        *(seconds_of(store.apply([notified(a_payment_fact())])) for _ in range(20))
    )
    assert max(took) < SECONDS
    proxy.thaw()
    assert await until_it_works(store.ping) < SECONDS
    await begun(store, payment_request_id="order-2")


async def test_closing_does_not_wait_for_a_frozen_server(
    proxy: DatabaseProxy, cipher: DataCipher, clock: FrozenClock
) -> None:
    patient = replace(IMPATIENT, command_timeout_seconds=20)
    async with open_store(proxy.url, cipher=cipher, now=clock.now, pool=patient) as store:
        await fill_pool(store)
        proxy.freeze()
        began = time.monotonic()
    assert time.monotonic() - began < SECONDS


async def test_old_connections_that_lead_nowhere_cost_one_failure_for_the_whole_pool(
    proxy: DatabaseProxy, store: PaymentStore
) -> None:
    """A firewall forgot them: new connections work, old ones are silent."""
    proxy.freeze_open()
    assert await seconds_of(store.ping()) < SECONDS
    await fill_pool(store)


async def test_a_network_that_crawls_is_given_up_in_bounded_time_and_nothing_is_half_done(
    proxy: DatabaseProxy, store: PaymentStore
) -> None:
    proxy.delay_seconds = 0.1
    took = await asyncio.gather(
        *(seconds_of(store.apply([notified(a_payment_fact())])) for _ in range(20))
    )
    assert max(took) < IMPATIENT.budget_seconds + 1
    proxy.delay_seconds = 0
    await until_it_works(lambda: store.apply([notified(a_payment_fact())]))
    assert len(await whole_log(store)) == 2


# A commit whose answer is lost


@pytest.mark.parametrize("reached", [False, True], ids=["before COMMIT", "after COMMIT"])
async def test_a_notification_whose_commit_was_cut_is_applied_exactly_once(
    proxy: DatabaseProxy, store: PaymentStore, reached: bool
) -> None:
    cut_around_commit(proxy, reached=reached)
    [applied] = await store.apply([notified(a_payment_fact())])
    expected = AppliedOutcome.DUPLICATE if reached else AppliedOutcome.APPLIED
    assert applied.outcome is expected
    assert applied.event is not None
    assert [event.sequence for event in await whole_log(store)] == [1, 2]
    assert await rows(store, "SELECT count(*) FROM notifications") == [(1,)]


@pytest.mark.parametrize("reached", [False, True], ids=["before COMMIT", "after COMMIT"])
async def test_a_session_whose_commits_were_cut_is_stored_exactly_once(
    proxy: DatabaseProxy, store: PaymentStore, reached: bool
) -> None:
    cut_around_commit(proxy, reached=reached)
    claim = await begun(store, payment_request_id="order-2")
    assert claim.lease_token
    cut_around_commit(proxy, reached=reached)
    payment = (await store.confirm_session(claim, SESSION)).payment
    assert payment.payment_request_id == "order-2"
    assert [event.sequence for event in await whole_log(store)] == [1, 2]
    again = await begun(store, payment_request_id="order-2")
    assert isinstance(again.session, Session)


def cut_around_commit(proxy: DatabaseProxy, *, reached: bool) -> None:
    if reached:
        proxy.answer_spoils = once(b"COMMIT\0")
    else:
        proxy.request_spoils = once(b"COMMIT;")


# A server of its own: stopped, started, demoted


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with postgres_cluster() as cluster:
        yield cluster


@pytest.fixture
async def demotable(
    cluster: PostgresCluster, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    await migrate(cluster.url)
    async with open_store(cluster.url, cipher=cipher, now=clock.now, pool=IMPATIENT) as store:
        await fill_pool(store)
        yield store


READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on"
WRITABLE = ("SET default_transaction_read_only = off", "ALTER SYSTEM RESET ALL")
RELOAD = "SELECT pg_reload_conf()"


async def test_a_server_that_is_stopped_and_started_costs_seconds_and_no_acknowledgement(
    cluster: PostgresCluster, demotable: PaymentStore
) -> None:
    acknowledged = [await begun(demotable, payment_request_id="stop-1")]
    cluster.stop()
    assert await seconds_of(begun(demotable, payment_request_id="stop-2")) < SECONDS
    with pytest.raises(StoreUnavailable):
        await demotable.ping()
    cluster.start()
    await demotable.ping()
    acknowledged.append(await begun(demotable, payment_request_id="stop-3"))
    found = await rows(
        demotable, "SELECT payment_request_id FROM payments WHERE payment_request_id LIKE 'stop-%'"
    )
    assert sorted(found) == [("stop-1",), ("stop-3",)]


@pytest.mark.parametrize("how", ["reloaded", "restarted"])
async def test_a_demoted_server_is_left_and_never_served_from_until_it_takes_writes_again(
    cluster: PostgresCluster, demotable: PaymentStore, how: str
) -> None:
    await cluster.execute(READ_ONLY, RELOAD)
    if how == "restarted":
        cluster.stop()
        cluster.start()
    name = f"demoted-{how}"
    assert await seconds_of(begun(demotable, payment_request_id=name)) < SECONDS
    with pytest.raises(StoreUnavailable):
        await demotable.ping()
    with pytest.raises(StoreUnavailable):
        await demotable.payment("default", payment_request_id="stop-1")
    await cluster.execute(*WRITABLE, RELOAD)
    assert await until_it_works(lambda: begun(demotable, payment_request_id=name)) < SECONDS


async def test_readiness_notices_a_demotion_before_any_write_does(
    cluster: PostgresCluster, demotable: PaymentStore
) -> None:
    await cluster.execute(READ_ONLY, RELOAD)
    try:
        with pytest.raises(StoreUnavailable):
            await until_it_fails(demotable.ping)
    finally:
        await cluster.execute(*WRITABLE, RELOAD)
    assert await until_it_works(demotable.ping) < SECONDS


async def test_a_listener_leaves_a_server_that_was_demoted(
    cluster: PostgresCluster,
    cipher: DataCipher,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be told of nothing there, however long it listens."""
    monkeypatch.setattr(hints, "_HEARTBEAT_SECONDS", 0.05)
    await migrate(cluster.url)
    async with open_store(cluster.url, cipher=cipher, now=clock.now, listens=True) as store:
        await asyncio.wait_for(store.log.wait(600), SECONDS)  # it has begun
        leaving = asyncio.create_task(store.log.wait(600))
        await cluster.execute(READ_ONLY, RELOAD)
        try:
            await asyncio.wait_for(leaving, SECONDS)
        finally:
            await cluster.execute(*WRITABLE, RELOAD)


async def until_it_fails(work: Callable[[], Awaitable[object]]) -> None:
    """Sessions learn of a reload when they run their next statement, or a little later."""
    async with asyncio.timeout(SECONDS):
        while True:
            await work()


async def test_a_server_with_too_many_connections_is_unavailable(cluster: PostgresCluster) -> None:
    await cluster.execute("CREATE ROLE poor LOGIN CONNECTION LIMIT 1 PASSWORD 'poor'")
    url = make_url(cluster.url).set(username="poor", password="poor")
    databases = [Database(url.render_as_string(hide_password=False)) for _ in range(2)]

    async def nothing(_: object) -> None:
        return

    await databases[0].read(nothing)
    async with databases[0].engine.connect() as connection:
        await connection.get_raw_connection()
        with pytest.raises(StoreUnavailable):
            await databases[1].read(nothing)
    await databases[0].dispose()
    await until_it_works(lambda: databases[1].read(nothing))
    await databases[1].dispose()
