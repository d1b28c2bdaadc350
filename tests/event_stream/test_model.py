"""Any history of appends, drops, resumes and prunings: every subscriber sees its log."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from antom_payments.cursor import CursorSeal
from antom_payments.errors import CursorExpired
from antom_payments.event_stream import BatchLimits, EventStream
from antom_payments.payment import EventType, PaymentState
from antom_payments.payment_event import EventFilter
from event_stream.memory_log import MemoryLog, event_of
from event_stream.watching import (
    AfterCursor,
    Earliest,
    Latest,
    Watcher,
    encode,
    tail_is_at_head,
)

merchants = st.sampled_from(["m-1", "m-2"])
payments = st.sampled_from(["p-1", "p-2", "p-3"])
types = st.sampled_from([EventType.PAYMENT_PENDING, EventType.PAYMENT_FAILED])
states = st.sampled_from([PaymentState.PROCESSING, PaymentState.FAILED])
filters = st.builds(
    EventFilter,
    merchant_accounts=st.none() | st.frozensets(merchants, max_size=2),
    payment_request_ids=st.none() | st.frozensets(payments, max_size=2),
    types=st.none() | st.frozensets(types, max_size=1),
    final_states_only=st.booleans(),
)


@dataclass(frozen=True)
class Append:
    merchant_account: str
    payment_request_id: str
    type: EventType
    state: PaymentState
    count: int


@dataclass(frozen=True)
class Subscribe:
    event_filter: EventFilter
    start: Any


@dataclass(frozen=True)
class Resume:
    """Drop, and come back with the last batch's cursor or the checkpoint's."""

    who: int
    at_checkpoint: bool


@dataclass(frozen=True)
class Pause:
    """Stop or go on asking for more."""

    who: int


@dataclass(frozen=True)
class Poll:
    """The tail reads."""


@dataclass(frozen=True)
class Prune:
    keep: int


@dataclass(frozen=True)
class Turns:
    """The event loop turns."""

    count: int


steps = st.one_of(
    st.builds(Append, merchants, payments, types, states, st.integers(1, 6)),
    st.builds(Append, merchants, payments, types, states, st.integers(1, 6)),
    st.builds(Subscribe, filters, st.sampled_from([Earliest(), Latest()])),
    st.builds(Resume, st.integers(0, 5), st.booleans()),
    st.builds(Pause, st.integers(0, 5)),
    st.just(Poll()),
    st.builds(Prune, st.integers(1, 10)),
    st.builds(Turns, st.integers(1, 20)),
)


class Follower:
    """A subscriber with a task of its own, and the log that it should have seen."""

    def __init__(self, model: Model, watcher: Watcher, event_filter: EventFilter) -> None:
        self.model = model
        self.watcher = watcher
        self.event_filter = event_filter
        self.start = model.place_of(watcher.cursor)
        self.lost: set[int] = set()
        self.is_asking = True
        self.task = asyncio.create_task(self.follow())

    async def follow(self) -> None:
        while True:
            try:
                await self.watcher.take()
            except CursorExpired as expired:
                await self.go_on_with_what_is_kept(expired)

    async def go_on_with_what_is_kept(self, expired: CursorExpired) -> None:
        """Expiry is told only to whom events are missing, and names where to go on."""
        here = self.model.place_of(self.watcher.subscription.checkpoint_cursor())
        kept = self.model.place_of(expired.oldest_cursor)
        assert here < kept
        self.lost.update(range(here + 1, kept + 1))
        await self.come_back(expired.oldest_cursor)

    async def come_back(self, cursor: str) -> None:
        self.watcher.close()
        stream = self.model.stream
        while True:
            try:
                subscription = await stream.subscribe(AfterCursor(cursor), self.event_filter)
                break
            except CursorExpired as expired:
                here, kept = self.model.place_of(cursor), self.model.place_of(expired.oldest_cursor)
                self.lost.update(range(here + 1, kept + 1))
                cursor = expired.oldest_cursor
        self.watcher.subscription = subscription
        self.watcher.cursor = cursor

    async def do(self, step: Resume | Pause) -> None:
        if isinstance(step, Pause):
            await self.pause()
        else:
            await self.resume(at_checkpoint=step.at_checkpoint)

    async def pause(self) -> None:
        """Cancel what it waits for, or wait again."""
        self.is_asking = not self.is_asking
        if self.is_asking:
            self.task = asyncio.create_task(self.follow())
            return
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def resume(self, *, at_checkpoint: bool) -> None:
        if self.is_asking:
            await self.pause()
        if at_checkpoint:
            self.watcher.cursor = self.watcher.subscription.checkpoint_cursor()
        with contextlib.suppress(CursorExpired):
            await self.come_back(self.watcher.cursor)
        await self.pause()

    def due(self, up_to: int) -> list[int]:
        """What it must have seen of the log up to ``up_to``."""
        return [
            sequence
            for sequence, event in self.model.history.items()
            if self.start < sequence <= up_to and self.event_filter.admits(event)
        ]

    def check(self) -> None:
        """Everything up to the checkpoint was delivered, in order, and nothing after it."""
        checkpoint = self.model.place_of(self.watcher.subscription.checkpoint_cursor())
        seen = self.watcher.sequences
        assert checkpoint <= self.model.stream._ring.head.sequence
        assert seen == sorted(set(seen))
        # What was pruned may have been delivered from memory.
        assert set(seen) <= set(self.due(checkpoint))
        assert set(self.due(checkpoint)) - self.lost <= set(seen)


class Model:
    """A log, a stream whose tail reads when told, and its followers."""

    def __init__(self, log: MemoryLog, stream: EventStream) -> None:
        self.log = log
        self.stream = stream
        self.history: dict[int, Any] = {}
        self.followers: list[Follower] = []
        self._seal = CursorSeal(log.cursor_key, log.log_id)

    def place_of(self, cursor: str) -> int:
        return self._seal.open(cursor).sequence

    async def do(self, step: Any) -> None:
        match step:
            case Append():
                self._append(step)
            case Subscribe(event_filter, start):
                watcher = await Watcher.start(self.stream, start, event_filter)
                self.followers.append(Follower(self, watcher, event_filter))
            case Resume() | Pause():
                for follower in self.followers[step.who : step.who + 1]:
                    await follower.do(step)
            case Poll():
                await tail_is_at_head(self.stream)
            case Prune(keep):
                # The tail of a real process is never that far behind.
                await tail_is_at_head(self.stream)
                self.log.prune(self.log.head - keep)
            case Turns(count):
                for _ in range(count):
                    await asyncio.sleep(0)
        for follower in self.followers:
            follower.check()

    async def finish(self) -> None:
        """Everybody asks until nothing is left."""
        await tail_is_at_head(self.stream)
        for follower in self.followers:
            if not follower.is_asking:
                await follower.pause()
        for _ in range(10_000):
            if not any(map(self._is_behind, self.followers)):
                break
            await asyncio.sleep(0)
        else:
            raise AssertionError("somebody is stuck")
        for follower in self.followers:
            follower.check()
            due = set(follower.due(self.log.head))
            assert due - follower.lost <= set(follower.watcher.sequences)
            await follower.pause()

    def _append(self, step: Append) -> None:
        for _ in range(step.count):
            draft = event_of(
                merchant_account=step.merchant_account,
                payment_request_id=step.payment_request_id,
                type=step.type,
                state=step.state,
            )
            event = self.log.append(draft)
            self.history[event.sequence] = event

    def _is_behind(self, follower: Follower) -> bool:
        if follower.task.done():
            follower.task.result()
        place = self.place_of(follower.watcher.subscription.checkpoint_cursor())
        return place < self.log.head


@settings(max_examples=300)
@given(st.lists(steps, max_size=30), st.integers(1, 6), st.integers(2, 5), st.integers(0, 3))
async def test_every_subscriber_sees_what_its_filter_admits_in_order_and_once(
    history: list[Any], ring_events: int, page_events: int, turns: int
) -> None:
    log = MemoryLog(turns)
    stream = EventStream(
        log,  # type: ignore[arg-type]
        encode=encode,
        ring_events=ring_events,
        page_events=page_events,
        page_reads=2,
        limits=BatchLimits(events=2),
    )
    model = Model(log, stream)
    for step in history:
        await model.do(step)
    await model.finish()
