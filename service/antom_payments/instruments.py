"""The instruments of this service: what each measures, under which labels, and for which alert.

Declared once, where they are used, with every label and its values: `docs/metrics.md` is made from
this list, and a test compares it with what a running product exposes. A label never holds an id of
a payment, a notification or a caller: each value makes a series of its own, for ever.

Telling one never raises: see `fence`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock

from opentelemetry.metrics import (
    CallbackOptions,
    Counter,
    Histogram,
    Observation,
    UpDownCounter,
)

# A gauge that is set has no public name of its own in the API.
from opentelemetry.metrics import _Gauge as Gauge

from antom_payments import telemetry
from antom_payments.fence import fenced_method

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 30.0),
)
"""Buckets of what takes from a millisecond to half a minute."""
LONG_SECONDS = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0, 900.0, 1200.0, 3600.0, 86400.0, 172800.0)
"""Buckets of what may last for minutes or days."""
NUMBERS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Buckets of how many at once."""

Labels = Mapping[str, str]
Values = Iterable[str] | str
"""The values of a label; or in words what they are, where a setting or a caller's call decides."""
Reading = tuple[float, Labels]
_Totals = dict[frozenset[tuple[str, str]], float]


class Kind(StrEnum):
    """How a metric counts."""

    COUNTER = "counter"
    """Only grows, from 0 at each start."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Process(StrEnum):
    """Who exposes a metric."""

    SERVER = "server"
    SIDECAR = "sidecar"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is documented.

    `unit` is of UCUM: `s`, or a noun in braces, which Prometheus leaves away. `alert` names what
    it is watched for; empty when it only explains.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    labels: Mapping[str, Values]
    alert: str
    process: Process


CATALOGUE: dict[str, Metric] = {}
"""Every metric by its name; whole once everything is imported."""
_COUNTERS: dict[str, Counter] = {}


class Observed:
    """Numbers that live objects know anyway: read when somebody collects, free until then.

    Collecting happens in a thread of its own, so what is read must be plain numbers: nothing that
    waits, and nothing that iterates over what the event loop changes.
    """

    def __init__(self, *, adds_up: bool) -> None:
        """With ``adds_up``, sources are added up, and what one counted stays when it has ended."""
        self._sources: list[Callable[[], Iterable[Reading]]] = []
        self._adds_up = adds_up
        self._ended: _Totals = {}
        self._changing = Lock()

    @contextmanager
    def read_from(self, source: Callable[[], Iterable[Reading]]) -> Iterator[None]:
        """Ask ``source`` too, while the block runs."""
        self._sources.append(source)
        try:
            yield
        finally:
            with self._changing:
                self._sources.remove(source)
                if self._adds_up:
                    self._add(self._ended, source)

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """What every source says now."""
        with self._changing:
            sources, totals = tuple(self._sources), self._ended.copy()
            if self._adds_up:
                for source in sources:
                    self._add(totals, source)
                return [Observation(total, dict(labels)) for labels, total in totals.items()]
        return [
            Observation(value, dict(labels)) for source in sources for value, labels in source()
        ]

    @staticmethod
    def _add(totals: _Totals, source: Callable[[], Iterable[Reading]]) -> None:
        for value, labels in source():
            key = frozenset(labels.items())
            totals[key] = totals.get(key, 0.0) + value


def counter(
    name: str,
    unit: str,
    description: str,
    *,
    labels: Mapping[str, Values] | None = None,
    alert: str = "",
    process: Process = Process.SERVER,
) -> Counter:
    """A counter that is added to."""
    _declare(Metric(name, Kind.COUNTER, unit, description, labels or {}, alert, process))
    made = fenced_method(telemetry.meter.create_counter(name, unit, description), "add")
    _COUNTERS[name] = made
    return made


def up_down_counter(
    name: str,
    unit: str,
    description: str,
    *,
    labels: Mapping[str, Values] | None = None,
    alert: str = "",
    process: Process = Process.SERVER,
) -> UpDownCounter:
    """A number that is added to and taken from; Prometheus sees a gauge."""
    _declare(Metric(name, Kind.GAUGE, unit, description, labels or {}, alert, process))
    made = telemetry.meter.create_up_down_counter(name, unit, description)
    return fenced_method(made, "add")


def gauge(
    name: str,
    unit: str,
    description: str,
    *,
    labels: Mapping[str, Values] | None = None,
    alert: str = "",
    process: Process = Process.SERVER,
) -> Gauge:
    """A number that is set."""
    _declare(Metric(name, Kind.GAUGE, unit, description, labels or {}, alert, process))
    return fenced_method(telemetry.meter.create_gauge(name, unit, description), "set")


def histogram(
    name: str,
    unit: str,
    description: str,
    *,
    labels: Mapping[str, Values] | None = None,
    alert: str = "",
    process: Process = Process.SERVER,
    buckets: Sequence[float] = SECONDS,
) -> Histogram:
    """A distribution."""
    _declare(Metric(name, Kind.HISTOGRAM, unit, description, labels or {}, alert, process))
    made = telemetry.meter.create_histogram(
        name, unit, description, explicit_bucket_boundaries_advisory=buckets
    )
    return fenced_method(made, "record")


def observed_gauge(
    name: str,
    unit: str,
    description: str,
    *,
    labels: Mapping[str, Values] | None = None,
    alert: str = "",
    process: Process = Process.SERVER,
) -> Observed:
    """A gauge that is read."""
    _declare(Metric(name, Kind.GAUGE, unit, description, labels or {}, alert, process))
    observed = Observed(adds_up=False)
    telemetry.meter.create_observable_gauge(name, [observed.observe], unit, description)
    return observed


def observed_counter(
    name: str,
    unit: str,
    description: str,
    *,
    labels: Mapping[str, Values] | None = None,
    alert: str = "",
    process: Process = Process.SERVER,
) -> Observed:
    """A counter that is read: its source counts from its start."""
    _declare(Metric(name, Kind.COUNTER, unit, description, labels or {}, alert, process))
    observed = Observed(adds_up=True)
    telemetry.meter.create_observable_counter(name, [observed.observe], unit, description)
    return observed


def begin_at_zero(process: Process) -> None:
    """Let every counter of ``process`` be there from the start.

    One that appears with its first event has no increase that an alert could see. Counters with a
    label in words are begun by their owners, who know its values.
    """
    for name, made in _COUNTERS.items():
        metric = CATALOGUE[name]
        values = [told for told in metric.labels.values() if not isinstance(told, str)]
        if metric.process in {process, Process.BOTH} and len(values) == len(metric.labels):
            for chosen in itertools.product(*values):
                labels = zip(metric.labels, map(str, chosen), strict=True)
                made.add(0, dict(labels))


def _declare(metric: Metric) -> None:
    if metric.name in CATALOGUE:
        raise ValueError(f"{metric.name} is declared twice")
    CATALOGUE[metric.name] = metric
