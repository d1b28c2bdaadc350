"""What instruments of the code say in one test: each is exchanged for one that the test reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from antom_payments.instruments import Observed

Labels = tuple[str, ...]


class Readings:
    """Reads instruments by the attribute of the module that has them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def of(self, kind: str, module: ModuleType, attribute: str) -> None:
        """Read ``module.attribute``; ``kind`` is counter, gauge or histogram."""
        made = getattr(self._provider.get_meter("test"), f"create_{kind}")(_name(attribute))
        self._patch.setattr(module, attribute, made)

    def counts(self, attribute: str) -> dict[Labels, float]:
        """By the values of the labels: what was counted, set, or how often it was recorded."""
        found: dict[Labels, float] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else []:
            for metric in resource.scope_metrics[0].metrics:
                for point in metric.data.data_points if metric.name == _name(attribute) else []:
                    labels = tuple(str(value) for value in (point.attributes or {}).values())
                    is_histogram = isinstance(point, HistogramDataPoint)
                    found[labels] = point.count if is_histogram else point.value  # type: ignore[union-attr]  # the check before says which
        return found

    def shutdown(self) -> None:
        self._provider.shutdown()


def _name(attribute: str) -> str:
    """Of an instrument: it must begin with a letter."""
    return f"test.{attribute}"


@contextmanager
def readings(patch: pytest.MonkeyPatch) -> Iterator[Readings]:
    read = Readings(patch)
    yield read
    read.shutdown()


def observed(instrument: Observed) -> dict[Labels, float]:
    """What an observed instrument says now, by the values of its labels."""
    return {
        tuple(str(value) for value in (one.attributes or {}).values()): one.value
        for one in instrument.observe(CallbackOptions())
    }
