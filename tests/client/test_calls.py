"""Unary calls: what they send, what they retry, and what they fail with."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as aio_health
from opentelemetry import baggage, context, trace

from antom_payments.client import (
    PLAINTEXT,
    SERVICE_CONFIG,
    Backoff,
    CallFailed,
    ConnectionClosed,
    Earliest,
    FieldViolation,
    InvalidRequest,
    NewPaymentRequestIdNeeded,
    NotFound,
    PaymentRequestIdReused,
    SessionRefused,
    TryAgain,
    connect,
)
from antom_payments.client.connection import Payments
from antom_payments.client.errors import failure_of
from antom_payments.v1 import payment_service_pb2
from antom_payments.v1.payment_pb2 import Payment
from antom_payments.v1.payment_service_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    GetPaymentResponse,
    ReadMode,
    ReportSdkEventRequest,
    ReportSdkEventResponse,
    Session,
)
from antom_payments.v1.sdk_event_pb2 import SdkEventCode, SdkNextStep
from client.scripted import Refusal, ScriptedService, message, say, scripted_server
from client.tls import Authority

Code = grpc.StatusCode
SERVICE = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]


async def failure_for(refusal: Refusal) -> tuple[ScriptedService, CallFailed]:
    """What a call fails with when the service answers with ``refusal`` every time."""
    service = ScriptedService(answers=[refusal] * 10)
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        with pytest.raises(CallFailed) as failed:
            await payments.create_session(CreateSessionRequest(payment_request_id="p"))
    return service, failed.value


async def test_a_session_is_created() -> None:
    answer = CreateSessionResponse(
        payment=Payment(payment_request_id="p"), session=Session(payment_session_id="s"), cursor="c"
    )
    service = ScriptedService(answers=[answer])
    request = CreateSessionRequest(payment_request_id="p")
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        assert await payments.create_session(request) == answer
    assert service.requests == [request]


@pytest.mark.parametrize("key", ["payment_request_id", "payment_id", "reference_order_id"])
@pytest.mark.parametrize(
    ("fresh", "mode"), [(False, ReadMode.READ_MODE_STORED), (True, ReadMode.READ_MODE_FRESH)]
)
async def test_a_payment_is_read_by_any_of_its_ids(key: str, fresh: bool, mode: int) -> None:
    answer = GetPaymentResponse(payment=Payment(payment_request_id="p"), cursor="c")
    service = ScriptedService(answers=[answer])
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        told = await payments.get_payment(**{key: "x"}, merchant_account="shop", fresh=fresh)
    assert told == answer
    (request,) = service.requests
    assert request.WhichOneof("key") == key
    assert getattr(request, key) == "x"
    assert (request.merchant_account, request.read_mode) == ("shop", mode)


async def test_an_event_of_the_client_sdk_is_passed_on_by_its_name_or_number() -> None:
    answer = ReportSdkEventResponse(next_step=SdkNextStep.SDK_NEXT_STEP_WAIT_FOR_RESULT)
    service = ScriptedService(answers=[answer] * 2)
    number = SdkEventCode.SDK_EVENT_CODE_SDK_PAYMENT_FAIL
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        for code in ("SDK_PAYMENT_FAIL", number):
            told = await payments.report_sdk_event(
                "p", code, payment_result_code="DO_NOT_HONOR", merchant_account="shop"
            )
            assert told == answer
        with pytest.raises(ValueError, match="SDK_NO_SUCH_CODE"):
            await payments.report_sdk_event("p", "SDK_NO_SUCH_CODE")
    assert (
        service.requests
        == [
            ReportSdkEventRequest(
                merchant_account="shop",
                payment_request_id="p",
                event_code=number,
                payment_result_code="DO_NOT_HONOR",
            )
        ]
        * 2
    )


@pytest.mark.parametrize("keys", [{}, {"payment_request_id": "p", "payment_id": "q"}])
async def test_a_payment_is_read_by_exactly_one_id(keys: dict[str, str]) -> None:
    async with connect("127.0.0.1:1", credentials=PLAINTEXT) as payments:
        with pytest.raises(ValueError, match="exactly one of payment_request_id, payment_id"):
            await payments.get_payment(**keys)


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal(Code.INVALID_ARGUMENT, "INVALID_REQUEST"), InvalidRequest),
        (Refusal(Code.NOT_FOUND, "MERCHANT_NOT_FOUND", {"merchant_account": "m"}), NotFound),
        (Refusal(Code.NOT_FOUND, "PAYMENT_NOT_FOUND"), NotFound),
        (Refusal(Code.ALREADY_EXISTS, "PAYMENT_REQUEST_ID_REUSED"), PaymentRequestIdReused),
        (Refusal(Code.ABORTED, "SESSION_IN_FLIGHT", {}, 1.5), TryAgain),
        (Refusal(Code.FAILED_PRECONDITION, "SESSION_REFUSED"), SessionRefused),
        (
            Refusal(Code.FAILED_PRECONDITION, "NEW_PAYMENT_REQUEST_ID_NEEDED"),
            NewPaymentRequestIdNeeded,
        ),
        (Refusal(Code.UNAVAILABLE, "OUTCOME_UNKNOWN", {}, 1.0), TryAgain),
        (Refusal(Code.RESOURCE_EXHAUSTED, "LIMIT_REACHED", {"limit": "unary"}, 0.5), TryAgain),
        (Refusal(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"), TryAgain),
        (Refusal(Code.INTERNAL, "INTERNAL", {"error_id": "5f0c2a6e"}), CallFailed),
        (Refusal(Code.FAILED_PRECONDITION, "A_REASON_OF_LATER"), CallFailed),
        (Refusal(Code.ABORTED, "A_REASON_OF_LATER"), TryAgain),
    ],
    ids=str,
)
async def test_failures_are_told_apart_by_what_to_do(
    refusal: Refusal, expected: type[CallFailed]
) -> None:
    _, failure = await failure_for(refusal)
    assert type(failure) is expected
    assert failure.code is refusal.code
    assert failure.reason == refusal.reason
    assert failure.metadata == refusal.metadata
    assert failure.retry_after_seconds == refusal.retry_after_seconds
    assert failure.message == "said no"


async def test_wrong_fields_are_named() -> None:
    _, failure = await failure_for(
        Refusal(
            Code.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            violations=[("order.goods[0].goods_name", "is required")],
        )
    )
    assert failure.violations == (FieldViolation("order.goods[0].goods_name", "is required"),)


async def test_reasons_of_others_on_the_way_are_not_taken_for_the_services() -> None:
    _, failure = await failure_for(
        Refusal(Code.FAILED_PRECONDITION, "SESSION_REFUSED", {"a": "b"}, domain="proxy.example")
    )
    assert type(failure) is CallFailed
    assert (failure.reason, failure.metadata) == ("", {})


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b""])
def test_garbled_details_leave_code_and_message(garbage: bytes) -> None:
    failure = failure_of(
        grpc.aio.AioRpcError(
            Code.NOT_FOUND,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(("grpc-status-details-bin", garbage)),
            details="gone",
        )
    )
    assert type(failure) is NotFound
    assert (failure.message, failure.reason, failure.violations) == ("gone", "", ())


async def test_lost_connections_are_retried_and_refusals_are_not() -> None:
    service, failure = await failure_for(Refusal(Code.UNAVAILABLE, "ANTOM_UNAVAILABLE"))
    assert (len(service.requests), type(failure)) == (4, TryAgain)
    for code in (Code.ABORTED, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.DEADLINE_EXCEEDED):
        service, _ = await failure_for(Refusal(code))
        assert len(service.requests) == 1


async def test_the_callers_time_is_kept() -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    service = ScriptedService()
    service.GetPayment = never  # type: ignore[method-assign]
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        with pytest.raises(TryAgain) as failed:
            await payments.get_payment(payment_id="x", timeout_seconds=0.1)
    assert failed.value.code is Code.DEADLINE_EXCEEDED


async def test_calls_and_streams_carry_the_callers_span_and_nothing_else_of_it() -> None:
    service = ScriptedService(answers=[GetPaymentResponse(), GetPaymentResponse()])
    parent = trace.SpanContext(
        *(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        trace_state=trace.TraceState([("vendor", "private")]),
    )
    async with (
        scripted_server(service) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        attached = context.attach(baggage.set_baggage("buyer", "private"))
        with trace.use_span(trace.NonRecordingSpan(parent)):
            await payments.get_payment(payment_id="x")
            with pytest.raises(CallFailed):
                await anext(payments.follow(Earliest()).batches())
        await payments.get_payment(payment_id="x")
        context.detach(attached)
    called, streamed, without = service.metadata
    expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert called["traceparent"] == streamed["traceparent"] == expected
    assert "traceparent" not in without
    for told in service.metadata:
        assert not {"tracestate", "baggage"} & set(told)
        assert "private" not in str(told)


async def test_a_connection_that_was_left_says_so() -> None:
    async with connect("127.0.0.1:1", credentials=PLAINTEXT) as payments:
        pass
    with pytest.raises(ConnectionClosed):
        await payments.get_payment(payment_id="x")


class GaveUp(Exception):
    """A follower that takes the first failure for the last."""


async def follow_once(payments: Payments) -> None:
    async def give_up(_: float) -> None:
        raise GaveUp

    async for _ in payments.follow(Earliest(), backoff=Backoff(sleep=give_up)):
        return


async def test_without_credentials_nothing_but_tls_with_a_trusted_certificate_will_do() -> None:
    authority = Authority("127.0.0.1")
    service = ScriptedService(answers=[GetPaymentResponse(cursor="c")])
    async with scripted_server(service, credentials=authority.server_credentials()) as server:
        async with connect(server.target) as payments:
            with pytest.raises(GaveUp):
                await follow_once(payments)
        async with connect(server.target, credentials=authority.channel_credentials()) as payments:
            assert (await payments.get_payment(payment_id="x")).cursor == "c"
    async with scripted_server(service) as server, connect(server.target) as payments:
        with pytest.raises(GaveUp):
            await follow_once(payments)
    assert len(service.requests) == 1


async def test_a_server_that_says_it_is_not_ready_gets_no_calls() -> None:
    health = aio_health.HealthServicer()
    await health.set(SERVICE.full_name, health_pb2.HealthCheckResponse.NOT_SERVING)
    service = ScriptedService(streams=[say(message("a", cursor="1"))])
    calls_before_ready = []

    async def get_ready(_: float) -> None:
        calls_before_ready.append(len(service.requests))
        await health.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)

    async with (
        scripted_server(service, health=health) as server,
        connect(server.target, credentials=PLAINTEXT) as payments,
    ):
        async for event in payments.follow(Earliest(), backoff=Backoff(sleep=get_ready)):
            assert event.event_id == "a"
            break
    assert set(calls_before_ready) == {0}
    assert len(service.requests) == 1


def test_the_service_config_retries_each_unary_method_by_name_and_no_other() -> None:
    config = json.loads(SERVICE_CONFIG)
    named = [name for entry in config["methodConfig"] for name in entry["name"]]
    assert {name["service"] for name in named} == {SERVICE.full_name}
    unary = {method.name for method in SERVICE.methods if not method.server_streaming}
    assert sorted(name["method"] for name in named) == sorted(unary)
    for entry in config["methodConfig"]:
        assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
        assert entry["retryPolicy"]["maxAttempts"] <= 5
        assert "hedgingPolicy" not in entry
    assert config["healthCheckConfig"] == {"serviceName": SERVICE.full_name}
