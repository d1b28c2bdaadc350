"""What metrics tell of calls to Antom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from antom_payments import instruments
from antom_payments.antom.breaker import BreakerState
from antom_payments.antom.endpoints import Operation
from antom_payments.errors import (
    AntomError,
    AntomUnavailable,
    AntomUntrusted,
    OutcomeUnknown,
)

_OPERATION = {"antom.operation": list(Operation)}
_CLIENT = {"antom.client_id": "the configured client id"}
_RESULTS: Mapping[type[AntomError], str] = {
    OutcomeUnknown: "unknown",
    AntomUnavailable: "unavailable",
    AntomUntrusted: "untrusted",
}

_duration = instruments.histogram(
    "antom_payments.antom.call.duration",
    "s",
    "Requests to Antom, each attempt by itself: `answered` is signed, whatever it says.",
    labels={**_OPERATION, "result": ("answered", *_RESULTS.values(), "abandoned")},
    alert="AntomSlow, AntomUntrusted",
)
_unknown = instruments.counter(
    "antom_payments.antom.unknown_outcomes",
    "{call}",
    "Calls, with all their attempts, after which nobody knows what Antom did.",
    labels=_OPERATION,
    alert="UnknownOutcome",
)
breakers = instruments.up_down_counter(
    "antom_payments.antom.breakers",
    "{breaker}",
    "Breakers towards Antom, by state.",
    labels={**_OPERATION, **_CLIENT, "state": list(BreakerState)},
    alert="AntomUnavailable",
)
"""How many breakers are in which state."""
breaker_changes = instruments.counter(
    "antom_payments.antom.breaker.changes",
    "{change}",
    "Changes of a breaker's state, by the state that it took.",
    labels={**_OPERATION, **_CLIENT, "state": list(BreakerState)},
    alert="AntomUnavailable",
)
"""How often breakers changed."""


@contextmanager
def timed(operation: Operation) -> Iterator[None]:
    """Measure one request by what became of it."""
    began, result = time.perf_counter(), "abandoned"
    try:
        yield
        result = "answered"
    except AntomError as error:
        result = _RESULTS.get(type(error), "answered")
        raise
    finally:
        labels = {"antom.operation": operation.value, "result": result}
        _duration.record(time.perf_counter() - began, labels)


def count_unknown(operation: Operation) -> None:
    """A call ended in doubt."""
    _unknown.add(1, {"antom.operation": operation.value})
