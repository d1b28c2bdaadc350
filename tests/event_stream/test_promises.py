"""What the stream promises, a test for each word, on the real store of both databases."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antom_payments.cursor import CursorSeal, Position, fingerprint_of
from antom_payments.errors import CursorExpired, CursorInvalid, LogRewound
from antom_payments.event_stream import BatchLimits, EventStream, Pace
from antom_payments.fact import Outcome
from antom_payments.payment import EventType
from antom_payments.payment_event import EventFilter
from antom_payments.store import PaymentStore
from event_stream.news import News, execute, whole_log
from event_stream.watching import (
    EVERYTHING,
    PATIENCE,
    AfterCursor,
    Earliest,
    Latest,
    Watcher,
    encode,
    running,
    tail_is_at_head,
)

SMALL = {
    "ring_events": 7,
    "page_events": 5,
    "page_reads": 2,
    "limits": BatchLimits(events=3),
}
"""So that a few events already overflow the ring, pages and batches."""


@pytest.fixture
def news(store: PaymentStore) -> News:
    return News(store)


@pytest.fixture
async def stream(store: PaymentStore) -> AsyncIterator[EventStream]:
    async with running(store.log, **SMALL) as stream:
        yield stream


async def append_at_once(news: News, writers: int, each: int) -> None:
    """Writers that append at the same time, one event a transaction."""

    async def write(writer: int) -> None:
        for number in range(each):
            await news.about(f"payment-{writer}-{number % 2}")

    await asyncio.gather(*(write(writer) for writer in range(writers)))


async def test_ordered_events_arrive_in_the_order_of_their_commits(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    watcher = await Watcher.start(stream, Latest())
    appending = asyncio.create_task(append_at_once(news, writers=4, each=10))
    await watcher.until_sequence(40)
    await appending
    log = await whole_log(store)
    assert [(seen.sequence, seen.event_id) for seen in watcher.seen] == log
    assert watcher.sequences == list(range(1, 41))


async def test_unique_an_event_comes_once_also_where_history_meets_live(
    news: News, stream: EventStream
) -> None:
    await append_at_once(news, writers=2, each=15)
    appending = asyncio.create_task(append_at_once(news, writers=3, each=10))
    watchers = [await Watcher.start(stream, Earliest()) for _ in range(5)]
    await asyncio.gather(*(watcher.until_sequence(60) for watcher in watchers))
    await appending
    for watcher in watchers:
        assert watcher.sequences == list(range(1, 61))
        assert len({seen.event_id for seen in watcher.seen}) == 60
        assert watcher.caught_up == 1


async def test_reliable_a_subscriber_that_drops_again_and_again_misses_nothing(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    moods = random.Random(1)
    appending = asyncio.create_task(append_at_once(news, writers=4, each=15))
    watcher = await Watcher.start(stream, Earliest())
    sequences: list[int] = []
    while len(sequences) < 60:
        if await watcher.take(moods.choice((0.001, 0.01, PATIENCE))) is None:
            watcher.cursor = watcher.subscription.checkpoint_cursor()
        if moods.random() < 0.4:
            watcher.close()
            sequences += watcher.sequences
            watcher = await Watcher.start(stream, AfterCursor(watcher.cursor))
        if len(sequences) + len(watcher.seen) >= 60:
            sequences += watcher.sequences
    await appending
    assert sequences == [sequence for sequence, _ in await whole_log(store)]


async def test_atomic_whoever_has_an_event_reads_at_least_its_state(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    watcher = await Watcher.start(stream, Latest())
    appending = asyncio.create_task(append_at_once(news, writers=2, each=8))
    checked = 0
    while checked < 16:
        await watcher.take()
        for seen in watcher.seen[checked:]:
            payment = await store.payment("default", payment_request_id=seen.payment_request_id)
            assert payment is not None
            assert payment.last_sequence >= seen.sequence
            checked += 1
    await appending


async def test_resumable_the_rest_follows_from_every_cursor(
    news: News, stream: EventStream
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    watcher = await (await Watcher.start(stream, Earliest())).until_sequence(20)
    for seen in watcher.seen[:-1]:
        resumed = await Watcher.start(stream, AfterCursor(seen.cursor))
        await resumed.until_sequence(20)
        assert resumed.sequences == list(range(seen.sequence + 1, 21))
        resumed.close()


async def test_resumable_in_another_process_with_the_same_cursors(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    events = await news.about(*(f"payment-{n}" for n in range(12)))
    async with running(store.log, **SMALL) as other:
        for event in events[:-1]:
            cursor = stream.cursor_at(event.sequence, event.event_id)
            assert cursor == await other.cursor_after(event.sequence)
            resumed = await Watcher.start(other, AfterCursor(cursor))
            await resumed.until_sequence(12)
            assert resumed.sequences == list(range(event.sequence + 1, 13))


async def test_bookmarkable_a_checkpoint_advances_though_nothing_matches(
    news: News, stream: EventStream
) -> None:
    mine = EventFilter(payment_request_ids=frozenset({"mine"}))
    watcher = await (await Watcher.start(stream, Latest(), mine)).until_caught_up()
    before = watcher.subscription.checkpoint_cursor()
    events = await news.about(*(f"other-{n}" for n in range(20)))
    await tail_is_at_head(stream)
    assert await watcher.take(0.001) is None
    checkpoint = watcher.subscription.checkpoint_cursor()
    assert checkpoint != before
    assert checkpoint == stream.cursor_at(20, events[-1].event_id)
    await news.about("mine")
    resumed = await Watcher.start(stream, AfterCursor(checkpoint), mine)
    assert (await resumed.until_sequence(21)).sequences == [21]
    assert (await watcher.until_sequence(21)).sequences == [21]


async def test_bookmarkable_a_checkpoint_never_overtakes_an_event(
    news: News, stream: EventStream
) -> None:
    mine = EventFilter(payment_request_ids=frozenset({"mine"}))
    watcher = await (await Watcher.start(stream, Latest(), mine)).until_caught_up()
    events = await news.about("other-1", "other-2", "mine", "other-3", "mine", "other-4")
    await tail_is_at_head(stream)
    # Not asked for yet: the checkpoint stays before the first event that is due.
    checkpoint = watcher.subscription.checkpoint_cursor()
    assert checkpoint == stream.cursor_at(2, events[1].event_id)
    resumed = await Watcher.start(stream, AfterCursor(checkpoint), mine)
    for follower in (watcher, resumed):
        await follower.until_sequence(5)
        assert follower.sequences == [3, 5]
        assert follower.subscription.checkpoint_cursor() == stream.cursor_at(6, events[5].event_id)


async def test_bookmarkable_history_without_a_match_is_passed_by_checkpoints(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    await append_at_once(news, writers=1, each=30)
    nobody = EventFilter(merchant_accounts=frozenset({"nobody"}))
    watcher = await (await Watcher.start(stream, Earliest(), nobody)).until_caught_up()
    head = (await whole_log(store))[-1]
    assert watcher.cursor == stream.cursor_at(*head)
    assert watcher.seen == []


async def test_scoped_nothing_of_other_merchants_not_even_a_wake_up(
    news: News, stream: EventStream
) -> None:
    mine = EventFilter(merchant_accounts=frozenset({"mine"}))
    await news.about("a", "b", merchant_account="theirs")
    await news.about("a", merchant_account="mine")
    await news.about("c", merchant_account="theirs")
    history = await (await Watcher.start(stream, Earliest(), mine)).until_caught_up()
    assert history.sequences == [3]
    live = await (await Watcher.start(stream, Latest(), mine)).until_caught_up()
    await news.about(*(f"d-{n}" for n in range(20)), merchant_account="theirs")
    await tail_is_at_head(stream)
    assert stream.woken == 0
    await news.about("a", merchant_account="mine")
    for watcher in (history, live):
        await watcher.until_sequence(25)
        assert await watcher.take(0.001) is None
    assert history.sequences == [3, 25]
    assert live.sequences == [25]
    # Sealed: a cursor's length and text tell nothing of what lies between two of them.
    assert {len(seen.cursor) for seen in history.seen} == {46}


async def test_scoped_who_may_see_no_merchant_sees_nothing(news: News, stream: EventStream) -> None:
    await news.about("a", "b")
    nothing = EventFilter(merchant_accounts=frozenset())
    watcher = await (await Watcher.start(stream, Earliest(), nothing)).until_caught_up()
    assert watcher.seen == []


@pytest.mark.parametrize(
    ("event_filter", "wanted"),
    [
        (EVERYTHING, [1, 2, 3, 4, 5, 6]),
        (EventFilter(payment_request_ids=frozenset({"a", "c"})), [1, 4, 5]),
        (EventFilter(types=frozenset({EventType.PAYMENT_SUCCEEDED})), [3]),
        (EventFilter(final_states_only=True), [3, 6]),
        (EventFilter(merchant_accounts=frozenset({"mine"}), final_states_only=True), [6]),
        (
            EventFilter(
                merchant_accounts=frozenset({"default"}),
                payment_request_ids=frozenset({"a"}),
                types=frozenset({EventType.CAPTURE_PROCESSING}),
            ),
            [1, 5],
        ),
    ],
)
async def test_scoped_filters_admit_the_same_from_history_and_live(
    news: News, stream: EventStream, event_filter: EventFilter, wanted: list[int]
) -> None:
    live = await (await Watcher.start(stream, Latest(), event_filter)).until_caught_up()
    await news.about("a", "b")  # 1, 2
    await news.payment_is(Outcome.SUCCEEDED, "e")  # 3
    await news.payment_is(Outcome.PROCESSING, "c")  # 4
    await news.about("a")  # 5
    await news.payment_is(Outcome.FAILED, "d", "mine")  # 6
    history = await (await Watcher.start(stream, Earliest(), event_filter)).until_caught_up()
    await live.until_sequence(wanted[-1])
    assert history.sequences == live.sequences == wanted


async def test_expiring_loudly_with_the_cursor_of_what_is_still_kept(
    database_url: str, store: PaymentStore, news: News
) -> None:
    events = await news.about(*(f"payment-{n}" for n in range(20)))
    await execute(database_url, "DELETE FROM events WHERE sequence < 13")
    async with running(store.log, **SMALL) as stream:
        cursors = [stream.cursor_at(event.sequence, event.event_id) for event in events]
        with pytest.raises(CursorExpired):
            await stream.subscribe(AfterCursor(cursors[0]), EVERYTHING)
        # Also right before what is kept: its own event is gone, and it may be of another log.
        with pytest.raises(CursorExpired) as expired:
            await stream.subscribe(AfterCursor(cursors[11]), EVERYTHING)
        oldest = expired.value.oldest_cursor
        assert expired.value.metadata == {"oldest_cursor": oldest}
        resumed = await Watcher.start(stream, AfterCursor(oldest))
        assert (await resumed.until_sequence(20)).sequences == list(range(13, 21))
        earliest = await Watcher.start(stream, Earliest())
        assert (await earliest.until_sequence(20)).sequences == list(range(13, 21))
        # A payment whose newest event was pruned still gets a cursor that works.
        assert await stream.cursor_after(5) == await stream.cursor_after(0) == oldest


async def test_expiring_loudly_while_a_subscriber_is_too_slow_for_retention(
    database_url: str, news: News, stream: EventStream
) -> None:
    await news.about(*(f"payment-{n}" for n in range(20)))
    watcher = await Watcher.start(stream, Earliest())
    await watcher.take()
    assert watcher.sequences == [1, 2, 3]
    await execute(database_url, "DELETE FROM events WHERE sequence < 10")
    with pytest.raises(CursorExpired) as expired:
        await watcher.until_sequence(20)
    assert watcher.sequences == [1, 2, 3, 4, 5]  # the page it already had
    resumed = await Watcher.start(stream, AfterCursor(expired.value.oldest_cursor))
    assert (await resumed.until_sequence(20)).sequences == list(range(10, 21))


async def test_live_an_append_of_this_process_arrives_without_a_poll(
    store: PaymentStore, news: News
) -> None:
    asleep = Pace(busy_seconds=3600, idle_seconds=3600)
    async with running(store.log, pace=asleep) as stream:
        watcher = await (await Watcher.start(stream, Latest())).until_caught_up()
        for sequence in range(1, 4):
            await news.about("payment")
            await watcher.until_sequence(sequence)


async def test_live_events_of_another_process_arrive(
    database_url: str, stream: EventStream
) -> None:
    watcher = await (await Watcher.start(stream, Latest())).until_caught_up()
    code = Path(__file__).with_name("append_elsewhere.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(code), database_url, "20", stdout=asyncio.subprocess.PIPE
    )
    await watcher.until_sequence(20)
    said, _ = await process.communicate()
    assert said == b"appended 20\n"
    assert watcher.sequences == list(range(1, 21))


async def test_live_a_subscriber_to_whom_nothing_happens_still_gets_checkpoints(
    news: News, stream: EventStream
) -> None:
    await news.about("payment")
    watcher = await (await Watcher.start(stream, Latest())).until_caught_up()
    assert await watcher.take(0.001) is None
    assert watcher.subscription.checkpoint_cursor() == await stream.cursor_after(1)
    assert watcher.subscription.lag_seconds() == 0


async def test_latest_starts_after_what_was_committed_before_the_call(
    store: PaymentStore, news: News
) -> None:
    asleep = Pace(busy_seconds=3600, idle_seconds=3600)
    async with running(store.log, pace=asleep) as stream:
        await stream.subscribe(Latest(), EVERYTHING)
        for _ in range(3):
            event = (await news.about("payment"))[0]
            watcher = await (await Watcher.start(stream, Latest())).until_caught_up()
            assert watcher.cursor == stream.cursor_at(event.sequence, event.event_id)
            assert watcher.seen == []


async def test_a_cursor_works_before_the_tail_has_read_its_event(
    store: PaymentStore, news: News
) -> None:
    await news.about("payment")
    stream = EventStream(store.log, encode=encode)
    await stream.subscribe(Latest(), EVERYTHING)  # and its tail does not run
    events = await news.about("payment", "payment-2", "payment-3")
    cursor = stream.cursor_at(events[0].sequence, events[0].event_id)
    watcher = await Watcher.start(stream, AfterCursor(cursor))
    assert watcher.cursor == cursor
    assert (await watcher.until_caught_up()).sequences == [3, 4]


async def test_a_payment_without_events_has_the_cursor_of_the_logs_start(
    news: News, stream: EventStream
) -> None:
    start = await stream.cursor_after(0)
    watcher = await (await Watcher.start(stream, AfterCursor(start))).until_caught_up()
    await news.about("payment")
    assert (await watcher.until_sequence(1)).sequences == [1]
    resumed = await Watcher.start(stream, AfterCursor(start))
    assert (await resumed.until_sequence(1)).sequences == [1]


async def test_garbled_and_foreign_cursors_are_invalid(news: News, stream: EventStream) -> None:
    event = (await news.about("payment"))[0]
    cursor = stream.cursor_at(event.sequence, event.event_id)
    for text in ("", "garbage", cursor[:-1], cursor[::-1], cursor.swapcase()):
        with pytest.raises(CursorInvalid):
            await stream.subscribe(AfterCursor(text), EVERYTHING)


async def test_a_cursor_into_something_else_than_the_log_is_invalid(
    store: PaymentStore, news: News, stream: EventStream
) -> None:
    event = (await news.about("payment"))[0]
    position = Position(event.sequence, fingerprint_of(event.event_id), phase=17)
    cursor = CursorSeal(store.log.cursor_key, store.log.log_id).seal(position)
    with pytest.raises(CursorInvalid):
        await stream.subscribe(AfterCursor(cursor), EVERYTHING)


async def test_a_cursor_of_a_lost_future_is_not_misread(news: News, stream: EventStream) -> None:
    await news.about("payment", "payment-2")
    with pytest.raises(LogRewound):
        await stream.subscribe(AfterCursor(stream.cursor_at(3, "lost")), EVERYTHING)
    with pytest.raises(LogRewound):
        await stream.subscribe(AfterCursor(stream.cursor_at(2, "another")), EVERYTHING)
    with pytest.raises(LogRewound):
        await stream.cursor_after(3)
