"""What becomes of a call to Antom, by what comes back; over real sockets, with real signatures."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from antom.asking import (
    CREATE,
    INQUIRY,
    NOW,
    PAID,
    REQUEST,
    RESPONSE_TIME,
    SESSION,
    antom,
    create,
    error_of,
    fails,
    hangs_up,
    inquire,
    result,
    signed,
    unsigned,
)
from antom.golden import (
    MODELLED,
    SANDBOX_CLIENT_ID,
    SEED,
    compact,
    private_key,
    public_key,
    sample,
)
from antom.wires import Visit, serving
from antom_payments import telemetry
from antom_payments.antom import AntomClient, InquiryAnswer, open_client
from antom_payments.antom.messages import parse_time
from antom_payments.antom.signing import Signer, Verifier
from antom_payments.antom.wire import open_wire
from antom_payments.errors import (
    AntomRefused,
    AntomUntrusted,
    NewPaymentRequestIdNeeded,
    OutcomeUnknown,
)
from antom_payments.fact import Outcome

# What is sent.


async def test_the_seeds_session_goes_and_comes_unchanged() -> None:
    async with antom(signed(SESSION)) as (client, server):
        session = await create(client)
    expected = sample(SEED / "02_createPaymentSession_response.json")
    assert session.payment_session_data == expected["paymentSessionData"]
    assert session.payment_session_id == expected["paymentSessionId"]
    assert session.payment_session_expiry_time == datetime(2023, 4, 6, 3, 28, 49, tzinfo=UTC)
    [request] = server.requests
    assert request.body == REQUEST
    assert request.line == f"POST {CREATE} HTTP/1.1"


async def test_a_request_is_signed_over_its_path_and_bytes() -> None:
    async with antom(signed(SESSION)) as (client, server):
        await create(client)
    [request] = server.requests
    assert request.headers["request-time"] == str(int(NOW.timestamp() * 1000)) == "1772443800123"
    assert request.headers["client-id"] == SANDBOX_CLIENT_ID
    assert request.headers["content-type"] == "application/json; charset=UTF-8"
    Verifier([public_key("merchant_public")]).verify(
        method="POST",
        uri=request.path,
        client_id=request.headers["client-id"],
        time=request.headers["request-time"],
        body=request.body,
        signature_header=request.headers["signature"],
    )


async def test_a_client_with_a_pool_of_its_own_signs_with_the_present_time() -> None:
    async with serving(signed(SESSION)) as server:
        signer = Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID)
        verifier = Verifier([public_key("antom_public")])
        async with open_client(server.origin(), signer, verifier) as client:
            await create(client)
    sent = int(server.requests[0].headers["request-time"]) / 1000
    assert abs(sent - datetime.now(UTC).timestamp()) < 60


# What comes back.


async def test_the_seeds_inquiry_is_answered_with_its_fact() -> None:
    async with antom(signed(PAID)) as (client, server):
        answer = await inquire(client)
    assert server.requests[0].path == INQUIRY
    assert json.loads(server.requests[0].body) == sample(SEED / "04_inquiryPayment_request.json")
    [fact] = answer.facts
    assert (fact.merchant_account, fact.outcome) == ("shop", Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-02T17:30:00+08:00", datetime(2026, 3, 2, 9, 30, tzinfo=UTC)),
        ("2026-03-02T09:30:00Z", datetime(2026, 3, 2, 9, 30, tzinfo=UTC)),
        ("1772443800000", datetime(2026, 3, 2, 9, 30, tzinfo=UTC)),
        ("2026-03-02T09:30:00", None),
        ("half-past-nine", None),
    ],
)
@pytest.mark.parametrize("body", [PAID, result("F", "ORDER_NOT_EXIST")], ids=["paid", "unknown"])
async def test_an_answer_has_the_time_that_antom_signed_with_it(
    body: bytes, text: str, time: datetime | None
) -> None:
    async def answers(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        signature = signer.signature_header("POST", visit.request.path, text, body)
        headers = {"client-id": SANDBOX_CLIENT_ID, "response-time": text, "signature": signature}
        await visit.answer(body, headers)

    async with antom(answers) as (client, _):
        answer = await inquire(client)
    assert answer.time == time


@pytest.mark.parametrize("name", ["Signature", "SIGNATURE"])
async def test_header_names_may_come_in_any_case(name: str) -> None:
    async def titled(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        signature = signer.signature_header("POST", visit.request.path, RESPONSE_TIME, SESSION)
        headers = {name: signature, "Client-Id": SANDBOX_CLIENT_ID, "RESPONSE-TIME": RESPONSE_TIME}
        await visit.answer(SESSION, headers)

    async with antom(titled) as (client, _):
        assert await create(client)


async def test_either_of_antoms_keys_is_accepted_during_a_replacement() -> None:
    async with serving(signed(SESSION)) as server, open_wire(server.origin()) as wire:
        client = AntomClient(
            wire,
            Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID),
            Verifier([public_key("merchant_public"), public_key("antom_public")]),
        )
        assert await create(client)


async def test_an_unknown_payment_is_an_answer_and_not_an_error() -> None:
    async with antom(signed(result("F", "ORDER_NOT_EXIST"))) as (client, server):
        answer = await inquire(client)
    assert answer == InquiryAnswer(
        exists=False, time=parse_time(RESPONSE_TIME), result_code="ORDER_NOT_EXIST"
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["no_pay_options", "param_illegal"])
async def test_a_signed_refusal_is_final_and_never_repeated(name: str) -> None:
    body = (MODELLED / f"createPaymentSession_response_{name}.json").read_bytes()
    error, server = await error_of(signed(body))
    assert isinstance(error, AntomRefused)
    assert error.result_code == name.upper()
    assert not error.was_sent_before
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "code", ["ORDER_IS_CLOSED", "ORDER_IS_CANCELED", "REPEAT_REQ_INCONSISTENT"]
)
async def test_a_used_up_id_needs_a_new_one(code: str) -> None:
    error, server = await error_of(signed(result("F", code)))
    assert isinstance(error, NewPaymentRequestIdNeeded)
    assert error.result_code == code
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "code", ["INVALID_SIGNATURE", "SIGNATURE_INVALID", "KEY_NOT_FOUND", "CLIENT_INVALID"]
)
async def test_a_refusal_of_our_key_says_nothing_about_the_payment(code: str) -> None:
    for behaviour in (signed(result("F", code)), unsigned(result("F", code))):
        for call in (create, inquire):
            error, server = await error_of(behaviour, call=call)
            assert isinstance(error, AntomUntrusted)
            assert error.result_code == code
            assert len(server.requests) == 1


async def test_an_inquiry_that_antom_refuses_concludes_nothing() -> None:
    error, server = await error_of(signed(result("F", "ACCESS_DENIED")), call=inquire)
    assert isinstance(error, OutcomeUnknown)
    assert error.result_code == "ACCESS_DENIED"
    assert len(server.requests) == 1


# What is seen of it.


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return exporter


async def test_each_attempt_is_a_client_span_without_secrets(spans: InMemorySpanExporter) -> None:
    async with antom(hangs_up, fails, signed(SESSION)) as (client, server):
        await create(client)
    told = cut, failed, done = spans.get_finished_spans()
    for attempt, span in enumerate(told):
        assert span.name == "POST /ams/sandbox/api/v1/payments/createPaymentSession"
        assert span.kind is SpanKind.CLIENT
        assert (
            dict(span.attributes or {}).items()
            >= {
                "http.request.method": "POST",
                "url.full": f"http://127.0.0.1:{server.port}{span.name.removeprefix('POST ')}",
                "server.address": "127.0.0.1",
                "server.port": server.port,
                "antom.operation": "createPaymentSession",
            }.items()
        )
        assert not span.events
        assert dict(span.attributes or {}).get("http.request.resend_count", 0) == attempt
    assert [dict(span.attributes or {}).get("http.response.status_code") for span in told] == [
        *(None, 500, 200)
    ]
    assert cut.status.status_code is failed.status.status_code is StatusCode.ERROR
    assert dict(cut.attributes or {})["error.type"] == "OutcomeUnknown"
    assert dict(done.attributes or {})["antom.result_code"] == "SUCCESS"
    assert dict(done.attributes or {})["antom.result_status"] == "S"
    assert done.status.status_code is StatusCode.UNSET
    seen = str([span.to_json() for span in spans.get_finished_spans()])
    assert "signature" not in seen.lower()
    assert "yourBuyerId" not in seen
    assert sample(SEED / "02_createPaymentSession_response.json")["paymentSessionId"] not in seen


async def test_our_trace_is_never_told_to_antom(spans: InMemorySpanExporter) -> None:
    with telemetry.tracer.start_as_current_span("ours"):
        async with antom(signed(SESSION)) as (client, server):
            await create(client)
    names = set(server.requests[0].headers)
    assert not names & {"traceparent", "tracestate", "baggage", "b3"}
    assert len(spans.get_finished_spans()) == 2


async def test_logs_and_errors_hold_neither_bodies_nor_signatures(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def garbage(visit: Visit) -> None:
        await visit.send(
            b"HTTP/1.1 200 OK\r\nX: 4111111111111111 hunter2\r\nContent-Length: x\r\n\r\n"
        )

    secret = compact({"result": {"resultStatus": "S"}, "paymentSessionData": "hunter2"})
    said = []
    for behaviour in (
        garbage,
        unsigned(secret),
        signed(secret),
        signed(secret, key="merchant_private"),
    ):
        error, _ = await error_of(behaviour)
        said.append(repr(error) + str(error) + repr(error.__cause__))
    output = capsys.readouterr()
    everything = "".join(said) + caplog.text + output.out + output.err
    assert "antom_" in everything  # something was logged
    for planted in ("hunter2", "4111111111111111", "yourBuyerId", "algorithm=RSA256"):
        assert planted not in everything
