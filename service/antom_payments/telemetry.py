"""Logs and traces: JSON lines with trace ids, OpenTelemetry by its standard OTEL_* variables.

Nothing secret may leave here. The first net is at the call: fields are named one by one and never
hold bodies. The second net is `redact`, which every log line passes, ours and other libraries'.
Texts of foreign exceptions are not logged at all, because they quote what they choke on (SQL
parameters, JSON bodies); their types and frames are.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import metadata
from typing import Any, cast

import structlog
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from antom_payments import fence, redaction, sampling
from antom_payments.errors import ConfigurationError

SCHEMA_URL = "https://opentelemetry.io/schemas/1.45.0"
"""The semantic conventions that span and metric attributes follow."""

MOST_LINKS = 128
"""Of a span: what the SDK keeps, unless OTEL_SPAN_LINK_COUNT_LIMIT says otherwise."""

_NAME = "antom_payments"
_FLUSH_SECONDS = 5.0
_LONGEST_TRACEPARENT = 128
_W3C = TraceContextTextMapPropagator()

tracer = trace.get_tracer(_NAME, schema_url=SCHEMA_URL)
"""Makes every span of this service; a no-op until `configure`."""

meter = metrics.get_meter(_NAME, schema_url=SCHEMA_URL)
"""Makes every instrument of this service; a no-op unless an exporter is configured."""


def configure(
    *,
    service_name: str,
    log_level: str = "INFO",
    log_format: str = "json",
    metric_readers: Sequence[MetricReader] = (),
) -> Callable[[], None]:
    """Set up logs and telemetry of this process; return what flushes and ends them.

    Nothing is exported unless OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER or an
    OTEL_EXPORTER_OTLP_* endpoint says so. OTEL_SDK_DISABLED=true makes no spans at all. Without an
    exporter spans have ids, for logs and stored trace contexts, but record nothing. A tracer
    provider that is already there (opentelemetry-instrument, a test) is kept, with its sampler;
    ours is `sampling.sampler_of`.

    Args:
        service_name: used unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES name another.
        log_level: level of our own loggers. Other libraries speak from WARNING on, because some
            of them print SQL parameters and URLs below it.
        log_format: "json" (one object a line) or "console".
        metric_readers: read the metrics beside whatever the variables name.

    Returns:
        A function that exports what is left and returns within about 5 seconds, whether or not
        the collector answers.

    Raises:
        ConfigurationError: a level, format, exporter, protocol or sampler is not known.
    """
    configure_logs(log_level, log_format)
    if not is_enabled():
        return lambda: None
    resource = _resource(service_name)
    closers = [*_configure_traces(resource), *_configure_metrics(resource, metric_readers)]

    def shutdown() -> None:
        # In a thread, because a collector that does not answer holds the SDK for 30 seconds.
        ending = threading.Thread(target=lambda: [close() for close in closers], daemon=True)
        ending.start()
        ending.join(_FLUSH_SECONDS)

    return shutdown


def is_enabled() -> bool:
    """Whether OTEL_SDK_DISABLED leaves OpenTelemetry on."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def quiet_span(
    name: str,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    *,
    context: otel_context.Context | None = None,
    attributes: Mapping[str, str | int] | None = None,
    links: Sequence[trace.Link] = (),
) -> AbstractContextManager[trace.Span]:
    """A current span that records no texts of exceptions: they may quote what they choke on.

    Its parent is the current span, unless ``context`` names another or none. Telemetry that fails
    leaves the block alone.
    """
    return fence.span(tracer, name, kind, context=context, attributes=attributes, links=links)


def current_traceparent() -> str:
    """W3C text of the current span, sampled or not; empty when there is none."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def remote_parent(traceparent: str) -> otel_context.Context:
    """A context with that span as parent, or an empty one for "" or garbage.

    Baggage and tracestate are never taken over: they may hold anything.
    """
    if not 0 < len(traceparent) <= _LONGEST_TRACEPARENT:
        return otel_context.Context()
    return _W3C.extract({"traceparent": traceparent}, context=otel_context.Context())


def link_to(traceparent: str) -> list[trace.Link]:
    """A link to that span; no link for "" or garbage."""
    span = trace.get_current_span(remote_parent(traceparent)).get_span_context()
    return [trace.Link(span)] if span.is_valid else []


def sampled_link_to(traceparent: str) -> trace.Link | None:
    """A link to that span if it is sampled, hence to be found where spans are kept."""
    for link in link_to(traceparent):
        if link.context.trace_flags.sampled:
            return link
    return None


def links_elsewhere(*traceparents: str) -> list[trace.Link]:
    """Links to those spans, each once, that are not of the current trace."""
    own = trace.get_current_span().get_span_context().trace_id
    links = [link for told in sorted(set(traceparents)) for link in link_to(told)]
    return [link for link in links if link.context.trace_id != own][:MOST_LINKS]


def link_elsewhere(*traceparents: str) -> None:
    """Give the current span the `links_elsewhere` that were not known when it began."""
    span = trace.get_current_span()
    if span.is_recording():
        for link in links_elsewhere(*traceparents):
            span.add_link(link.context)


def kept_with(traceparent: str, session: str) -> str:
    """The text of a span whose trace is undecided, once it is linked to the span ``session``.

    Says "sampled" when that one is: whatever links to it later is kept by that.
    """
    if not traceparent or sampled_link_to(session) is None:
        return traceparent
    return f"{traceparent[:-2]}{int(traceparent[-2:], 16) | trace.TraceFlags.SAMPLED:02x}"


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines pass the redaction, also before `configure` and in tests."""
    bound = structlog.wrap_logger(
        logging.getLogger(name),
        processors=_PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", bound)


_Event = MutableMapping[str, Any]


def _redaction(_logger: object, _method: str, event: _Event) -> _Event:
    """The second net; the record that `logging` keeps is left alone, it is not printed."""
    kept = {key: event.pop(key) for key in ("_record", "_from_structlog") if key in event}
    return {**cast("dict[str, Any]", redaction.clean(event)), **kept}


def _exception_fields(_logger: object, _method: str, event: _Event) -> _Event:
    """Turn `exc_info` into the exception's types and frames, without its text."""
    told = event.pop("exc_info", None)
    error = told if isinstance(told, BaseException) else None
    if isinstance(told, tuple):
        error = told[1]
    elif told and error is None:
        error = sys.exc_info()[1]
    if error is not None:
        event["exception"] = redaction.summary(error)
        event["frames"] = [
            frame for cause in redaction.causes(error) for frame in redaction.frames(cause)
        ][-40:]
    return event


def _trace_ids(_logger: object, _method: str, event: _Event) -> _Event:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        # After the redaction: sixteen digits of a span id could pass for a card number.
        event["trace_id"] = f"{span.trace_id:032x}"
        event["span_id"] = f"{span.span_id:016x}"
    return event


_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _exception_fields,
    _redaction,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    _trace_ids,
)
_PROCESSORS: tuple[structlog.typing.Processor, ...] = (
    structlog.stdlib.filter_by_level,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
)


