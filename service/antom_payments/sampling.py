"""Which spans are kept: a ratio of the traces, and with a payment's session all that follows it.

A payment is told in many traces, minutes and processes apart: the call that made its session,
Antom's notifications, inquiries, deliveries. They know of each other by links only, and a ratio of
each would leave torn stories. So a span with a link to a sampled one is sampled, too, whatever its
parent. Most spans have their links from the beginning; that of a notification is known only once
the payment was found, so until then it is `undecided`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import Attributes

from antom_payments.errors import ConfigurationError
from antom_payments.fence import fenced

DEFAULT_RATIO = 0.05
"""Of the traces that begin here; callers decide about theirs (ops O-18)."""

_NAME, _ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
_DEFAULT = "parentbased_traceidratio"
_SAMPLERS: Mapping[str, Callable[[float], Sampler]] = {
    "always_on": lambda _: ALWAYS_ON,
    "always_off": lambda _: ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased,
    "parentbased_always_on": lambda _: ParentBased(ALWAYS_ON),
    "parentbased_always_off": lambda _: ParentBased(ALWAYS_OFF),
    "parentbased_traceidratio": lambda ratio: ParentBased(TraceIdRatioBased(ratio)),
}
TRANSACTION = "transaction"
"""Name of a transaction's span. Callers share one: its links tell of others' payments too."""

_UNDECIDED = otel_context.create_key("antom_payments.undecided")


def undecided(context: Context) -> Context:
    """For a span that begins in ``context`` and gets its links later.

    It and its descendants in this process are recorded even where the ratio says no, and kept when
    one of them has a sampled link at its end.
    """
    return otel_context.set_value(_UNDECIDED, True, context)


def is_undecided(span: trace.Span) -> bool:
    """Whether the span is recorded, and it is not known yet whether it is kept."""
    return span.is_recording() and not span.get_span_context().trace_flags.sampled


def sampler_of(environment: Mapping[str, str]) -> Sampler:
    """The sampler that OTEL_TRACES_SAMPLER and its _ARG name, which also keeps sampled links.

    Unlike the SDK's, the default is `parentbased_traceidratio` of 0.05. `always_off` is off,
    whatever the links.

    Raises:
        ConfigurationError: no such sampler, or a ratio that is not between 0 and 1. The SDK would
            take either for "everything".
    """
    name = environment.get(_NAME, "").strip().lower() or _DEFAULT
    made = _SAMPLERS.get(name)
    if made is None:
        raise ConfigurationError(_NAME, f"must be one of {', '.join(_SAMPLERS)}, not {name!r}")
    sampler = made(_ratio(environment) if name.endswith("ratio") else 1.0)
    return sampler if sampler is ALWAYS_OFF else LinkSampler(sampler)


def _ratio(environment: Mapping[str, str]) -> float:
    told = environment.get(_ARGUMENT, "").strip()
    is_named = bool(environment.get(_NAME, "").strip())
    try:
        # Without an argument a sampler that was named takes all, as the specification says.
        ratio = float(told) if told else (1.0 if is_named else DEFAULT_RATIO)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigurationError(_ARGUMENT, f"must be a ratio from 0 to 1, not {told!r}")
    return ratio


class LinkSampler(Sampler):
    """Samples what another sampler does, and never less.

    Also a span with a link to a sampled one, whatever became of its parent: the trace may lack the
    spans above it then. And the children of what this process sampled, so that what was begun is
    told to its end.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about a span that begins."""
        parent = trace.get_current_span(parent_context)
        of_parent = parent.get_span_context()
        is_ours = of_parent.is_valid and not of_parent.is_remote
        if _is_any_sampled(links) or (is_ours and of_parent.trace_flags.sampled):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, of_parent.trace_state)
        result = self._inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        is_open = bool(otel_context.get_value(_UNDECIDED, parent_context))
        if result.decision is Decision.DROP and (is_open or (is_ours and parent.is_recording())):
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """Name it as the SDK's samplers do."""
        return f"LinkSampler{{{self._inner.get_description()}}}"


@dataclass(slots=True)
class _Waiting:
    """What ended of a trace that is undecided, while a span that began it here goes on."""

    roots: int = 0
    spans: list[ReadableSpan] = field(default_factory=list)
    is_kept: bool = False


class UndecidedTraces(SpanProcessor):
    """Passes sampled spans on at once, and those of undecided traces once they are known to stay.

    The others are forgotten when the trace's first span ends, or when ``most`` newer traces wait;
    what ends after that is kept by a link of its own only. Its failures, and those of what it
    passes spans to, end no span: see `fence`.
    """

    def __init__(self, exporting: SpanProcessor, *, most: int = 512) -> None:
        self._exporting = exporting
        self._most = most
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass it on: nothing is decided here."""
        fenced(self._begin)(span)
        fenced(self._exporting.on_start)(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on what is kept, and what waited for that."""
        fenced(self._end)(span)

    def _begin(self, span: ReadableSpan) -> None:
        """Let a trace wait that is undecided from here on."""
        if _is_sampled(span) or not _is_root(span):
            return
        with self._lock:
            self._waiting.setdefault(_trace_id(span), _Waiting()).roots += 1
            if len(self._waiting) > self._most:
                self._waiting.popitem(last=False)

    def _end(self, span: ReadableSpan) -> None:
        if _is_sampled(span):
            self._exporting.on_end(span)
            return
        with self._lock:
            kept = self._kept_with(span)
        for one in kept:
            self._exporting.on_end(_sampled(one))

    def _kept_with(self, span: ReadableSpan) -> list[ReadableSpan]:
        """What ``span`` shows to be kept, itself among it."""
        trace_id = _trace_id(span)
        is_linked = span.name != TRANSACTION and _is_any_sampled(span.links)
        waiting = self._waiting.get(trace_id)
        if waiting is None:
            return [span] if is_linked else []
        waiting.spans.append(span)
        waiting.is_kept = waiting.is_kept or is_linked
        if _is_root(span):
            waiting.roots -= 1
            if not waiting.roots:
                del self._waiting[trace_id]
        if not waiting.is_kept:
            return []
        kept, waiting.spans = waiting.spans, []
        return kept

    def shutdown(self) -> None:
        """Export what is left."""
        self._exporting.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what was passed on."""
        return self._exporting.force_flush(timeout_millis)


def _trace_id(span: ReadableSpan) -> int:
    return span.context.trace_id if span.context is not None else 0


def _is_sampled(span: ReadableSpan) -> bool:
    return span.context is not None and span.context.trace_flags.sampled


def _is_root(span: ReadableSpan) -> bool:
    """Whether it is the first of its trace in this process."""
    return span.parent is None or span.parent.is_remote


def _is_any_sampled(links: Sequence[Link] | None) -> bool:
    return any(link.context.trace_flags.sampled for link in links or ())


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """The same span, as if it had been sampled from the beginning: exporters look at the flag."""
    context = span.context
    if context is None:
        return span
    return ReadableSpan(
        name=span.name,
        context=SpanContext(
            context.trace_id,
            context.span_id,
            context.is_remote,
            TraceFlags(context.trace_flags | TraceFlags.SAMPLED),
            context.trace_state,
        ),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
