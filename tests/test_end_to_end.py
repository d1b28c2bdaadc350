"""One payment through the whole product: gRPC in, Antom, signed POSTs, the event stream out."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from antom_payments import telemetry
from antom_payments.app import grpc_server, notification_receiver
from antom_payments.client import AfterCursor, Earliest, Latest, MemoryCursorStore
from antom_payments.emulator import Step
from antom_payments.settings import Address
from antom_payments.v1.payment_pb2 import Money, Payment, PaymentState
from whole import (
    PATH,
    Shop,
    caller,
    captured,
    local_antom,
    named,
    settings,
    shop_on,
    trust_one_authority,
)

CREATED = ("SESSION_CREATED", "AWAITING_BUYER", "API")
AUTHORIZED = ("PAYMENT_AUTHORIZED", "AUTHORIZED", "NOTIFICATION")
CAPTURED = ("CAPTURE_SUCCEEDED", "SUCCEEDED", "NOTIFICATION")


@pytest.fixture(autouse=True)
def _one_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_one_authority(monkeypatch, tmp_path)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_on(database_url, tmp_path) as shop:
        yield shop


def amounts(payment: Payment) -> tuple[int, int, int]:
    """Asked for, held, taken."""
    return (
        payment.amount.minor_units,
        payment.authorized_amount.minor_units,
        payment.captured_amount.minor_units,
    )


async def test_a_card_payment_goes_from_session_to_captured(shop: Shop) -> None:
    async with shop.following(Latest()) as live:
        await live.until_caught_up()
        created = await shop.create()
        assert created.session.payment_session_data
        assert created.payment.state == PaymentState.PAYMENT_STATE_AWAITING_BUYER
        await shop.buyer(Step.APPROVE, later=0)
        assert await live.until(2) == [CREATED, AUTHORIZED]
        authorized = await shop.read()
        assert authorized.state == PaymentState.PAYMENT_STATE_AUTHORIZED
        assert amounts(authorized) == (4200, 4200, 0)
        await shop.antom.timeline.advance(60)
        assert await live.until(3) == [CREATED, AUTHORIZED, CAPTURED]
    payment = await shop.read()
    assert payment == live.events[-1].payment
    assert amounts(payment) == (4200, 4200, 4200)
    assert payment.payment_id == shop.payment_id()
    assert [event.payment_version for event in live.events] == [1, 2, 3]
    assert {delivery.state for delivery in shop.antom.deliveries} == {"ACKNOWLEDGED"}


@pytest.mark.parametrize("order", ["CAPTURE_FIRST", "SAME_INSTANT"])
async def test_news_of_payment_and_capture_come_in_any_order(shop: Shop, order: str) -> None:
    await shop.create()
    await shop.buyer(Step.APPROVE, capture=captured(order))
    async with shop.following(Earliest()) as follower:
        told = await follower.until(3)
    assert told[0] == CREATED
    assert sorted(news for news, _, _ in told[1:]) == ["CAPTURE_SUCCEEDED", "PAYMENT_AUTHORIZED"]
    payment = await shop.read()
    assert payment.state == PaymentState.PAYMENT_STATE_SUCCEEDED
    assert amounts(payment) == (4200, 4200, 4200)
    assert len(payment.captures) == 1


async def test_a_declined_payment_is_an_answer_and_not_an_error(shop: Shop) -> None:
    await shop.create()
    await shop.buyer(Step.APPROVE, card="4054692760174822")  # the sandbox's declined Visa
    async with shop.following(Earliest(), final_states_only=True) as follower:
        assert await follower.until(1) == [("PAYMENT_FAILED", "FAILED", "NOTIFICATION")]
    again = await shop.create()
    assert again.payment.state == PaymentState.PAYMENT_STATE_FAILED
    assert again.payment.result_code == "DO_NOT_HONOR"
    assert not again.HasField("session")


async def test_a_pending_payment_waits_for_its_result(shop: Shop) -> None:
    await shop.create()
    await shop.buyer(Step.PENDING)
    assert (await shop.read()).state == PaymentState.PAYMENT_STATE_PROCESSING
    await shop.buyer(Step.APPROVE)
    async with shop.following(Earliest()) as follower:
        told = await follower.until(4)
    assert told == [
        CREATED,
        ("PAYMENT_PENDING", "PROCESSING", "NOTIFICATION"),
        AUTHORIZED,
        CAPTURED,
    ]


async def test_a_wallet_payment_is_paid_without_a_capture(shop: Shop) -> None:
    await shop.create(payment_method_type="GCASH")
    await shop.buyer(Step.APPROVE)
    async with shop.following(Earliest()) as follower:
        told = await follower.until(2)
    assert told == [CREATED, ("PAYMENT_SUCCEEDED", "SUCCEEDED", "NOTIFICATION")]
    payment = await shop.read()
    assert amounts(payment) == (4200, 0, 4200)
    assert not payment.captures


def payment_result(shop: Shop, payment_request_id: str, amount: Money) -> dict[str, Any]:
    return {
        "notifyType": "PAYMENT_RESULT",
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"},
        "paymentRequestId": payment_request_id,
        "paymentId": shop.payment_id(payment_request_id),
        "paymentAmount": {"currency": amount.currency_code, "value": str(amount.minor_units)},
        "paymentCreateTime": "2026-01-02T11:04:06+08:00",
        "paymentTime": "2026-01-02T11:05:00+08:00",
    }


def capture_result(shop: Shop, payment_request_id: str, amount: Money) -> dict[str, Any]:
    return {
        "notifyType": "CAPTURE_RESULT",
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."},
        "captureRequestId": f"capture-request-of-{payment_request_id}",
        "paymentId": shop.payment_id(payment_request_id),
        "captureId": f"capture-of-{payment_request_id}",
        "captureAmount": {"currency": amount.currency_code, "value": str(amount.minor_units)},
        "captureTime": "2026-01-02T11:06:00+08:00",
    }


async def test_a_signed_notification_of_another_amount_never_leads_to_authorized(
    shop: Shop,
) -> None:
    wrong = {
        "more": Money(currency_code="SGD", minor_units=4201),
        "less": Money(currency_code="SGD", minor_units=420),
        "dollars": Money(currency_code="USD", minor_units=4200),
    }
    for payment_request_id, amount in wrong.items():
        await shop.create(payment_request_id)
        assert await shop.notify(payment_result(shop, payment_request_id, amount)) == 200
        async with shop.following(Earliest(), payment_request_ids=[payment_request_id]) as follower:
            told = await follower.until(2)
            assert told == [CREATED, ("AMOUNT_MISMATCH", "AWAITING_BUYER", "NOTIFICATION")]
            assert follower.events[1].reported_amount == amount
            # The true notification contradicts the false one: only Antom's own answer decides.
            await shop.buyer(Step.APPROVE, payment_request_id, later=0)
            payment = await shop.read(payment_request_id)
            assert payment.state == PaymentState.PAYMENT_STATE_AWAITING_BUYER
            await shop.read(payment_request_id, fresh=True)
            told = await follower.until(3)
        assert told[2] == ("PAYMENT_AUTHORIZED", "AUTHORIZED", "INQUIRY")


async def test_a_signed_capture_of_another_amount_never_leads_to_succeeded(shop: Shop) -> None:
    wrong = {
        "more": Money(currency_code="SGD", minor_units=4201),
        "dollars": Money(currency_code="USD", minor_units=4200),
    }
    for payment_request_id, amount in wrong.items():
        await shop.create(payment_request_id)
        await shop.buyer(Step.APPROVE, payment_request_id, later=0)
        assert await shop.notify(capture_result(shop, payment_request_id, amount)) == 200
        async with shop.following(Earliest(), payment_request_ids=[payment_request_id]) as follower:
            told = await follower.until(3)
        assert told == [CREATED, AUTHORIZED, ("AMOUNT_MISMATCH", "AUTHORIZED", "NOTIFICATION")]
        assert amounts(await shop.read(payment_request_id)) == (4200, 4200, 0)


async def test_from_each_cursor_a_stream_brings_exactly_the_rest(shop: Shop) -> None:
    cursors = [((await shop.create()).cursor, 1)]
    async with shop.following(Earliest()) as live:
        await live.until(1)
        await shop.buyer(Step.APPROVE, later=0)
        await live.until(2)
        await shop.antom.timeline.advance(60)
        await live.until(3)
        answer = await shop.payments.get_payment(payment_request_id="pay-1")
        cursors += [*live.cursors, (answer.cursor, 3)]
    assert {done for _, done in cursors} >= {1, 2, 3}
    for cursor, done in cursors:
        async with shop.following(AfterCursor(cursor)) as follower:
            assert await follower.until_caught_up() == live.events[done:]


async def test_what_an_inquiry_tells_first_a_late_notification_does_not_tell_again(
    database_url: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with local_antom() as (antom, antom_url):
        chosen = settings(
            tmp_path,
            database_url=database_url,
            antom_url=antom_url,
            notification_address=f"127.0.0.1:{port}",
            notify_url=f"http://127.0.0.1:{port}{PATH}",
        )
        async with grpc_server(chosen) as server, caller(server.port) as payments:
            shop = Shop(payments, antom, chosen)
            await shop.create()
            await shop.buyer(Step.APPROVE)
            assert {delivery.state for delivery in antom.deliveries} == {"WAITING"}
            assert (await shop.read(fresh=True)).state == PaymentState.PAYMENT_STATE_SUCCEEDED
            async with notification_receiver(chosen):
                await antom.timeline.advance(180)
            assert {delivery.state for delivery in antom.deliveries} == {"ACKNOWLEDGED"}
            async with shop.following(Earliest()) as follower:
                told = [named(event) for event in await follower.until_caught_up()]
    assert told == [
        CREATED,
        ("PAYMENT_AUTHORIZED", "AUTHORIZED", "INQUIRY"),
        ("CAPTURE_SUCCEEDED", "SUCCEEDED", "INQUIRY"),
    ]


async def test_a_follower_goes_on_where_it_was_when_the_server_comes_back(
    database_url: str, tmp_path: Path
) -> None:
    async with local_antom() as (antom, antom_url), contextlib.AsyncExitStack() as running:
        chosen = settings(tmp_path, database_url=database_url, antom_url=antom_url)
        _, port = await running.enter_async_context(notification_receiver(chosen))
        notify_url = f"http://127.0.0.1:{port}{PATH}"
        chosen = chosen.model_copy(update={"notify_url": notify_url})
        async with contextlib.AsyncExitStack() as first:
            server = await first.enter_async_context(grpc_server(chosen))
            payments = await running.enter_async_context(caller(server.port))
            shop = Shop(payments, antom, chosen)
            stored = MemoryCursorStore()
            follower = await running.enter_async_context(
                shop.following(Earliest(), cursor_store=stored)
            )
            await shop.create()
            await follower.until(1)
        # What the sidecar commits meanwhile waits in the log.
        await shop.buyer(Step.APPROVE)
        address = Address("127.0.0.1", server.port)
        async with grpc_server(chosen.model_copy(update={"grpc_address": address})):
            assert await follower.until(3) == [CREATED, AUTHORIZED, CAPTURED]
            assert len({event.event_id for event in follower.events}) == 3
            assert stored.cursor


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """The spans of all parts that ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    yield lambda: list(exporter.get_finished_spans())
    provider.shutdown()


