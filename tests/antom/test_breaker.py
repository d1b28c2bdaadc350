"""The breaker's laws, over any history of requests, silences and waits."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from antom_payments.antom.breaker import Attempt, Breaker, BreakerOptions, BreakerState

OPTIONS = BreakerOptions(
    failures=3, window_seconds=30, failure_ratio=0.5, open_seconds=5, longest_open_seconds=60
)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Changes:
    """Every change of state, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[BreakerState, BreakerState]] = []

    def __call__(self, old: BreakerState, new: BreakerState) -> None:
        self.told.append((old, new))


LEGAL = {
    (BreakerState.CLOSED, BreakerState.OPEN),
    (BreakerState.OPEN, BreakerState.HALF_OPEN),
    (BreakerState.HALF_OPEN, BreakerState.OPEN),
    (BreakerState.HALF_OPEN, BreakerState.CLOSED),
}


class AnyHistory(RuleBasedStateMachine):
    """Requests overlap, end in any order, well or silently or without proof; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.changes = Changes()
        self.shares: deque[float] = deque()
        self.breaker = Breaker(OPTIONS, self.changes, clock=self.time, jitter=self._jitter)
        self.under_way: list[tuple[Any, Attempt, int]] = []
        self.judged: list[tuple[float, bool]] = []
        self.failed_probes = 0

    def _jitter(self, lowest: float, highest: float) -> float:
        assert lowest == highest / 2
        return lowest + (highest - lowest) * (self.shares[0] if self.shares else 1.0)

    @property
    def probes(self) -> int:
        """Requests under way that began since it is half open."""
        if self.breaker.state is not BreakerState.HALF_OPEN:
            return 0
        return sum(since == len(self.changes.told) for _, _, since in self.under_way)

    @precondition(lambda self: self.breaker.seconds_shut() == 0)
    @rule()
    def ask(self) -> None:
        entered = self.breaker.attempt()
        attempt = entered.__enter__()
        self.under_way.append((entered, attempt, len(self.changes.told)))

    @precondition(lambda self: self.under_way)
    @rule(
        who=st.integers(0, 100),
        heard=st.sampled_from([True, False, False, False, None]),
        share=st.floats(0, 1),
    )
    def end(self, who: int, heard: bool | None, share: float) -> None:
        entered, attempt, since = self.under_way.pop(who % len(self.under_way))
        self.shares = deque([share])
        before, changes = self.breaker.state, len(self.changes.told)
        if heard is not None:
            (attempt.answered if heard else attempt.silent)()
        entered.__exit__(None, None, None)
        after = self.breaker.state
        if since != changes or heard is None:
            assert after is before, "an old request, or one that proves nothing, changed the state"
        elif before is BreakerState.HALF_OPEN:
            assert after is (BreakerState.CLOSED if heard else BreakerState.OPEN)
            self.failed_probes = 0 if heard else self.failed_probes + 1
            self.judged.clear()
        else:
            self._judge_closed(heard=heard, after=after)
        if after is BreakerState.OPEN and before is not after:
            longest = min(60.0, 5.0 * 2**self.failed_probes)
            shut = self.breaker.seconds_shut()
            assert longest / 2 - 1e-6 <= shut <= longest + 1e-6

    def _judge_closed(self, *, heard: bool, after: BreakerState) -> None:
        self.judged.append((self.time.now, heard))
        recent = [one for ended, one in self.judged if ended >= self.time.now - 30][-100:]
        silences = recent.count(False)
        too_much = not heard and silences >= 3 and silences >= len(recent) / 2
        assert (after is BreakerState.OPEN) is too_much
        if too_much:
            self.failed_probes = 0

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 10.0, 31.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.time.now += seconds

    @rule()
    def the_other_operation_is_mended(self) -> None:
        was = self.breaker.state
        self.breaker.end_wait()
        assert self.breaker.state is was
        if was is BreakerState.OPEN:
            assert self.breaker.seconds_shut() == 0

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        assert self.probes <= 1
        if self.breaker.state is BreakerState.HALF_OPEN:
            assert (self.breaker.seconds_shut() == 0) is (self.probes == 0)

    @invariant()
    def nobody_is_shut_out_for_longer_than_the_longest_time(self) -> None:
        assert 0 <= self.breaker.seconds_shut() <= 60.000001
        if self.breaker.state is BreakerState.CLOSED:
            assert self.breaker.seconds_shut() == 0

    @invariant()
    def only_legal_changes_happen_and_all_are_told(self) -> None:
        assert set(self.changes.told) <= LEGAL
        states = [BreakerState.CLOSED, *(new for _, new in self.changes.told)]
        assert [old for old, _ in self.changes.told] == states[:-1]
        assert self.breaker.state is states[-1]


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
test_the_laws_hold_over_any_history = AnyHistory.TestCase


def a_breaker(**options: Any) -> tuple[Breaker, Time, Changes]:
    time, changes = Time(), Changes()
    breaker = Breaker(
        BreakerOptions(**{"failures": 3} | options),
        changes,
        clock=time,
        jitter=lambda _, highest: highest,
    )
    return breaker, time, changes


def silent(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.attempt() as attempt:
            attempt.silent()


def answered(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.attempt() as attempt:
            attempt.answered()


def test_silence_opens_it_and_one_answer_closes_it() -> None:
    breaker, time, changes = a_breaker()
    silent(breaker, 2)
    assert breaker.seconds_shut() == 0
    silent(breaker)
    assert breaker.seconds_shut() == 5
    time.now += 4.5
    assert breaker.seconds_shut() == 0.5
    time.now += 0.5
    assert breaker.seconds_shut() == 0
    answered(breaker)
    assert [new.value for _, new in changes.told] == ["open", "half_open", "closed"]
    silent(breaker, 2)
    assert breaker.seconds_shut() == 0, "what was before the answer is forgotten"


def test_probes_without_an_answer_wait_twice_as_long_up_to_a_minute_and_start_again() -> None:
    breaker, time, _ = a_breaker()
    silent(breaker, 3)
    waits = []
    for _ in range(6):
        waits.append(breaker.seconds_shut())
        time.now += waits[-1]
        silent(breaker)
    assert waits == [5, 10, 20, 40, 60, 60]
    time.now += 60
    answered(breaker)
    silent(breaker, 3)
    assert breaker.seconds_shut() == 5


def test_failures_among_as_many_answers_do_not_open_it() -> None:
    breaker, _, changes = a_breaker()
    for _ in range(200):
        answered(breaker, 2)
        silent(breaker)
    assert changes.told == []


def test_failures_that_are_long_over_do_not_count() -> None:
    breaker, time, changes = a_breaker()
    for _ in range(20):
        silent(breaker, 2)
        time.now += 31
    assert changes.told == []


def test_more_failures_can_be_asked_for_than_are_usually_remembered() -> None:
    breaker, _, _ = a_breaker(failures=150)
    answered(breaker, 100)
    silent(breaker, 149)
    assert breaker.state is BreakerState.CLOSED
    silent(breaker)
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("leave", [lambda _: None, Attempt.silent])
def test_a_cancelled_probe_leaves_its_place_to_the_next(leave: Callable[[Attempt], None]) -> None:
    breaker, time, changes = a_breaker()
    silent(breaker, 3)
    time.now += 5
    with contextlib.suppress(KeyboardInterrupt), breaker.attempt():
        assert breaker.seconds_shut() > 0, "one at a time"
        raise KeyboardInterrupt
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.seconds_shut() == 0
    with breaker.attempt() as attempt:
        leave(attempt)
    assert len(changes.told) == (2 if attempt.was_heard is None else 3)
