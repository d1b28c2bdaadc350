"""What the metrics say when something goes wrong, is slow, or is far behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import exc, text

from antom.asking import (
    SESSION,
    Pauses,
    antom,
    client_of,
    create,
    fails,
    hangs_up,
    inquire,
    result,
    signed,
    unsigned,
)
from antom.wires import Visit, free_port
from antom_payments.antom import measures as antom_measures
from antom_payments.antom.wire import open_wire
from antom_payments.errors import AntomError, StoreUnavailable
from antom_payments.event_stream import AfterCursor, EventStream, Snapshot
from antom_payments.event_stream import measures as stream_measures
from antom_payments.grpc_api import StreamOptions
from antom_payments.grpc_api import limits as grpc_limits
from antom_payments.grpc_api import stream as grpc_stream
from antom_payments.notifications import outcomes
from antom_payments.store import PaymentStore, PoolOptions
from antom_payments.store import measures as store_measures
from antom_payments.store.database import Database
from antom_payments.store.outages import Trouble
from event_stream.faulty_log import FaultyLog
from event_stream.news import News
from event_stream.watching import EVERYTHING, Watcher
from event_stream.watching import running as streaming
from grpc_api.world import Served, options, serving, until
from readings import Readings, observed, readings
from store.transactions import Transactions, while_one_is_under_way
from stored import about, confirmed, notified, numbered


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Readings]:
    with readings(monkeypatch) as read:
        yield read


# Antom


@pytest.mark.parametrize(
    ("behaviour", "said", "unknown"),
    [
        (signed(SESSION), "answered", False),
        (signed(result("F", "PARAM_ILLEGAL")), "answered", False),
        (signed(result("U", "UNKNOWN_EXCEPTION")), "unknown", True),
        (fails, "unknown", True),
        (hangs_up, "unknown", True),
        (unsigned(SESSION), "untrusted", False),
    ],
    ids=["session", "refused", "U", "HTTP 500", "hung up", "unsigned"],
)
async def test_each_request_to_antom_is_timed_by_what_became_of_it(
    read: Readings, behaviour: object, said: str, unknown: bool
) -> None:
    read.of("histogram", antom_measures, "_duration")
    read.of("counter", antom_measures, "_unknown")
    async with antom(*[behaviour] * 5) as (client, server):  # type: ignore[list-item]  # one of Behaviour
        with contextlib.suppress(AntomError):
            await create(client)
    counted = {("createPaymentSession", said): len(server.requests)}
    assert read.counts("_duration") == counted
    assert read.counts("_unknown") == ({("createPaymentSession",): 1} if unknown else {})


async def test_antom_that_cannot_be_reached_leaves_no_doubt(read: Readings) -> None:
    read.of("histogram", antom_measures, "_duration")
    read.of("counter", antom_measures, "_unknown")
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with open_wire(nowhere) as wire:
        with pytest.raises(AntomError):
            await inquire(client_of(wire, Pauses()))
    assert set(read.counts("_duration")) == {("inquiryPayment", "unavailable")}
    assert read.counts("_unknown") == {}


async def test_a_request_that_nobody_waits_for_any_more_is_abandoned(read: Readings) -> None:
    read.of("histogram", antom_measures, "_duration")
    asked = asyncio.Event()

    async def is_silent(visit: Visit) -> None:
        asked.set()
        await visit.until_left()

    async with antom(is_silent) as (client, _):
        asking = asyncio.create_task(create(client))
        await asked.wait()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    assert read.counts("_duration") == {("createPaymentSession", "abandoned"): 1}


# The database


async def test_repeated_and_failed_transactions_are_counted_by_their_trouble(
    read: Readings, store: PaymentStore
) -> None:
    for attribute in ("_retries", "_failures"):
        read.of("counter", store_measures, attribute)
    read.of("histogram", store_measures, "_transactions")
    transactions = Transactions(store)
    conflict = exc.OperationalError("COMMIT", None, _Told("40001"))
    full = exc.OperationalError("COMMIT", None, _Told("53100"))
    transactions.failures = [conflict, conflict]
    await confirmed(store)
    transactions.failures = [full]
    with pytest.raises(StoreUnavailable):
        await confirmed(store, payment_request_id="pay-2")
    assert read.counts("_retries") == {("conflict",): 2}
    assert read.counts("_failures") == {("full",): 1}
    assert read.counts("_transactions")["write", "failed"] == 3


class _Told(Exception):
    """An error as a driver raises it, with the database's code."""

    def __init__(self, code: str) -> None:
        self.sqlstate = code


