"""Every metric of the product as docs/metrics.md shows it, and as Prometheus reads it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from opentelemetry.exporter.prometheus import _mapping

from antom_payments.instruments import CATALOGUE, Kind, Metric, Process

# The composition root imports whatever declares one.
importlib.import_module("antom_payments.app")


def prometheus_name(metric: Metric) -> str:
    """The family's name, as the exporter writes it in the text format."""
    name = _mapping.sanitize_full_name(metric.name)
    unit = _mapping.map_unit(metric.unit)
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if metric.kind is Kind.COUNTER else name


def prometheus_labels(metric: Metric) -> set[str]:
    """Its labels, likewise."""
    return {_mapping.sanitize_attribute(label) for label in metric.labels}


def metrics_of(process: Process) -> dict[str, Metric]:
    """What a process exposes, by the name that Prometheus reads."""
    return {
        prometheus_name(metric): metric
        for metric in CATALOGUE.values()
        if metric.process in {process, Process.BOTH}
    }


def rows_of_metrics() -> Iterator[tuple[str, ...]]:
    """Names, kind, unit, labels, meaning, process and alert of each metric, by name."""
    for name in sorted(CATALOGUE):
        metric = CATALOGUE[name]
        yield (
            f"`{name}`<br>`{prometheus_name(metric)}`",
            metric.kind.value,
            metric.unit,
            "<br>".join(f"`{label}`: {_values(metric, label)}" for label in metric.labels),
            metric.description,
            metric.process.value,
            metric.alert,
        )


def _values(metric: Metric, label: str) -> str:
    values = metric.labels[label]
    if isinstance(values, str):
        return values
    return ", ".join(f"`{value}`" for value in map(str, values))
