"""Any history of appends, prunings and restores: no cursor of a lost future is ever accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from antom_payments.cursor import CursorSeal
from antom_payments.errors import CursorExpired, LogRewound
from antom_payments.event_stream import AfterCursor, EventStream
from event_stream.memory_log import MemoryLog, event_of
from event_stream.watching import EVERYTHING, Watcher, encode


@dataclass(frozen=True)
class Append:
    count: int


@dataclass(frozen=True)
class Prune:
    keep: int


@dataclass(frozen=True)
class TakeCursors:
    """One after every event kept, the one before the oldest, and a payment's."""


@dataclass(frozen=True)
class Dump:
    """Make a copy to restore from."""


@dataclass(frozen=True)
class Restore:
    """Go back to the copy, under the running server or before it starts."""

    is_running: bool


steps = st.one_of(
    st.builds(Append, st.integers(1, 5)),
    st.builds(Append, st.integers(1, 5)),
    st.builds(Prune, st.integers(1, 6)),
    st.just(TakeCursors()),
    st.just(Dump()),
    st.builds(Restore, st.booleans()),
)


@dataclass(frozen=True)
class Claim:
    """What a cursor stands for: the events up to its witness, in the log that it was taken from."""

    history: tuple[str, ...]
    place: int


class Model:
    """A log that is restored now and then, what it once held, and every cursor ever taken."""

    def __init__(self, ring_events: int) -> None:
        self.log = MemoryLog(turns=0)
        self.ring_events = ring_events
        self.seal = CursorSeal(self.log.cursor_key, self.log.log_id)
        self.history: list[str] = []
        self.dump: tuple[dict[int, Any], int, list[str]] = ({}, 0, [])
        self.claims: dict[str, set[Claim]] = {}
        self.stream = self._started()

    def _started(self) -> EventStream:
        return EventStream(
            self.log,  # type: ignore[arg-type]
            encode=encode,
            ring_events=self.ring_events,
            page_events=3,
            start_events=2,
        )

    async def do(self, step: Any) -> None:
        match step:
            case Append(count):
                for _ in range(count):
                    self.history.append(self.log.append(event_of()).event_id)
            case Prune(keep):
                self.log.prune(self.log.head - keep + 1)
            case TakeCursors():
                await self._take_cursors()
            case Dump():
                self.dump = (dict(self.log.events), self.log.head, list(self.history))
            case Restore(is_running):
                events, head, history = self.dump
                self.log.events, self.log.head = dict(events), head
                self.history = list(history)
                if not is_running:
                    self.stream = self._started()
        # The tail polls: what it finds out is not what is tested here.
        while await self.stream._tail._read():
            pass

    async def _take_cursors(self) -> None:
        for sequence, event in self.log.events.items():
            self._note(self.stream.cursor_at(sequence, event.event_id))
        for sequence in range(self.log.head + 1):
            self._note(await self.stream.cursor_after(sequence))

    def _note(self, cursor: str) -> None:
        position = self.seal.open(cursor)
        claim = Claim(tuple(self.history[: position.witness]), position.sequence)
        assert len(claim.history) == position.witness
        self.claims.setdefault(cursor, set()).add(claim)

    async def check(self) -> None:
        """Every cursor ever taken: right, or refused for the right reason."""
        for stream in (self.stream, self._started()):
            for cursor, claims in self.claims.items():
                await self._check(stream, cursor, claims)

    async def _check(self, stream: EventStream, cursor: str, claims: set[Claim]) -> None:
        # The same text stands for the same events, whenever it was taken.
        [claim] = claims
        is_past = claim.history == tuple(self.history[: len(claim.history)])
        is_kept = len(claim.history) in self.log.events
        if not claim.history:
            is_kept = min(self.log.events, default=1) == 1
        try:
            watcher = await Watcher.start(stream, AfterCursor(cursor))
        except LogRewound:
            assert not is_past
            return
        except CursorExpired as expired:
            assert not is_kept
            again = await Watcher.start(stream, AfterCursor(expired.oldest_cursor))
            await self._sees(again, min(self.log.events) - 1)
            return
        assert is_past
        await self._sees(watcher, claim.place)

    async def _sees(self, watcher: Watcher, place: int) -> None:
        """Exactly the log after the place, whatever was pruned but still is in memory."""
        await watcher.until_caught_up()
        seen = [(event.sequence, event.event_id) for event in watcher.seen]
        assert seen == list(enumerate(self.history, start=1))[place:]
        watcher.close()


@settings(max_examples=200)
@given(st.lists(steps, min_size=4, max_size=14), st.integers(1, 6))
async def test_a_cursor_is_right_or_refused_whatever_was_restored_and_pruned(
    history: list[Any], ring_events: int
) -> None:
    model = Model(ring_events)
    for step in history:
        await model.do(step)
        await model.check()


async def test_a_cursor_before_the_oldest_event_of_a_lost_future_is_refused() -> None:
    """Pruned, restored to before that, and grown past it again."""
    model = Model(ring_events=3)
    for step in (Append(5), Dump(), Append(7), Prune(4)):
        await model.do(step)
    edge = await model.stream.cursor_after(0)
    assert model.seal.open(edge).sequence == 8
    for step in (Restore(is_running=False), Append(9)):
        await model.do(step)
    for prune in (14, 6):
        await model.do(Prune(prune))
        for stream in (model.stream, model._started()):
            try:
                await stream.subscribe(AfterCursor(edge), EVERYTHING)
            except LogRewound:
                continue
            raise AssertionError("accepted")


async def test_a_cursor_after_an_event_of_a_lost_future_is_refused_though_that_was_pruned() -> None:
    """Its place is right before the oldest event: nobody can tell what once stood there."""
    model = Model(ring_events=3)
    for step in (Append(5), Dump(), Append(3)):
        await model.do(step)
    lost = await model.stream.cursor_after(8)
    for step in (Restore(is_running=False), Append(9), Prune(6)):
        await model.do(step)
    assert min(model.log.events) == 9
    for stream in (model.stream, model._started()):
        try:
            await stream.subscribe(AfterCursor(lost), EVERYTHING)
        except (CursorExpired, LogRewound):
            continue
        raise AssertionError("accepted")


async def test_what_a_restore_brought_back_can_be_resumed_before() -> None:
    """The place before the oldest event, in an older log in which that is not the oldest."""
    model = Model(ring_events=3)
    for step in (Append(10), Dump(), Prune(4)):
        await model.do(step)
    edge = await model.stream.cursor_after(0)
    await model.do(Restore(is_running=False))
    watcher = await Watcher.start(model.stream, AfterCursor(edge))
    assert (await watcher.until_sequence(10)).sequences == [7, 8, 9, 10]