async def test_who_waits_for_a_connection_is_seen_and_who_waits_too_long_is_counted(
    read: Readings, sqlite_url: str
) -> None:
    read.of("counter", store_measures, "_failures")
    read.of("histogram", store_measures, "_waits")
    database = Database(sqlite_url, PoolOptions(size=1, timeout_seconds=0.05))
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        assert observed(store_measures._connections)["used",] == 1
        waiting = asyncio.create_task(database.ping())
        await until(lambda: observed(store_measures._waiting) == {(): 1})
        with pytest.raises(StoreUnavailable):
            await waiting
    assert read.counts("_failures") == {(Trouble.EXHAUSTED.value,): 1}
    assert read.counts("_waits") == {}
    await database.ping()
    assert read.counts("_waits") == {(): 1}
    assert observed(store_measures._waiting) == {(): 0}
    assert observed(store_measures._connections) == {("used",): 0, ("idle",): 1}
    await database.dispose()
    assert observed(store_measures._connections) == {}


async def test_a_group_commit_tells_its_size_and_what_waits(
    read: Readings, store: PaymentStore
) -> None:
    read.of("histogram", store_measures, "_group_sizes")
    await numbered(store, 3)
    before = read.counts("_group_sizes")[()]
    calls = [store.apply([notified(about(number))]) for number in (1, 2, 3)]
    await while_one_is_under_way(store, Transactions(store), *calls)
    assert read.counts("_group_sizes")[()] == before + 2
    assert observed(store_measures.group_queue) == {(): 0}


async def test_intents_tell_how_many_shared_a_transaction_and_what_waits(
    read: Readings, store: PaymentStore
) -> None:
    read.of("histogram", store_measures, "_intent_sizes")
    await numbered(store, 2)
    assert read.counts("_intent_sizes")[()] == 2
    assert observed(store_measures.intent_queue) == {(): 0}


async def test_events_are_counted_once_for_each_that_was_committed(
    read: Readings, store: PaymentStore
) -> None:
    read.of("counter", store_measures, "_appended")
    transactions = Transactions(store)
    await numbered(store, 2)
    transactions.failures = [exc.OperationalError("COMMIT", None, _Told("40001"))]
    twice = [notified(about(0)), notified(about(0)), notified(about(1))]
    await store.apply(twice)
    await store.apply(twice)
    told = read.counts("_appended")
    assert told == {("SESSION_CREATED",): 2, ("PAYMENT_AUTHORIZED",): 2}


async def test_open_payments_are_counted_by_state(store: PaymentStore) -> None:
    await numbered(store, 3)
    await store.apply([notified(about(1))])
    assert await store.open_payments_by_state() == {"AWAITING_BUYER": 2, "AUTHORIZED": 1}


# The stream


async def test_the_tails_lag_grows_while_the_log_cannot_be_read_and_ends_after_it(
    store: PaymentStore,
) -> None:
    log = FaultyLog(store.log)
    async with streaming(log) as stream:
        await Watcher.start(stream, AfterCursor(stream._encoder.mark_before(None).cursor))
        assert observed(stream_measures._tail_lag) == {(): 0}
        log.is_down = True
        await log.has_failed()
        await until(lambda: observed(stream_measures._tail_lag)[()] > 0)
        log.is_down = False
        await until(lambda: observed(stream_measures._tail_lag) == {(): 0})
        events = await News(store).about("order-1")
        await until(lambda: observed(stream_measures._head) == {(): events[-1].sequence})
        assert observed(stream_measures._unread) == {(): 0}
    assert observed(stream_measures._head) == {}


