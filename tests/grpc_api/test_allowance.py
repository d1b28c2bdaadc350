"""The rate that a subscriber asks for, by a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom_payments.grpc_api.allowance import Allowance


def test_a_seconds_worth_may_come_at_once_and_then_the_rate() -> None:
    allowance = Allowance(10, now=100.0)
    assert (allowance.left(100.0), allowance.wait_seconds(100.0)) == (10, 0)
    allowance.spend(10, 100.0)
    assert allowance.left(100.0) == 0
    assert allowance.wait_seconds(100.0) == pytest.approx(0.1)
    assert allowance.left(100.11) == 1
    assert allowance.wait_seconds(100.11) == 0


def test_a_long_pause_saves_no_more_than_a_second() -> None:
    allowance = Allowance(7, now=0.0)
    allowance.spend(7, 0.0)
    assert allowance.left(3600.0) == 7


def test_one_a_second_is_one_a_second() -> None:
    allowance = Allowance(1, now=0.0)
    allowance.spend(1, 0.0)
    assert allowance.wait_seconds(0.25) == pytest.approx(0.75)
    assert allowance.left(1.0) == 1


def test_at_high_rates_events_come_in_portions() -> None:
    allowance = Allowance(1_000, now=0.0)
    allowance.spend(1_000, 0.0)
    assert allowance.wait_seconds(0.0) == pytest.approx(0.1)


@given(st.integers(1, 500), st.lists(st.floats(0, 2), max_size=60))
def test_no_second_has_more_than_twice_the_rate_and_all_together_no_more_than_the_rate(
    rate: int, pauses: list[float]
) -> None:
    allowance = Allowance(rate, now=0.0)
    now, sent = 0.0, 0
    for pause in pauses:
        now += pause
        if not allowance.wait_seconds(now):
            count = allowance.left(now)
            assert 1 <= count <= rate
            allowance.spend(count, now)
            sent += count
            assert sent <= rate + now * rate + 1e-6