def configure_logs(level: str, log_format: str) -> None:
    """Set up logs alone, on stderr: `configure` for a command that ends at once.

    Raises ConfigurationError: the level or the format is not known.
    """
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    if level.upper() not in levels:
        raise ConfigurationError("log_level", f"must be one of {', '.join(levels)}")
    renderers: dict[str, structlog.typing.Processor] = {
        "json": structlog.processors.JSONRenderer(),
        "console": structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
    }
    if log_format not in renderers:
        raise ConfigurationError("log_format", f"must be one of {', '.join(renderers)}")
    # stderr, so that what a command prints on stdout stays clean.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderers[log_format],
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.getLogger(_NAME).setLevel(level.upper())


def _resource(service_name: str) -> Resource:
    told = Resource.create({SERVICE_VERSION: metadata.version("antom-payments")})
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return told if named else told.merge(Resource({SERVICE_NAME: service_name}))


def _configure_traces(resource: Resource) -> Iterator[Callable[[], None]]:
    """Set the tracer provider, unless one is there; yield what ends it."""
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = tracer_provider(resource)
    trace.set_tracer_provider(provider)
    yield provider.shutdown


def tracer_provider(resource: Resource) -> TracerProvider:
    """What makes spans and exports them, as OTEL_* say; see `configure`."""
    exporters = [_span_exporter(name) for name in _exporter_names("TRACES")]
    # Recording what nobody gets costs about 20 µs a span; ids cost 2.
    unseen = not exporters and not os.environ.get("OTEL_TRACES_SAMPLER")
    provider = TracerProvider(
        resource=resource,
        sampler=ALWAYS_OFF if unseen else sampling.sampler_of(os.environ),
        shutdown_on_exit=False,
    )
    for exporter in exporters:
        provider.add_span_processor(sampling.UndecidedTraces(BatchSpanProcessor(exporter)))
    return provider


def _configure_metrics(
    resource: Resource, readers: Sequence[MetricReader]
) -> Iterator[Callable[[], None]]:
    """Set the meter provider when somebody reads; yield what ends it.

    One that is there keeps its own exporters, and gets our readers.
    """
    exporters = [_metric_exporter(name) for name in _exporter_names("METRICS")]
    present = metrics.get_meter_provider()
    if isinstance(present, MeterProvider):
        for reader in readers:
            present.add_metric_reader(reader)
            yield partial(present.remove_metric_reader, reader)
        return
    if not exporters and not readers:
        return
    pushing = [PeriodicExportingMetricReader(exporter) for exporter in exporters]
    provider = MeterProvider(
        metric_readers=[*pushing, *readers],
        resource=resource,
        shutdown_on_exit=False,
    )
    metrics.set_meter_provider(provider)
    yield provider.shutdown


def _exporter_names(signal: str) -> list[str]:
    """What OTEL_*_EXPORTER names; "otlp" when only an endpoint is given; else nothing."""
    told = os.environ.get(f"OTEL_{signal}_EXPORTER", "")
    names = [name.strip() for name in told.split(",") if name.strip()]
    if not names:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        names = ["otlp"] if any(os.environ.get(name) for name in endpoints) else []
    if unknown := set(names) - {"otlp", "console", "none"}:
        hint = "; Prometheus reads the admin address" if "prometheus" in unknown else ""
        raise ConfigurationError(
            f"OTEL_{signal}_EXPORTER",
            f"must be otlp, console or none, not {unknown.pop()!r}{hint}",
        )
    return [name for name in names if name != "none"]


def _speaks_grpc(signal: str) -> bool:
    """Whether OTLP goes over gRPC; http/protobuf is the specification's default."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := os.environ.get(name, "").strip():
            if protocol not in {"grpc", "http/protobuf"}:
                raise ConfigurationError(name, f"must be grpc or http/protobuf, not {protocol!r}")
            return protocol == "grpc"
    return False


def _span_exporter(name: str) -> SpanExporter:
    """The exporter of that name; OTLP's libraries are slow to import, so only when wanted."""
    if name == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    if _speaks_grpc("TRACES"):
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415

    return http.OTLPSpanExporter()


def _metric_exporter(name: str) -> MetricExporter:
    if name == "console":
        return ConsoleMetricExporter(out=sys.stderr)
    if _speaks_grpc("METRICS"):
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPMetricExporter()
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http  # noqa: PLC0415

    return http.OTLPMetricExporter()
