"""Telemetry that fails: calls are answered, transactions stand, streams and processes go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult

from antom_payments import fence, instruments, telemetry
from antom_payments.background import running
from antom_payments.fence import fenced, fenced_method
from antom_payments.grpc_api import stream as grpc_stream
from antom_payments.grpc_api import tracing
from antom_payments.instruments import Process
from antom_payments.notifications import outcomes
from antom_payments.notifications.outcomes import Counts, Outcome
from antom_payments.pulse import keep_pulse
from antom_payments.sampling import UndecidedTraces
from antom_payments.store import PaymentStore
from antom_payments.store import measures as store_measures
from antom_payments.v1 import payment_service_pb2 as pb
from event_stream.news import News
from grpc_api.test_edge import call, unary
from grpc_api.world import LATEST, edge_around, serving

SECRET = "4111 1111 1111 1111"


class Broken:
    """An instrument of an SDK that fails."""

    def __init__(self) -> None:
        self.told = 0

    def add(self, *_: object) -> None:
        self.told += 1
        raise RuntimeError(SECRET)

    record = set = add


class BrokenMeter:
    """Makes nothing else."""

    def __init__(self, broken: Broken) -> None:
        self._broken = broken

    def create_counter(self, *_: object, **__: object) -> Broken:
        return self._broken

    create_up_down_counter = create_gauge = create_histogram = create_counter


class BrokenProcessor(SpanProcessor):
    def on_start(self, *_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    def on_end(self, *_: object) -> None:
        raise RuntimeError(SECRET)


class EndsBadly(SpanProcessor):
    def on_end(self, *_: object) -> None:
        raise RuntimeError(SECRET)


class BrokenSampler(Sampler):
    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        raise RuntimeError(SECRET)

    def get_description(self) -> str:
        return "broken"


def processed_by(processor: SpanProcessor) -> TracerProvider:
    provider = TracerProvider(ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


TRACING: dict[str, Callable[[], TracerProvider]] = {
    "on_start": lambda: processed_by(BrokenProcessor()),
    "on_end": lambda: processed_by(EndsBadly()),
    "sampler": lambda: TracerProvider(BrokenSampler(), shutdown_on_exit=False),
}


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was logged yet."""
    monkeypatch.setattr(fence, "_told", set())


@pytest.fixture(params=sorted(TRACING))
def broken_tracing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "tracer", TRACING[request.param]().get_tracer("test"))


@pytest.fixture
def broken_metrics(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Every instrument that money's path tells, on an SDK that fails."""
    broken = Broken()
    for module, names in _TOLD.items():
        for name in names:
            made = getattr(module, name)
            # Behind the fence that the instrument was declared with.
            monkeypatch.setattr(made, "_real_instrument", broken)
    return broken


_TOLD: dict[ModuleType, tuple[str, ...]] = {
    store_measures: ("_waits", "_transactions", "_appended", "_group_sizes", "_intent_sizes"),
    outcomes: ("_notifications", "_duration", "_verification", "_commit", "_age", "_last_accepted"),
    tracing: ("_duration",),
    grpc_stream: ("_lifetimes",),
}


async def test_what_is_committed_is_answered_whatever_metrics_do(
    store: PaymentStore, broken_metrics: Broken
) -> None:
    news = News(store)
    for number in range(3):
        assert len(await news.about(f"order-{number}")) == 1
    assert broken_metrics.told > 3
    assert (await store.log.bounds())[1] == 3


@pytest.mark.usefixtures("broken_tracing")
async def test_what_is_committed_is_answered_whatever_tracing_does(
    store: PaymentStore,
) -> None:
    news = News(store)
    for number in range(3):
        assert len(await news.about(f"order-{number}")) == 1
    assert (await store.log.bounds())[1] == 3


async def test_calls_and_streams_are_served_whatever_metrics_do(
    store: PaymentStore, broken_metrics: Broken
) -> None:
    await _serves(store)
    assert broken_metrics.told


@pytest.mark.usefixtures("broken_tracing")
async def test_calls_and_streams_are_served_whatever_tracing_does(
    store: PaymentStore,
) -> None:
    await _serves(store)


async def _serves(store: PaymentStore) -> None:
    async with serving(store) as served:
        following = served.follow(LATEST)
        await following.until_marker("caught_up")
        await served.news.about("pay")
        for _ in range(3):
            payment = await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="pay"))
            assert payment.payment.payment_request_id == "pay"
        await following.until_events(1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="none"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        following.call.cancel()
        await served.server.admission.idle()


async def test_a_slot_is_given_back_even_when_nothing_can_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError(SECRET)

    async def answer(request: StringValue, _context: Any) -> StringValue:
        return request

    monkeypatch.setattr(tracing, "record_duration", fails)
    async with edge_around({"Unary": unary(answer)}) as (channel, admission):
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel)
        async with asyncio.timeout(20):
            await admission.idle()


def test_a_verified_notification_is_counted_or_not_but_never_refused_for_it(
    broken_metrics: Broken,
) -> None:
    counts = Counts()
    counts.verified(0.1, 5.0)
    counts.stored(0.1)
    counts.add(Outcome.ACCEPTED, seconds=0.1)
    assert broken_metrics.told >= 5


async def test_a_look_that_fails_ends_neither_the_pulse_nor_the_process() -> None:
    looks = asyncio.Semaphore(0)

    def look() -> None:
        looks.release()
        raise KeyError(SECRET)

    async with (
        asyncio.timeout(20),
        running(keep_pulse(Process.SERVER, lambda: True, look, seconds=0.001)),
    ):
        for _ in range(3):
            await looks.acquire()


def test_a_failure_is_logged_once_and_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    broken = fenced_method(Broken(), "add")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            broken.add(1)
    assert broken.told == 3
    assert caplog.text.count("telemetry_failed RuntimeError") == 1
    assert SECRET not in caplog.text


def test_a_cancellation_is_no_failure_of_telemetry() -> None:
    def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        fenced(cancelled)()


def test_every_kind_of_instrument_is_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "CATALOGUE", {})
    monkeypatch.setattr(instruments, "_COUNTERS", {})
    broken = Broken()
    monkeypatch.setattr(telemetry, "meter", BrokenMeter(broken))
    made = [
        instruments.counter("a", "", ""),
        instruments.up_down_counter("b", "", ""),
        instruments.histogram("c", "", ""),
        instruments.gauge("d", "", ""),
    ]
    for one, method in zip(made, ("add", "add", "record", "set"), strict=True):
        getattr(one, method)(1)
    assert broken.told == 4


def test_processors_that_fail_end_no_span() -> None:
    provider = processed_by(UndecidedTraces(BrokenProcessor()))
    with provider.get_tracer("test").start_as_current_span("work") as span:
        assert span.is_recording()


def test_a_span_that_cannot_begin_stands_in_with_its_parents_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "tracer", TRACING["sampler"]().get_tracer("test"))
    told = f"00-{7:032x}-{9:016x}-01"
    with telemetry.quiet_span("work", context=telemetry.remote_parent(told)):
        assert telemetry.current_traceparent() == told
    with telemetry.quiet_span("alone", context=Context()):
        assert trace.get_current_span() is not None
        assert telemetry.current_traceparent() == ""


def test_what_the_work_raises_passes() -> None:
    with pytest.raises(ZeroDivisionError), telemetry.quiet_span("work"):
        raise ZeroDivisionError
