"""The demo's OTLP receiver, and the traces as it prints them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from antom_payments.trace_receiver import ReceivedSpan, TraceReceiver, receiving, rendered

PATIENCE = 20.0


@pytest.fixture
async def receiver_and_tracer() -> AsyncIterator[tuple[TraceReceiver, trace.Tracer]]:
    async with receiving() as (receiver, endpoint):
        provider = TracerProvider(
            resource=Resource({"service.name": "till"}), shutdown_on_exit=False
        )
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        yield receiver, provider.get_tracer("test")
        await asyncio.to_thread(provider.shutdown)


async def test_spans_of_the_sdk_arrive_with_parents_and_links(
    receiver_and_tracer: tuple[TraceReceiver, trace.Tracer],
) -> None:
    receiver, tracer = receiver_and_tracer

    def work() -> trace.SpanContext:
        with tracer.start_as_current_span("call") as call:
            tracer.start_span("query").end()
        session = call.get_span_context()
        tracer.start_span("notification", links=[trace.Link(session)]).end()
        return session

    session = await asyncio.to_thread(work)
    assert await receiver.until(lambda spans: len(spans) == 3, PATIENCE)
    query, call, notification = receiver.spans
    assert [query.name, call.name, notification.name] == ["query", "call", "notification"]
    assert {span.service for span in receiver.spans} == {"till"}
    assert call.trace_id == f"{session.trace_id:032x}"
    assert call.parent_span_id == ""
    assert query.parent_span_id == call.span_id
    assert call.start <= query.start <= query.end <= call.end
    assert notification.trace_id != call.trace_id
    assert notification.linked_trace_ids == (call.trace_id,)


async def test_waiting_ends_when_what_is_wanted_does_not_come() -> None:
    assert not await TraceReceiver().until(bool, 0.01)


def a_span(name: str, trace_id: str, span_id: str, parent: str = "", *links: str) -> ReceivedSpan:
    start = 1_000_000 * int(span_id)
    return ReceivedSpan("till", name, trace_id, span_id, parent, start, start + 2_500_000, links)


def test_traces_are_trees_oldest_first_with_the_traces_they_link_to() -> None:
    session, news, other = "a" * 32, "b" * 32, "c" * 32
    spans = [
        a_span("append", news, "6", "5"),
        a_span("notification", news, "5", "", session),
        a_span("second", session, "3", "1"),
        a_span("first", session, "2", "1"),
        a_span("call", session, "1"),
        a_span("somebody else's", other, "4"),
    ]
    assert list(rendered(spans, {session, news})) == [
        "trace aaaaaaaa",
        "  call  [till, 2.5 ms]",
        "    first  [till, 2.5 ms]",
        "    second  [till, 2.5 ms]",
        "trace bbbbbbbb  ⇢ linked to trace aaaaaaaa",
        "  notification  [till, 2.5 ms]",
        "    append  [till, 2.5 ms]",
    ]


def test_a_span_whose_parent_is_the_callers_is_a_root_of_its_own() -> None:
    trace_id = "a" * 32
    assert list(rendered([a_span("call", trace_id, "1", "99")], {trace_id})) == [
        "trace aaaaaaaa",
        "  call  [till, 2.5 ms]",
    ]
