"""What must hold of every run, whatever went wrong in it (design 7, R-03): the invariants I1 to I9.

Pure: plain data in, violations out. `make chaos` takes it from real processes, `make simulate` from
simulated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from invariants.causes import each_fact_is_one_event, nothing_is_invented
from invariants.ends import (
    all_ends_as_antom_says,
    an_id_is_one_payment_at_antom,
    nothing_acknowledged_is_lost,
    states_of,
)
from invariants.readers import (
    no_secret_is_shown,
    nobody_sees_what_is_not_asked_for,
    subscribers_have_the_log,
)
from invariants.records import (
    Acknowledged,
    AntomPayment,
    FactKey,
    History,
    LoggedEvent,
    PaymentKey,
    Received,
    Shown,
    StoredFact,
    StoredPayment,
    Violation,
)
from invariants.steps import payments_take_legal_steps, wrong_step

__all__ = [
    "Acknowledged",
    "AntomPayment",
    "FactKey",
    "History",
    "LoggedEvent",
    "PaymentKey",
    "Received",
    "Shown",
    "StoredFact",
    "StoredPayment",
    "Violation",
    "states_of",
    "violations",
    "wrong_step",
]


def violations(history: History) -> list[Violation]:
    """Whatever does not hold, each with the name of its invariant."""
    checks: Mapping[str, Callable[[History], Iterator[str]]] = {
        "I1": each_fact_is_one_event,
        "I2": nothing_is_invented,
        "I3": payments_take_legal_steps,
        "I4": subscribers_have_the_log,
        "I5": an_id_is_one_payment_at_antom,
        "I6": nothing_acknowledged_is_lost,
        "I7": all_ends_as_antom_says,
        "I8": nobody_sees_what_is_not_asked_for,
        "I9": no_secret_is_shown,
    }
    return [Violation(name, what) for name, check in checks.items() for what in check(history)]
