"""Which spans are kept: laws of the sampler, undecided traces, and the standard variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, TraceState

from antom_payments import sampling
from antom_payments.errors import ConfigurationError
from antom_payments.sampling import LinkSampler, UndecidedTraces, sampler_of, undecided

SAMPLED, UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
WEIGHT = {Decision.DROP: 0, Decision.RECORD_ONLY: 1, Decision.RECORD_AND_SAMPLE: 2}
RATIOS = st.floats(0, 1).map(TraceIdRatioBased)
INNERS = st.one_of(st.sampled_from([ALWAYS_ON, ALWAYS_OFF]), RATIOS)


def span_context(
    flags: TraceFlags, *, trace_id: int = 7, span_id: int = 9, is_remote: bool = False
) -> SpanContext:
    state = TraceState([("vendor", "private")])
    return SpanContext(trace_id, span_id, is_remote=is_remote, trace_flags=flags, trace_state=state)


def parent(flags: TraceFlags, *, is_remote: bool) -> Context:
    span = NonRecordingSpan(span_context(flags, is_remote=is_remote))
    return trace.set_span_in_context(span, Context())


def open_parent() -> Context:
    """A parent in this process that is recorded, and may be kept or not."""
    tracer = TracerProvider(LinkSampler(ALWAYS_OFF)).get_tracer("test")
    return trace.set_span_in_context(tracer.start_span("root", undecided(Context())), Context())


ROOT = Context()
OURS, OURS_NOT = parent(SAMPLED, is_remote=False), parent(UNSAMPLED, is_remote=False)
THEIRS, THEIRS_NOT = parent(SAMPLED, is_remote=True), parent(UNSAMPLED, is_remote=True)
OPEN = open_parent()
PARENTS = st.sampled_from([ROOT, OURS, OURS_NOT, THEIRS, THEIRS_NOT, OPEN])
TRACE_IDS = st.integers(1, (1 << 128) - 1)


@st.composite
def links(draw: st.DrawFn) -> list[Link]:
    flags = draw(st.lists(st.sampled_from([SAMPLED, UNSAMPLED, TraceFlags(2), TraceFlags(3)])))
    return [Link(span_context(each, trace_id=n + 1)) for n, each in enumerate(flags)]


@given(
    inner=st.one_of(INNERS, INNERS.map(ParentBased)),
    context=PARENTS,
    trace_id=TRACE_IDS,
    to=links(),
    is_open=st.booleans(),
)
def test_the_laws_of_the_sampler(
    inner: Sampler, context: Context, trace_id: int, to: list[Link], is_open: bool
) -> None:
    begun = undecided(context) if is_open else context
    attributes = {"told": "at the start"}
    alone = inner.should_sample(begun, trace_id, "span", None, attributes, to)
    told = LinkSampler(inner).should_sample(begun, trace_id, "span", None, attributes, to)
    # It takes nothing away from the other sampler.
    assert WEIGHT[told.decision] >= WEIGHT[alone.decision]
    # What is linked to a sampled span is sampled, and so are children of what we sampled.
    if any(link.context.trace_flags.sampled for link in to) or context is OURS:
        assert told.decision is Decision.RECORD_AND_SAMPLE
    # What is undecided is recorded at least, and nothing else is recorded for nothing.
    elif is_open or context is OPEN:
        assert told.decision is not Decision.DROP
    else:
        assert told.decision is alone.decision
    # The state of a trace comes from the parent, never from a link.
    of_parent = trace.get_current_span(context).get_span_context().trace_state
    assert told.trace_state in (of_parent, None)
    assert dict(told.attributes) == (attributes if told.decision is not Decision.DROP else {})


@given(context=PARENTS, trace_id=TRACE_IDS, to=links(), is_open=st.booleans())
def test_always_off_is_off(context: Context, trace_id: int, to: list[Link], is_open: bool) -> None:
    off = sampler_of({"OTEL_TRACES_SAMPLER": "always_off"})
    begun = undecided(context) if is_open else context
    assert off.should_sample(begun, trace_id, "span", links=to).decision is Decision.DROP


@pytest.mark.parametrize(
    ("variables", "description"),
    [
        ({}, "TraceIdRatioBased{0.05}"),
        ({"OTEL_TRACES_SAMPLER": " "}, "TraceIdRatioBased{0.05}"),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}, "TraceIdRatioBased{0.5}"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, "TraceIdRatioBased{1.0}"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, "AlwaysOnSampler"),
        ({"OTEL_TRACES_SAMPLER": "ParentBased_Always_Off"}, "AlwaysOffSampler"),
    ],
)
def test_callers_are_honoured_and_the_default_is_a_low_ratio(
    variables: dict[str, str], description: str
) -> None:
    told = sampler_of(variables).get_description()
    assert told.startswith(f"LinkSampler{{ParentBased{{root:{description}")
    for context, decision in ((THEIRS, Decision.RECORD_AND_SAMPLE), (THEIRS_NOT, Decision.DROP)):
        assert sampler_of(variables).should_sample(context, 1, "span").decision is decision


@pytest.mark.parametrize("name", ["always_on", "traceidratio"])
def test_samplers_without_parents_are_named_likewise(name: str) -> None:
    sampler = sampler_of({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "1"})
    assert sampler.should_sample(THEIRS_NOT, 1, "span").decision is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratoi"}, "OTEL_TRACES_SAMPLER"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER"),
        ({"OTEL_TRACES_SAMPLER_ARG": "5%"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_TRACES_SAMPLER_ARG": "5"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG"),
    ],
)
def test_a_wrong_sampler_is_named_and_not_taken_for_everything(
    variables: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        sampler_of(variables)


Names = Callable[[], list[str]]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    """Spans that nobody would sample but for their links."""
    provider = TracerProvider(LinkSampler(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(UndecidedTraces(SimpleSpanProcessor(exporter), most=2))
    yield provider.get_tracer("test")
    provider.shutdown()


@pytest.fixture
def kept(exporter: InMemorySpanExporter) -> Names:
    return lambda: [span.name for span in exporter.get_finished_spans()]


def test_an_undecided_trace_is_kept_whole_once_a_span_of_it_is_linked(
    tracer: trace.Tracer, exporter: InMemorySpanExporter, kept: Names
) -> None:
    with tracer.start_as_current_span("root", undecided(Context())) as root:
        assert sampling.is_undecided(root)
        with tracer.start_as_current_span("child", attributes={"a": 1}) as child:
            child.add_event("seen")
            child.set_status(trace.StatusCode.ERROR)
        assert kept() == []
        root.add_link(span_context(SAMPLED))
    assert kept() == ["child", "root"]
    child_span, root_span = exporter.get_finished_spans()
    for told, span in ((child_span, child), (root_span, root)):
        assert told.context.trace_flags.sampled
        assert (told.context.trace_id, told.context.span_id) == (
            span.get_span_context().trace_id,
            span.get_span_context().span_id,
        )
    assert child_span.parent == root.get_span_context()
    assert dict(child_span.attributes or {}) == {"a": 1}
    assert [event.name for event in child_span.events] == ["seen"]
    assert child_span.status.status_code is trace.StatusCode.ERROR
    assert child_span.end_time > child_span.start_time
    assert child_span.instrumentation_scope.name == "test"
    assert [link.context.trace_id for link in root_span.links] == [7]


def test_an_undecided_trace_without_a_sampled_link_is_forgotten(
    tracer: trace.Tracer, kept: Names
) -> None:
    with tracer.start_as_current_span("root", undecided(Context())) as root:
        with tracer.start_as_current_span("child"):
            pass
        root.add_link(span_context(UNSAMPLED))
    assert kept() == []


def test_what_ends_after_a_trace_was_forgotten_is_kept_by_a_link_of_its_own(
    tracer: trace.Tracer, kept: Names
) -> None:
    root = tracer.start_span("root", undecided(Context()))
    late = tracer.start_span("late", trace.set_span_in_context(root, Context()))
    later = tracer.start_span("later", trace.set_span_in_context(late, Context()))
    root.end()
    later.end()
    late.add_link(span_context(SAMPLED))
    late.end()
    assert kept() == ["late"]


def test_what_ends_after_its_trace_leaves_nothing_behind() -> None:
    provider = TracerProvider(LinkSampler(ALWAYS_OFF), shutdown_on_exit=False)
    undecided_traces = UndecidedTraces(SimpleSpanProcessor(InMemorySpanExporter()))
    provider.add_span_processor(undecided_traces)
    tracer = provider.get_tracer("test")
    for _ in range(3):
        root = tracer.start_span("root", undecided(Context()))
        late = tracer.start_span("late", trace.set_span_in_context(root, Context()))
        root.end()
        late.end()
    assert not undecided_traces._waiting
    provider.shutdown()


def test_calls_of_one_trace_wait_for_each_other(tracer: trace.Tracer, kept: Names) -> None:
    theirs = undecided(parent(UNSAMPLED, is_remote=True))
    first, second = (tracer.start_span(name, theirs) for name in ("first", "second"))
    first.end()
    tracer.start_span("child", trace.set_span_in_context(second, Context())).end()
    second.add_link(span_context(SAMPLED))
    second.end()
    assert kept() == ["first", "child", "second"]


def test_a_transaction_that_others_share_keeps_no_trace(tracer: trace.Tracer, kept: Names) -> None:
    with (
        tracer.start_as_current_span("root", undecided(Context())),
        tracer.start_as_current_span(sampling.TRANSACTION) as transaction,
    ):
        transaction.add_link(span_context(SAMPLED))
    assert kept() == []


def test_traces_that_never_end_give_way_to_newer_ones(tracer: trace.Tracer, kept: Names) -> None:
    roots = [tracer.start_span(f"root-{n}", undecided(Context())) for n in range(3)]
    for number, root in enumerate(roots):
        tracer.start_span(f"child-{number}", trace.set_span_in_context(root, Context())).end()
    for root in roots:
        root.add_link(span_context(SAMPLED))
        root.end()
    assert kept() == ["root-0", "child-1", "root-1", "child-2", "root-2"]


def test_a_span_that_is_not_undecided_is_passed_on_at_once(
    tracer: trace.Tracer, kept: Names
) -> None:
    root = tracer.start_span("root", Context(), links=[Link(span_context(SAMPLED))])
    assert not sampling.is_undecided(root)
    tracer.start_span("child", trace.set_span_in_context(root, Context())).end()
    assert kept() == ["child"]
    below = parent(UNSAMPLED, is_remote=True)
    tracer.start_span("linked", below, links=[Link(span_context(SAMPLED))]).end()
    assert kept() == ["child", "linked"]
