"""The soak's judge finds each kind of fault."""

from __future__ import annotations

from soak.history import History

A, B, C = (1, "a"), (2, "b"), (3, "c")
ALL = frozenset("abc")


def test_a_whole_history_has_no_fault() -> None:
    assert History([A, B, C], [B, A, C], ALL).faults == {}


def test_an_event_that_never_came_is_lost() -> None:
    assert History([A, C], [A, B, C], ALL).faults == {"lost": 1}


def test_an_event_that_came_late_is_out_of_order() -> None:
    assert History([A, C, B], [A, B, C], ALL).faults == {"out_of_order": 1}


def test_an_event_that_came_again_is_twice() -> None:
    assert History([A, B, B, C], [A, B, C], ALL).faults == {"out_of_order": 1, "twice": 1}


def test_an_event_under_another_number_is_twice_and_invented() -> None:
    faults = History([A, B, C, (4, "b")], [A, B, C], ALL).faults
    assert faults == {"twice": 1, "invented": 1}


def test_an_acknowledged_event_that_is_not_in_the_log_is_forgotten() -> None:
    assert History([A], [A], ALL).faults == {"forgotten": 2}