async def test_the_callers_trace_is_in_payment_and_events_and_notifications_link_to_it(
    shop: Shop, spans: Callable[[], list[ReadableSpan]]
) -> None:
    callers_trace = 0x0AF7651916CD43DD8448EB211C80319C
    context = trace.SpanContext(
        callers_trace, 0xB7AD6B7169203331, is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    with trace.use_span(trace.NonRecordingSpan(context)):
        created = await shop.create()
    await shop.buyer(Step.APPROVE)
    async with shop.following(Earliest()) as follower:
        await follower.until(3)
    assert created.payment.traceparent.split("-")[1] == f"{callers_trace:032x}"
    assert {event.traceparent for event in follower.events} == {created.payment.traceparent}

    told = [span for span in spans() if span.name == f"POST {PATH}"]
    assert [link.context.trace_id for span in told for link in span.links] == [callers_trace] * 2
    own = {f"{span.context.trace_id:032x}" for span in told if span.context}
    appended = [event.append_traceparent.split("-")[1] for event in follower.events]
    assert appended[0] == f"{callers_trace:032x}"
    assert set(appended[1:]) == own
    assert len(own | {appended[0]}) == 3
    asked = [span for span in spans() if "createPaymentSession" in span.name]
    assert [span.context.trace_id for span in asked if span.context] == [callers_trace]