async def test_the_subscriber_who_is_furthest_behind_is_told_and_its_reads_are_counted(
    store: PaymentStore,
) -> None:
    news = News(store)
    async with streaming(store.log, ring_events=4) as stream:
        lagging = await _at_the_start(stream)
        current = await _at_the_start(stream)
        events = [(await news.about(f"order-{number}"))[0] for number in range(12)]
        newest = events[-1].sequence
        reads = observed(stream_measures._page_reads)[()]
        await current.until_sequence(newest)
        stream.measures.look()
        assert observed(stream_measures._most_behind) == {(): newest}
        await lagging.until_sequence(newest)
        assert observed(stream_measures._page_reads)[()] > reads
        stream.measures.look()
        assert observed(stream_measures._most_behind) == {(): 0}
        assert observed(stream_measures._longest_lag) == {(): 0}


async def test_a_place_in_a_snapshot_is_behind_nothing(store: PaymentStore) -> None:
    await News(store).about(*(f"order-{number}" for number in range(12)))
    async with streaming(store.log) as stream:
        subscription = await stream.subscribe(Snapshot(), EVERYTHING)
        stream.measures.look()
        assert observed(stream_measures._most_behind) == {(): 0}
        subscription.close()


async def _at_the_start(stream: EventStream) -> Watcher:
    start = AfterCursor(stream._encoder.mark_before(None).cursor)
    return await Watcher.start(stream, start, EVERYTHING)


async def test_streams_are_timed_by_what_ended_them(read: Readings, store: PaymentStore) -> None:
    read.of("histogram", grpc_stream, "_lifetimes")
    short = options(streams=StreamOptions(lifetime_seconds=(0.01, 0.02)))
    async with serving(store, short) as served:
        await served.follow().until_end()
    async with serving(store) as served:
        drained, left = served.follow(), served.follow()
        for following in (drained, left):
            await following.until_marker("caught_up")
        assert _calls(served) == {("unary",): 0, ("stream",): 2}
        left.call.cancel()
        await until(lambda: served.server.admission.streams == 1)
        await served.server.drain()
        await drained.until_end()
    assert read.counts("_lifetimes") == {("lifetime",): 1, ("caller",): 1, ("drain",): 1}


def _calls(served: Served) -> dict[tuple[str, ...], float]:
    assert served.server.admission.streams
    return observed(grpc_limits._active)


async def test_only_news_is_timed_and_each_event_counted_for_each_stream(
    read: Readings, store: PaymentStore
) -> None:
    read.of("histogram", grpc_stream, "_delays")
    async with serving(store) as served:
        before = observed(grpc_stream._delivered).get((), 0)
        await served.news.about("order-1")
        followers = [served.follow(), served.follow()]
        for following in followers:
            await following.until_marker("caught_up")
        assert read.counts("_delays") == {}
        await served.news.about("order-2")
        for following in followers:
            await following.until_events(2)
        assert read.counts("_delays") == {(): 1}
        assert observed(grpc_stream._delivered)[()] == before + 4


# Notifications


def test_only_what_is_accepted_is_the_last_that_was_accepted(read: Readings, clock: object) -> None:
    read.of("gauge", outcomes, "_last_accepted")
    read.of("histogram", outcomes, "_age")
    read.of("histogram", outcomes, "_verification")
    read.of("counter", outcomes, "_notifications")
    counts = outcomes.Counts(outcomes._notifications)
    assert read.counts("_notifications") == {(outcome.value,): 0 for outcome in outcomes.Outcome}
    time = clock.now()  # type: ignore[attr-defined]  # a FrozenClock
    counts.verified(0.001, None)
    counts.verified(0.001, -5.0)
    assert (read.counts("_verification"), read.counts("_age")) == ({(): 2}, {(): 1})
    counts.accepted("default", time)
    assert read.counts("_last_accepted") == {("default",): time.timestamp()}
    counts.accepted("default", time + timedelta(seconds=1))
    assert read.counts("_last_accepted") == {("default",): time.timestamp() + 1}
