"""Who is woken by an event: only who may want it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from antom_payments.cursor import CursorSeal
from antom_payments.errors import LogRewound, PaymentsError
from antom_payments.event_stream.entry import Encoder
from antom_payments.event_stream.wake_ups import WakeUps
from antom_payments.payment import EventType, PaymentState
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import PaymentStore
from event_stream.memory_log import event_of
from event_stream.news import News
from event_stream.watching import EVERYTHING, AfterCursor, Watcher, running, tail_is_at_head

encoder = Encoder(CursorSeal(bytes(range(64)), "log"), lambda *_: b"")


def some(text: st.SearchStrategy[str]) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.frozensets(text, max_size=2)


merchants = st.sampled_from(["m-1", "m-2", "m-3"])
payments = st.sampled_from(["p-1", "p-2", "p-3"])
types = st.sampled_from(list(EventType)[:3])
filters = st.builds(
    EventFilter,
    merchant_accounts=some(merchants),
    payment_request_ids=some(payments),
    types=st.none() | st.frozensets(types, max_size=2),
    final_states_only=st.booleans(),
)
events = st.builds(
    event_of,
    merchant_account=merchants,
    payment_request_id=payments,
    type=types,
    state=st.sampled_from([PaymentState.PROCESSING, PaymentState.FAILED]),
)


@dataclass(eq=False)
class Sleeper:
    event_filter: EventFilter
    noted: list[int] = field(default_factory=list)
    roused: int = 0
    error: PaymentsError | None = None

    def note(self, sequence: int) -> None:
        self.noted.append(sequence)

    def rouse(self) -> None:
        self.roused += 1

    def fail(self, error: PaymentsError) -> None:
        self.error = error


def numbered(drafts: list[PaymentEvent]) -> list[PaymentEvent]:
    return [event_of(like=draft, sequence=n) for n, draft in enumerate(drafts, start=1)]


@given(filters, events)
def test_what_is_kept_of_an_event_is_admitted_as_the_event_is(
    event_filter: EventFilter, event: PaymentEvent
) -> None:
    assert event_filter.admits(encoder.entry(event)) == event_filter.admits(event)


@given(st.lists(filters, max_size=8), st.lists(events, max_size=8))
def test_exactly_those_are_woken_who_want_an_event_and_learn_the_first_one(
    wanted: list[EventFilter], drafts: list[PaymentEvent]
) -> None:
    appended = numbered(drafts)
    wake_ups = WakeUps()
    sleepers = [Sleeper(event_filter) for event_filter in wanted]
    for sleeper in sleepers:
        wake_ups.add(sleeper)
    wake_ups.wake([encoder.entry(event) for event in appended])
    for sleeper in sleepers:
        due = [e.sequence for e in appended if sleeper.event_filter.admits(e)]
        assert sleeper.noted == due[:1]
        assert sleeper.roused == (1 if due else 0)
    assert wake_ups.count == sum(sleeper.roused for sleeper in sleepers)


@given(st.lists(filters, max_size=8))
def test_who_left_is_not_in_the_index_any_more(wanted: list[EventFilter]) -> None:
    wake_ups = WakeUps()
    sleepers = [Sleeper(event_filter) for event_filter in wanted]
    for sleeper in sleepers:
        wake_ups.add(sleeper)
    assert len(wake_ups) == len(wanted)
    for sleeper in sleepers * 2:
        wake_ups.remove(sleeper)
    assert len(wake_ups) == 0
    kept = (wake_ups._groups, wake_ups._of_payment, wake_ups._of_merchant, wake_ups._of_everything)
    assert not any(kept)


async def test_many_are_roused_in_several_turns_of_the_loop() -> None:
    wake_ups = WakeUps()
    sleepers = [Sleeper(EVERYTHING) for _ in range(150)]
    for sleeper in sleepers:
        wake_ups.add(sleeper)
    wake_ups.wake([encoder.entry(event_of(sequence=1))])
    assert all(sleeper.noted == [1] for sleeper in sleepers)
    roused = []
    while not roused or roused[-1] < 150:
        roused.append(sum(sleeper.roused for sleeper in sleepers))
        await asyncio.sleep(0)
    assert roused == [64, 128, 150]


def test_an_error_reaches_everybody_and_the_index_is_empty() -> None:
    wake_ups = WakeUps()
    sleepers = [Sleeper(EVERYTHING), Sleeper(EventFilter(merchant_accounts=frozenset({"m"})))]
    for sleeper in sleepers:
        wake_ups.add(sleeper)
    error = LogRewound()
    wake_ups.fail(error)
    assert [sleeper.error for sleeper in sleepers] == [error, error]
    assert len(wake_ups) == 0
    wake_ups.remove(sleepers[0])


async def test_events_of_others_wake_none_of_a_thousand_followers_of_one_payment(
    store: PaymentStore,
) -> None:
    news = News(store)
    async with running(store.log) as stream:
        start = AfterCursor(await stream.cursor_after(0))
        followers = [
            await Watcher.start(
                stream, start, EventFilter(payment_request_ids=frozenset({f"mine-{n}"}))
            )
            for n in range(1_000)
        ]
        await news.about(*(f"other-{n % 50}" for n in range(200)))
        await tail_is_at_head(stream)
        assert stream.woken == 0
        await news.about("mine-7", "other-1", "mine-8", "mine-7")
        await tail_is_at_head(stream)
        assert stream.woken == 2
        for number, sequences in ((7, [201, 204]), (8, [203])):
            await followers[number].until_sequence(sequences[-1])
            assert followers[number].sequences == sequences
