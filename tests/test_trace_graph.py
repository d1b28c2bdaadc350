"""One payment's traces as a collector gets them, and the links between them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.semconv._incubating.attributes import messaging_attributes, rpc_attributes
from opentelemetry.semconv.attributes import (
    db_attributes,
    error_attributes,
    http_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.semconv.schemas import Schemas

from antom_payments import telemetry
from antom_payments.client import Earliest
from antom_payments.emulator import Step
from databases import SQLITE
from docs_tables import ROOT
from otlp import Collector, Told, collecting
from whole import PATH, Shop, shop_on, trust_one_authority

SERVICE = "antom_payments.v1.PaymentService"
CREATE, REPORT = f"{SERVICE}/CreateSession", f"{SERVICE}/ReportSdkEvent"
ANTOM = "POST /ams/sandbox/api/v1/payments"
NOTIFY, APPEND, DELIVER = f"POST {PATH}", "append payment_events", "deliver payment_events"


@pytest.fixture(autouse=True)
def _one_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_one_authority(monkeypatch, tmp_path)


@pytest.fixture
async def collector(database_url: str) -> AsyncIterator[Collector]:
    """Of each protocol, with one of the databases."""
    over_http = database_url.startswith(SQLITE)
    async with collecting("http/protobuf" if over_http else "grpc") as collector:
        yield collector


@dataclass
class Tracing:
    """What makes the spans of the product, and those of its caller."""

    ours: TracerProvider
    callers: TracerProvider

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """A span of the caller."""
        with self.callers.get_tracer("shop").start_as_current_span(name):
            yield

    async def flush(self) -> None:
        """Export what has ended."""
        for provider in (self.ours, self.callers):
            assert await asyncio.to_thread(provider.force_flush)


Traced = Callable[..., contextlib.AbstractAsyncContextManager[Tracing]]


@pytest.fixture
def traced(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Traced:
    """Export as the standard variables say; of what begins in the product nothing is sampled."""

    @contextlib.asynccontextmanager
    async def traced(*, caller_samples: bool = True, **variables: str) -> AsyncIterator[Tracing]:
        for name, value in (collector.variables() | variables).items():
            monkeypatch.setenv(name, value)
        ours = telemetry.tracer_provider(Resource({"service.name": "antom-payments"}))
        monkeypatch.setattr(
            telemetry, "tracer", ours.get_tracer("test", schema_url=telemetry.SCHEMA_URL)
        )
        callers = TracerProvider(
            sampler=ALWAYS_ON if caller_samples else ALWAYS_OFF,
            resource=Resource({"service.name": "shop"}),
            shutdown_on_exit=False,
        )
        [exporter] = [telemetry._span_exporter("otlp")]
        callers.add_span_processor(BatchSpanProcessor(exporter))
        yield Tracing(ours, callers)
        for provider in (ours, callers):
            await asyncio.to_thread(provider.shutdown)

    return traced


class Graph:
    """Spans with their parents and links."""

    def __init__(self, spans: list[Told]) -> None:
        self.spans = spans
        self._by_id = {span.span_id: span for span in spans}

    def named(self, name: str) -> list[Told]:
        return sorted(
            (span for span in self.spans if span.name == name), key=lambda span: span.links
        )

    def one(self, name: str, *, below: Told | None = None) -> Told:
        """The only span of that name, or the only one below another."""
        [found] = [
            span
            for span in self.named(name)
            if below is None or below.span_id in self.ancestors(span)
        ]
        return found

    def ancestors(self, span: Told) -> list[str]:
        """Span ids of parents, the nearest first."""
        found = []
        while span.parent_span_id:
            found.append(span.parent_span_id)
            if span.parent_span_id not in self._by_id:
                break
            span = self._by_id[span.parent_span_id]
        return found

    def delivers(self, append: Told) -> list[Told]:
        return [span for span in self.named(DELIVER) if append.ids in span.links]


def ids_in(traceparent: str) -> tuple[str, str]:
    _, trace_id, span_id, _ = traceparent.split("-")
    return trace_id, span_id


async def test_a_sampled_session_is_kept_whole_from_the_caller_to_the_delivery(
    database_url: str, tmp_path: Path, collector: Collector, traced: Traced
) -> None:
    async with (
        traced(OTEL_TRACES_SAMPLER_ARG="0") as tracing,
        shop_on(database_url, tmp_path) as shop,
        shop.following(Earliest()) as follower,
    ):
        await follower.until_caught_up()
        with tracing.call("checkout"):
            created = await shop.create()
        await follower.until(1)
        await shop.buyer(Step.APPROVE, later=0)
        await follower.until(2)
        await shop.antom.timeline.advance(60)
        await follower.until(3)
        graph = Graph(
            await collector.until(
                lambda spans: (
                    [span.name for span in spans].count(DELIVER) == 3
                    and any(span.name == "checkout" for span in spans)
                )
            )
        )
    # caller → CreateSession → Antom; and the event of the session, in the same trace
    checkout, create = graph.one("checkout"), graph.one(CREATE)
    asked = graph.one(f"{ANTOM}/createPaymentSession")
    assert (checkout.service, checkout.parent_span_id) == ("shop", "")
    assert (create.service, create.parent_span_id) == ("antom-payments", checkout.span_id)
    assert asked.parent_span_id == create.span_id
    assert ids_in(created.payment.traceparent) == create.ids
    appends = [graph.one(APPEND, below=create)]
    assert appends[0].links == ()
    # ⇢ notification → append
    authorized, captured = graph.named(NOTIFY)
    for notification in (authorized, captured):
        assert notification.parent_span_id == ""
        assert notification.links == (create.ids,)
        append = graph.one(APPEND, below=notification)
        assert append.parent_span_id == notification.span_id
        assert append.links == (create.ids,)
        assert graph.one("transaction", below=append)
        appends.append(append)
    assert len({span.trace_id for span in (create, authorized, captured)}) == 3
    # ⇢ delivery
    assert {ids_in(event.append_traceparent) for event in follower.events} == {
        append.ids for append in appends
    }
    for append in appends:
        [deliver] = graph.delivers(append)
        assert deliver.parent_span_id == ""
        assert deliver.links == (append.ids,)
    assert {event.traceparent for event in follower.events} == {created.payment.traceparent}
    assert all(event.append_traceparent[-2:] in {"01", "03"} for event in follower.events)


async def test_news_that_an_inquiry_finds_and_a_front_ends_report_belong_to_the_session(
    database_url: str, tmp_path: Path, collector: Collector, traced: Traced
) -> None:
    async with (
        traced(OTEL_TRACES_SAMPLER_ARG="0") as tracing,
        shop_on(database_url, tmp_path, one_clock=True, reconciles=True) as shop,
    ):
        shop.spoil_notifications("WITHHOLD")
        with tracing.call("checkout"):
            await shop.create()
        # Of a front end that traces nothing.
        await shop.payments.report_sdk_event("pay-1", "SDK_START_OF_LOADING")
        await shop.buyer(Step.APPROVE, later=40)
        async with shop.following(Earliest()) as follower:
            told = [news for news, _, _ in await follower.until(4)]
        found = {ids_in(event.append_traceparent) for event in follower.events[-2:]}
        graph = Graph(
            await collector.until(
                lambda spans: (
                    found <= {span.ids for span in spans}
                    and {DELIVER, CREATE} <= {span.name for span in spans}
                )
            )
        )
    assert told == [
        *("SESSION_CREATED", "SDK_EVENT_REPORTED"),
        *("PAYMENT_AUTHORIZED", "CAPTURE_SUCCEEDED"),
    ]
    create = graph.one(CREATE)
    by_ids = {span.ids: span for span in graph.spans}
    _, reported, *inquired = (by_ids[ids_in(event.append_traceparent)] for event in follower.events)
    for append in (reported, *inquired):
        assert append.name == APPEND
        assert append.links == (create.ids,)
    # The call that reported is not sampled; what it told of a sampled session is.
    assert not graph.named(REPORT)
    [inquire] = {by_ids[append.trace_id, append.parent_span_id] for append in inquired}
    assert (inquire.name, inquire.parent_span_id) == ("inquire", "")
    assert inquire.links == (create.ids,)
    assert graph.one(f"{ANTOM}/inquiryPayment", below=inquire)
    for append in (reported, *inquired):
        assert graph.delivers(append)


async def test_of_a_caller_who_samples_nothing_nothing_is_exported_and_nothing_is_lost(
    database_url: str, tmp_path: Path, collector: Collector, traced: Traced
) -> None:
    async with (
        traced(caller_samples=False, OTEL_TRACES_SAMPLER_ARG="0") as tracing,
        shop_on(database_url, tmp_path) as shop,
        shop.following(Earliest()) as follower,
    ):
        with tracing.call("checkout"):
            created = await shop.create()
        await shop.buyer(Step.APPROVE)
        told = [news for news, _, _ in await follower.until(3)]
        await tracing.flush()
    assert told == ["SESSION_CREATED", "PAYMENT_AUTHORIZED", "CAPTURE_SUCCEEDED"]
    assert collector.spans == []
    # Ids are kept all the same: logs have them.
    texts = [created.payment.traceparent, *(one.append_traceparent for one in follower.events)]
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[02]", text) for text in texts)


async def test_every_span_is_in_the_table_of_the_documentation_and_the_reverse(
    database_url: str, tmp_path: Path, collector: Collector, traced: Traced
) -> None:
    async with (
        traced(OTEL_TRACES_SAMPLER="always_on") as tracing,
        shop_on(database_url, tmp_path) as shop,
        shop.following(Earliest()) as follower,
    ):
        with tracing.call("checkout"):
            await shop.create()
        with contextlib.suppress(Exception):
            await shop.payments.get_payment(payment_request_id="another")
        await shop.read(fresh=True)
        await shop.payments.report_sdk_event("pay-1", "SDK_START_OF_LOADING")
        await unknown_method(shop)
        await shop.buyer(Step.APPROVE)
        assert await shop.notify({"notifyType": "PAYMENT_RESULT"}) == 200
        await follower.until(4)
        await tracing.flush()
    rows, seen = documented(), set()
    for span in collector.spans:
        if span.service == "shop":
            continue
        [row] = [row for row in rows if row.is_about(span)]
        seen.add(row.name)
        assert row.always <= set(span.attributes) <= row.always | row.sometimes, span
        assert row.has_links or not span.links, span
        assert span.schema_url == telemetry.SCHEMA_URL
        assert not span.has_message
        assert span.seconds < 10, "no span lasts as long as a stream"
    assert seen == {row.name for row in rows}
    unknown = Graph(collector.spans).one("grpc")
    assert unknown.attributes["rpc.method"] == "_OTHER"
    assert unknown.is_error
    assert "Invented" not in str(collector.raw)


async def unknown_method(shop: Shop) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{shop.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"/{SERVICE}/Invented")(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@dataclass(frozen=True)
class Row:
    """A row of the table of spans in docs/tracing.md."""

    name: str
    kind: str
    always: frozenset[str]
    sometimes: frozenset[str]
    has_links: bool

    def is_about(self, span: Told) -> bool:
        pattern = re.sub(r"\\{\w+\\}", r"\\S+", re.escape(self.name))
        return span.kind == self.kind and re.fullmatch(pattern, span.name) is not None


def documented() -> list[Row]:
    """The table of spans."""
    text = (ROOT / "docs" / "tracing.md").read_text("utf-8")
    cells = r"^\| `([^`]+)` \| ([A-Z]+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| [^|]+ \|$"
    return [
        Row(
            name,
            kind,
            frozenset(re.findall(r"`([^`]+)`", always)),
            frozenset(re.findall(r"`([^`]+)`", sometimes)),
            bool(links.strip()),
        )
        for name, kind, always, sometimes, links in re.findall(cells, text, re.MULTILINE)
    ]


def test_attributes_are_those_of_the_conventions_or_of_our_own_names() -> None:
    modules = [messaging_attributes, rpc_attributes, db_attributes, error_attributes]
    modules += [http_attributes, server_attributes, url_attributes]
    named = [value for module in modules for value in vars(module).values()]
    known = {value for value in named if isinstance(value, str)}
    rows = documented()
    told = {name for row in rows for name in row.always | row.sometimes}
    ours = {name for name in told if name.startswith(("antom_payments.", "antom."))}
    assert told - ours <= known
    # The one that the convention has settled on: the others have names of their own there.
    assert rpc_attributes.RPC_RESPONSE_STATUS_CODE in told
    # Pinned: not older than the package, which knows these names.
    version = [int(part) for part in telemetry.SCHEMA_URL.rpartition("/")[2].split(".")]
    newest = max([int(n) for n in one.value.rpartition("/")[2].split(".")] for one in Schemas)
    assert version >= newest
