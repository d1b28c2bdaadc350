"""Spans and metrics of calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import baggage, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState

from antom_payments import errors, telemetry
from antom_payments.antom import AntomClient
from antom_payments.event_stream import Batch
from antom_payments.grpc_api import tracing
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_service_pb2 as pb
from grpc_api.sessions import card_session
from grpc_api.test_edge import call, follow, streaming, unary
from grpc_api.world import EARLIEST, Following, edge_around, refusal_of, serving

Spans = Callable[[], list[ReadableSpan]]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),)
UNSAMPLED = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00"),)
SERVICE = "antom_payments.v1.PaymentService"


async def echo(request: Any, _context: Any) -> Any:
    return request


def failing(error: Exception) -> Any:
    async def fail(_request: Any, _context: Any) -> Any:
        raise error

    return fail


async def test_a_unary_call_is_a_server_span_by_the_conventions(spans: Spans) -> None:
    assert telemetry.SCHEMA_URL == "https://opentelemetry.io/schemas/1.45.0"
    async with edge_around({"Unary": unary(echo)}) as (channel, _):
        await call(channel)
    [span] = spans()
    assert (span.name, span.kind) == ("test.Service/Unary", SpanKind.SERVER)
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "test.Service/Unary",
        "rpc.response.status_code": "OK",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None


async def test_the_callers_trace_is_continued(spans: Spans) -> None:
    seen: list[trace.SpanContext] = []

    async def look(request: Any, _context: Any) -> Any:
        seen.append(trace.get_current_span().get_span_context())
        return request

    async with edge_around({"Unary": unary(look)}) as (channel, _):
        await call(channel, metadata=SAMPLED)
    [span] = spans()
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert seen == [span.context]


async def test_baggage_and_tracestate_are_left_behind(spans: Spans) -> None:
    seen: list[object] = []

    async def look(request: Any, _context: Any) -> Any:
        seen.append(dict(baggage.get_all()))
        seen.append(trace.get_current_span().get_span_context().trace_state)
        return request

    metadata = (*SAMPLED, ("tracestate", "vendor=secret"), ("baggage", "card=4111111111111111"))
    async with edge_around({"Unary": unary(look)}) as (channel, _):
        await call(channel, metadata=metadata)
    assert seen == [{}, TraceState()]
    assert spans()[0].context.trace_state == TraceState()


@pytest.mark.parametrize(
    "metadata",
    [
        (("traceparent", "garbage"),),
        (("traceparent", "x" * 5000),),
        (("traceparent-bin", b"\xff"),),
    ],
)
async def test_a_garbled_trace_context_begins_a_new_trace(
    spans: Spans, metadata: tuple[tuple[str, str | bytes]]
) -> None:
    async with edge_around({"Unary": unary(echo)}) as (channel, _):
        await call(channel, metadata=metadata)
    assert spans()[0].parent is None


@pytest.mark.parametrize(
    ("error", "code", "reason", "is_error"),
    [
        (errors.PaymentNotFound(), "NOT_FOUND", "PAYMENT_NOT_FOUND", False),
        (errors.InvalidRequest([]), "INVALID_ARGUMENT", "INVALID_REQUEST", False),
        (errors.ServerDraining(1), "ABORTED", "SERVER_DRAINING", False),
        (errors.StoreUnavailable(), "UNAVAILABLE", "STORE_UNAVAILABLE", True),
        (errors.DeadlineExceeded(), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", True),
        (RuntimeError("secret"), "INTERNAL", "INTERNAL", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_codes_are_told_and_only_the_servers_faults_are_errors(
    spans: Spans, error: Exception, code: str, reason: str, is_error: bool
) -> None:
    async with edge_around({"Unary": unary(failing(error))}) as (channel, _):
        await refusal_of(call(channel))
    [span] = spans()
    attributes = dict(span.attributes or {})
    assert attributes["rpc.response.status_code"] == code
    assert attributes["antom_payments.error_reason"] == reason
    assert attributes.get("error.type") == (code if is_error else None)
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    assert span.status.description is None
    assert not span.events, "exceptions are told once, by the log"


async def test_the_log_line_of_a_failure_is_in_the_calls_trace(
    spans: Spans, log_text: Callable[[], str]
) -> None:
    async with edge_around({"Unary": unary(failing(RuntimeError("x")))}) as (channel, _):
        await refusal_of(call(channel, metadata=SAMPLED))
    [line] = [line for line in log_text().splitlines() if "call_failed" in line]
    assert f'"trace_id": "{TRACE_ID}"' in line
    assert f'"span_id": "{spans()[0].context.span_id:016x}"' in line


async def test_a_caller_that_hangs_up_leaves_a_span_that_says_so(spans: Spans) -> None:
    started = asyncio.Event()

    async def wait(_request: Any, _context: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    async with edge_around({"Unary": unary(wait)}) as (channel, admission):
        under_way = call(channel)
        await started.wait()
        under_way.cancel()
        await admission.idle()
    attributes = dict(spans()[0].attributes or {})
    assert attributes["rpc.response.status_code"] == "CANCELLED"
    assert "error.type" not in attributes


async def test_a_session_is_stored_with_the_trace_that_made_it(
    store: PaymentStore, antom: AntomClient, spans: Spans
) -> None:
    async with serving(store, antom=antom) as served:
        created = await served.stub.CreateSession(card_session(), metadata=SAMPLED)
        following = await served.follow().until_events(1)
    [call_span] = [span for span in spans() if span.name == f"{SERVICE}/CreateSession"]
    own = f"00-{TRACE_ID}-{call_span.context.span_id:016x}-01"
    [event] = following.events
    assert created.payment.traceparent == event.traceparent == event.payment.traceparent == own
    assert event.append_traceparent.startswith(f"00-{TRACE_ID}-")


async def test_a_stream_has_a_short_span_and_one_for_each_delivery_linked_to_the_events(
    store: PaymentStore, antom: AntomClient, spans: Spans
) -> None:
    async with serving(store, antom=antom) as served:
        await served.stub.CreateSession(card_session())
        following = served.follow(EARLIEST, metadata=SAMPLED)
        await following.until_marker("caught_up")
        open_spans = [span for span in spans() if span.kind is SpanKind.CONSUMER]
        [subscribe] = [span for span in spans() if span.name == "subscribe"]
        [event] = following.events

    assert f"{subscribe.context.trace_id:032x}" == TRACE_ID
    assert dict(subscribe.attributes or {})["rpc.method"] == f"{SERVICE}/StreamPaymentEvents"
    assert subscribe.kind is SpanKind.SERVER
    [deliver] = open_spans
    assert deliver.name == "deliver payment_events"
    assert deliver.parent is None, "a trace of its own: the stream goes on for long"
    assert dict(deliver.attributes or {})["messaging.batch.message_count"] == 1
    linked = {f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in deliver.links}
    subscribed = f"{TRACE_ID}-{subscribe.context.span_id:016x}"
    assert linked == {event.append_traceparent[3:-3], subscribed}


async def test_a_delivery_is_traced_for_what_was_appended_whoever_is_subscribed(
    store: PaymentStore, spans: Spans
) -> None:
    async with serving(store) as served:
        await served.news.about("order-1")
        await served.follow(EARLIEST, metadata=UNSAMPLED).until_events(1)
    assert not [span for span in spans() if span.name == "subscribe"]
    [append] = [span for span in spans() if span.kind is SpanKind.PRODUCER]
    [deliver] = [span for span in spans() if span.kind is SpanKind.CONSUMER]
    assert [link.context.span_id for link in deliver.links] == [append.context.span_id]


async def test_a_delivery_of_what_is_not_sampled_leaves_no_span(
    store: PaymentStore, spans: Spans
) -> None:
    async with serving(store) as served:
        with trace.use_span(trace.get_current_span(tracing.caller_context(UNSAMPLED))):
            await served.news.about("order-1")
        await served.follow(EARLIEST, metadata=SAMPLED).until_events(1)
    assert {span.kind for span in spans()} == {SpanKind.SERVER}


def sampled_link(span_id: int) -> Link:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return Link(trace.SpanContext(int(TRACE_ID, 16), span_id, is_remote=True, trace_flags=flags))


def test_a_delivery_has_as_many_links_as_the_sdk_keeps_and_tells_all_events(spans: Spans) -> None:
    links = tuple(map(sampled_link, range(1, 201)))
    subscribed = sampled_link(999).context
    with tracing.deliver_span(Batch(b"", 200, "cursor", append_links=links), subscribed):
        pass
    [deliver] = [span for span in spans() if span.kind is SpanKind.CONSUMER]
    assert dict(deliver.attributes or {})["messaging.batch.message_count"] == 200
    assert len(deliver.links) == telemetry.MOST_LINKS
    assert deliver.links[-1].context == subscribed
    assert deliver.dropped_links == 0


def test_deliveries_of_one_event_to_thousands_leave_a_bounded_number_of_spans(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    budget = tracing.SpanBudget(per_second=10, at_once=3, now=lambda: seconds[0])
    monkeypatch.setattr(tracing, "_deliveries", budget)
    batch = Batch(b"", 1, "cursor", append_links=(sampled_link(1),))

    def delivered(times: int) -> int:
        before = len(spans())
        for _ in range(times):
            with tracing.deliver_span(batch, trace.INVALID_SPAN_CONTEXT):
                pass
        return len(spans()) - before

    assert delivered(2_000) == 3
    seconds[0] += 0.2
    assert delivered(2_000) == 2
    seconds[0] += 3600
    assert delivered(2_000) == 3


async def test_a_subscription_that_is_refused_leaves_its_code(
    store: PaymentStore, spans: Spans
) -> None:
    async with serving(store) as served:
        request = pb.StreamPaymentEventsRequest(after_cursor="garbled")
        await served.follow(request).until_end()
    [subscribe] = [span for span in spans() if span.name == "subscribe"]
    assert dict(subscribe.attributes or {})["rpc.response.status_code"] == "INVALID_ARGUMENT"


async def test_probes_are_not_traced(store: PaymentStore, spans: Spans) -> None:
    async with serving(store) as served:
        stub = health_pb2_grpc.HealthStub(served.channel)
        await stub.Check(health_pb2.HealthCheckRequest())
    assert not [span for span in spans() if span.kind is SpanKind.SERVER]


async def test_durations_are_recorded_by_method_and_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    histogram = provider.get_meter("test").create_histogram("rpc.server.call.duration", unit="s")
    monkeypatch.setattr(tracing, "_duration", histogram)
    methods = {
        "Unary": unary(echo),
        "Fails": unary(failing(errors.StoreUnavailable())),
        "Stream": streaming(failing(errors.ServerDraining(1))),
    }
    async with edge_around(methods) as (channel, _):
        await call(channel)
        await refusal_of(channel.unary_unary("/test.Service/Fails")(b""))
        await refusal_of(channel.unary_unary("/test.Service/Invented")(b""))
        await Following(follow(channel)).until_end()
    data = reader.get_metrics_data()
    assert data is not None
    [metric] = data.resource_metrics[0].scope_metrics[0].metrics
    points = {tuple(dict(point.attributes).values()) for point in metric.data.data_points}
    provider.shutdown()
    assert points == {
        ("grpc", "test.Service/Unary", "OK"),
        ("grpc", "test.Service/Fails", "UNAVAILABLE", "UNAVAILABLE"),
        ("grpc", "test.Service/Stream", "ABORTED"),
        ("grpc", "_OTHER", "UNIMPLEMENTED", "UNIMPLEMENTED"),
    }


def test_codes_of_the_servers_faults_are_those_of_the_convention() -> None:
    assert {code.name for code in grpc.StatusCode} >= tracing.SERVER_ERRORS
    assert len(tracing.SERVER_ERRORS) == 6
