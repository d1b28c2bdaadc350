"""What becomes of a call to Antom, by what comes back; over real sockets, with real signatures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from antom.golden import (
    FOLDER,
    MODELLED,
    SANDBOX_CLIENT_ID,
    SEED,
    compact,
    private_key,
    public_key,
    sample,
)
from antom.wires import Behaviour, Server, Visit, free_port, serving
from antom_payments import telemetry
from antom_payments.antom import AntomClient, InquiryAnswer, open_client
from antom_payments.antom.client import MAX_ATTEMPTS
from antom_payments.antom.signing import Signer, Verifier
from antom_payments.antom.wire import Budgets, open_wire
from antom_payments.errors import (
    AntomError,
    AntomRefused,
    AntomUnavailable,
    AntomUntrusted,
    NewPaymentRequestIdNeeded,
    OutcomeUnknown,
)
from antom_payments.fact import Outcome
from antom_payments.session import Session

NOW = datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)
RESPONSE_TIME = "2026-03-02T17:30:00+08:00"
CREATE = "/ams/sandbox/api/v1/payments/createPaymentSession"
INQUIRY = "/ams/sandbox/api/v1/payments/inquiryPayment"
REQUEST = compact(sample(SEED / "01_createPaymentSession_request.json"))
SESSION = (SEED / "02_createPaymentSession_response.json").read_bytes()
PAID = (SEED / "05_inquiryPayment_response_success_transactions_null.json").read_bytes()


def _result(status: str, code: str, **fields: Any) -> bytes:
    result = {"resultStatus": status, "resultCode": code, "resultMessage": "a message"}
    return compact({"result": result} | fields)


def _signed(
    body: bytes, *, client_id: str = SANDBOX_CLIENT_ID, key: str = "antom_private", **headers: str
) -> Behaviour:
    """Antom's answer with that body, signed; ``headers`` by attribute name replace its own."""

    async def behaviour(visit: Visit) -> None:
        signer = Signer(private_key(key), client_id)
        path = visit.request.path
        own = {
            "client-id": client_id,
            "response-time": RESPONSE_TIME,
            "signature": signer.signature_header("POST", path, RESPONSE_TIME, body),
        }
        replaced = {name.replace("_", "-"): value for name, value in headers.items()}
        await visit.answer(body, {name: text for name, text in (own | replaced).items() if text})

    return behaviour


def _unsigned(body: bytes, **headers: str) -> Behaviour:
    async def behaviour(visit: Visit) -> None:
        await visit.answer(body, {name.replace("_", "-"): text for name, text in headers.items()})

    return behaviour


async def _hangs_up(visit: Visit) -> None:
    await visit.hang_up()


async def _fails(visit: Visit) -> None:
    await visit.answer(b"<html>502</html>", status="500 Oops")


@dataclass
class Pauses:
    """The pauses between attempts, taken without waiting."""

    asked: list[float] = field(default_factory=list)
    highest: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)

    def jitter(self, lowest: float, highest: float) -> float:
        assert lowest == 0
        self.highest.append(highest)
        return highest / 2


@asynccontextmanager
async def _antom(
    *behaviours: Behaviour, pauses: Pauses | None = None, budgets: Budgets | None = None
) -> AsyncIterator[tuple[AntomClient, Server]]:
    async with serving(*behaviours) as server, open_wire(server.origin(), budgets=budgets) as wire:
        yield _client(wire, pauses or Pauses()), server


def _client(wire: Any, pauses: Pauses) -> AntomClient:
    return AntomClient(
        wire,
        Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID),
        Verifier([public_key("antom_public")]),
        now=lambda: NOW,
        sleep=pauses.sleep,
        jitter=pauses.jitter,
    )


async def _create(client: AntomClient) -> Session:
    return await client.create_payment_session(REQUEST, budget_seconds=20)


async def _inquire(client: AntomClient, payment_request_id: str = "paymentRequestId01") -> Any:
    return await client.inquire_payment(
        merchant_account="shop", payment_request_id=payment_request_id, budget_seconds=20
    )


async def _error(
    *behaviours: Behaviour, call: Callable[[AntomClient], Any] = _create
) -> tuple[AntomError, Server]:
    async with _antom(*behaviours) as (client, server):
        with pytest.raises(AntomError) as failed:
            await call(client)
    return failed.value, server


# What is sent.


async def test_the_seeds_session_goes_and_comes_unchanged() -> None:
    async with _antom(_signed(SESSION)) as (client, server):
        session = await _create(client)
    expected = sample(SEED / "02_createPaymentSession_response.json")
    assert session.payment_session_data == expected["paymentSessionData"]
    assert session.payment_session_id == expected["paymentSessionId"]
    assert session.payment_session_expiry_time == datetime(2023, 4, 6, 3, 28, 49, tzinfo=UTC)
    [request] = server.requests
    assert request.body == REQUEST
    assert request.line == f"POST {CREATE} HTTP/1.1"


async def test_a_request_is_signed_over_its_path_and_bytes() -> None:
    async with _antom(_signed(SESSION)) as (client, server):
        await _create(client)
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
    async with serving(_signed(SESSION)) as server:
        signer = Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID)
        verifier = Verifier([public_key("antom_public")])
        async with open_client(server.origin(), signer, verifier) as client:
            await _create(client)
    sent = int(server.requests[0].headers["request-time"]) / 1000
    assert abs(sent - datetime.now(UTC).timestamp()) < 60


# What comes back.


async def test_the_seeds_inquiry_is_answered_with_its_fact() -> None:
    async with _antom(_signed(PAID)) as (client, server):
        answer = await _inquire(client)
    assert server.requests[0].path == INQUIRY
    assert json.loads(server.requests[0].body) == sample(SEED / "04_inquiryPayment_request.json")
    [fact] = answer.facts
    assert (fact.merchant_account, fact.outcome) == ("shop", Outcome.SUCCEEDED)


@pytest.mark.parametrize("name", ["Signature", "SIGNATURE"])
async def test_header_names_may_come_in_any_case(name: str) -> None:
    async def titled(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        signature = signer.signature_header("POST", visit.request.path, RESPONSE_TIME, SESSION)
        headers = {name: signature, "Client-Id": SANDBOX_CLIENT_ID, "RESPONSE-TIME": RESPONSE_TIME}
        await visit.answer(SESSION, headers)

    async with _antom(titled) as (client, _):
        assert await _create(client)


async def test_either_of_antoms_keys_is_accepted_during_a_replacement() -> None:
    async with serving(_signed(SESSION)) as server, open_wire(server.origin()) as wire:
        client = AntomClient(
            wire,
            Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID),
            Verifier([public_key("merchant_public"), public_key("antom_public")]),
        )
        assert await _create(client)


async def test_an_unknown_payment_is_an_answer_and_not_an_error() -> None:
    async with _antom(_signed(_result("F", "ORDER_NOT_EXIST"))) as (client, server):
        answer = await _inquire(client)
    assert answer == InquiryAnswer(exists=False, result_code="ORDER_NOT_EXIST")
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["no_pay_options", "param_illegal"])
async def test_a_signed_refusal_is_final_and_never_repeated(name: str) -> None:
    body = (MODELLED / f"createPaymentSession_response_{name}.json").read_bytes()
    error, server = await _error(_signed(body))
    assert isinstance(error, AntomRefused)
    assert error.result_code == name.upper()
    assert not error.was_sent_before
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "code", ["ORDER_IS_CLOSED", "ORDER_IS_CANCELED", "REPEAT_REQ_INCONSISTENT"]
)
async def test_a_used_up_id_needs_a_new_one(code: str) -> None:
    error, server = await _error(_signed(_result("F", code)))
    assert isinstance(error, NewPaymentRequestIdNeeded)
    assert error.result_code == code
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "code", ["INVALID_SIGNATURE", "SIGNATURE_INVALID", "KEY_NOT_FOUND", "CLIENT_INVALID"]
)
async def test_a_refusal_of_our_key_says_nothing_about_the_payment(code: str) -> None:
    for behaviour in (_signed(_result("F", code)), _unsigned(_result("F", code))):
        for call in (_create, _inquire):
            error, server = await _error(behaviour, call=call)
            assert isinstance(error, AntomUntrusted)
            assert error.result_code == code
            assert len(server.requests) == 1


async def test_an_inquiry_that_antom_refuses_concludes_nothing() -> None:
    error, server = await _error(_signed(_result("F", "ACCESS_DENIED")), call=_inquire)
    assert isinstance(error, OutcomeUnknown)
    assert error.result_code == "ACCESS_DENIED"
    assert len(server.requests) == 1


# What cannot be trusted.


def _unsigned_vector(name: str) -> dict[str, Any]:
    found = json.loads((FOLDER / "signing" / "responses.json").read_text())["unsigned_responses"]
    return dict(next(response for response in found if response["name"] == name))


async def test_unsigned_responses_are_treated_as_the_vectors_say() -> None:
    bodies = {
        name: _unsigned_vector(name).get("body", SESSION.decode()).encode()
        for name in ("unsigned_S", "unsigned_F_invalid_signature", "unsigned_U", "http_500_html")
    }
    success, _ = await _error(_unsigned(bodies["unsigned_S"]))
    assert isinstance(success, AntomUntrusted)
    assert success.result_code == ""
    failure, _ = await _error(_unsigned(bodies["unsigned_F_invalid_signature"]))
    assert isinstance(failure, AntomUntrusted)
    assert failure.result_code == "INVALID_SIGNATURE"
    unknown, server = await _error(_unsigned(bodies["unsigned_U"]))
    assert isinstance(unknown, OutcomeUnknown)
    assert unknown.result_code == "UNKNOWN_EXCEPTION"
    assert len(server.requests) == MAX_ATTEMPTS
    broken, _ = await _error(_fails)
    assert isinstance(broken, OutcomeUnknown)
    for half in ({"response_time": ""}, {"signature": ""}):
        error, _ = await _error(_signed(SESSION, **half))
        assert isinstance(error, AntomUntrusted)


@pytest.mark.parametrize(
    "behaviour",
    [
        _unsigned(SESSION),
        _unsigned(_result("F", "PARAM_ILLEGAL")),
        _unsigned(b"<html>captive portal</html>"),
        _unsigned(b""),
        _unsigned(SESSION, client_id=SANDBOX_CLIENT_ID),
        _unsigned(SESSION, response_time=RESPONSE_TIME, client_id=SANDBOX_CLIENT_ID),
        _signed(SESSION, client_id="5J5XSU7Y2Y182W01981"),
        _signed(SESSION, client_id=SANDBOX_CLIENT_ID, **{"client-id": ""}),
        _signed(SESSION, **{"client-id": f"{SANDBOX_CLIENT_ID}, {SANDBOX_CLIENT_ID}"}),
        _signed(SESSION, key="merchant_private"),
        _signed(SESSION, response_time="2026-03-02T17:30:01+08:00"),
        _signed(SESSION, signature="algorithm=RSA256,keyVersion=1,signature=AAAA"),
        _signed(SESSION, signature="garbage"),
    ],
    ids=[
        *("unsigned S", "unsigned F", "html", "nothing", "client id only", "time only"),
        *("another client id", "no client id", "two client ids", "our own key"),
        *("another time", "another signature", "no signature"),
    ],
)
@pytest.mark.parametrize("call", [_create, _inquire])
async def test_what_antom_did_not_sign_concludes_nothing_and_is_not_repeated(
    behaviour: Behaviour, call: Callable[[AntomClient], Any]
) -> None:
    error, server = await _error(behaviour, call=call)
    assert isinstance(error, AntomUntrusted)
    assert len(server.requests) == 1


async def test_an_answer_altered_by_one_byte_is_not_trusted() -> None:
    async def altering(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        signature = signer.signature_header("POST", visit.request.path, RESPONSE_TIME, PAID)
        headers = {
            "client-id": SANDBOX_CLIENT_ID,
            "response-time": RESPONSE_TIME,
            "signature": signature,
        }
        await visit.answer(PAID.replace(b"4200", b"4201"), headers)

    error, _ = await _error(altering, call=_inquire)
    assert isinstance(error, AntomUntrusted)


async def test_an_answer_to_another_operation_is_not_trusted() -> None:
    """The path is signed: a session's answer cannot pass for an inquiry's."""

    async def crossing(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        headers = {
            "client-id": SANDBOX_CLIENT_ID,
            "response-time": RESPONSE_TIME,
            "signature": signer.signature_header("POST", CREATE, RESPONSE_TIME, PAID),
        }
        await visit.answer(PAID, headers)

    error, _ = await _error(crossing, call=_inquire)
    assert isinstance(error, AntomUntrusted)


async def test_an_answer_about_another_payment_is_not_trusted() -> None:
    async def call(client: AntomClient) -> Any:
        return await _inquire(client, "another")

    error, server = await _error(_signed(PAID), call=call)
    assert isinstance(error, AntomUntrusted)
    assert len(server.requests) == 1


async def test_a_code_that_nobody_vouches_for_is_repeated_only_when_it_is_a_code() -> None:
    error, _ = await _error(_unsigned(_result("F", "4111 1111 1111 1111")))
    assert str(error) == "Antom's answer cannot be trusted"


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b'{"a":1,"a":2}', b"{}", b'{"result":{"resultStatus":"S"}}'],
)
async def test_a_signed_answer_that_cannot_be_understood_concludes_nothing(body: bytes) -> None:
    error, _ = await _error(_signed(body))
    assert isinstance(error, OutcomeUnknown)


async def test_an_inquiry_whose_amount_cannot_be_read_concludes_nothing() -> None:
    error, _ = await _error(_signed(PAID.replace(b'"4200"', b"42.00")), call=_inquire)
    assert isinstance(error, OutcomeUnknown)


# What is repeated.


@pytest.mark.parametrize(
    "first",
    [
        _hangs_up,
        _fails,
        _signed(_result("U", "UNKNOWN_EXCEPTION")),
        _signed((MODELLED / "gateway_error_traffic.json").read_bytes()),
        _unsigned((MODELLED / "createPaymentSession_response_unknown.json").read_bytes()),
    ],
    ids=["cut", "500", "U", "throttled", "unsigned U"],
)
@pytest.mark.parametrize(("call", "last"), [(_create, SESSION), (_inquire, PAID)])
async def test_an_unknown_outcome_is_repeated_with_the_same_bytes(
    first: Behaviour, call: Callable[[AntomClient], Any], last: bytes
) -> None:
    async with _antom(first, first, _signed(last)) as (client, server):
        assert await call(client)
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1


async def test_repetitions_are_jittered_fully_grow_and_end() -> None:
    pauses = Pauses()
    async with _antom(_fails, pauses=pauses) as (client, server):
        with pytest.raises(OutcomeUnknown):
            await _create(client)
    assert pauses.highest == [0.2, 0.4, 0.8, 1.6, 2.0]
    assert pauses.asked == [0.1, 0.2, 0.4, 0.8]
    assert len(server.requests) == MAX_ATTEMPTS == 5


async def test_the_callers_time_ends_the_repetitions() -> None:
    pauses = Pauses()
    async with _antom(_fails, pauses=pauses) as (client, server):
        with pytest.raises(OutcomeUnknown):
            await client.create_payment_session(REQUEST, budget_seconds=0.15)
    assert len(server.requests) <= 2
    assert pauses.asked in ([], [0.1])


async def test_without_time_nothing_is_sent() -> None:
    async with _antom(_signed(SESSION)) as (client, server):
        for budget_seconds in (0, -1):
            with pytest.raises(AntomUnavailable):
                await client.create_payment_session(REQUEST, budget_seconds=budget_seconds)
    assert server.requests == []


async def test_a_failed_connection_is_repeated_and_stays_certain() -> None:
    pauses = Pauses()
    async with open_wire(f"http://127.0.0.1:{free_port()}") as wire:
        with pytest.raises(AntomUnavailable):
            await _create(_client(wire, pauses))
        assert len(pauses.asked) == MAX_ATTEMPTS - 1
        with pytest.raises(AntomUnavailable):
            await _inquire(_client(wire, pauses))


async def test_one_unknown_outcome_is_not_forgotten_when_later_connections_fail() -> None:
    async with serving(_hangs_up) as server, open_wire(server.origin()) as wire:
        pauses = Pauses()
        client = _client(wire, pauses)
        elsewhere = free_port()

        async def sleep(seconds: float) -> None:
            # From now on nobody listens.
            wire._http.base_url = f"http://127.0.0.1:{elsewhere}"
            await pauses.sleep(seconds)

        client._sleep = sleep
        with pytest.raises(OutcomeUnknown):
            await _create(client)
    assert len(server.requests) == 1
    assert len(pauses.asked) == MAX_ATTEMPTS - 1


async def test_a_refusal_after_an_unknown_outcome_says_so() -> None:
    error, server = await _error(_hangs_up, _signed(_result("F", "PROCESS_FAIL")))
    assert isinstance(error, AntomRefused)
    assert error.was_sent_before
    assert len(server.requests) == 2


async def test_a_call_can_be_cancelled_between_attempts() -> None:
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with serving(_fails) as server, open_wire(server.origin()) as wire:
        client = _client(wire, Pauses())
        client._sleep = sleep
        call = asyncio.ensure_future(_create(client))
        await waiting.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(server.requests) == 1


async def test_a_call_can_be_cancelled_while_it_is_out() -> None:
    async def silent(visit: Visit) -> None:
        await visit.until_left()

    async with _antom(silent) as (client, server):
        call = asyncio.ensure_future(_create(client))
        await server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 5)
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
    async with _antom(_hangs_up, _fails, _signed(SESSION)) as (client, server):
        await _create(client)
    cut, failed, done = spans.get_finished_spans()
    for attempt, span in enumerate((cut, failed, done)):
        assert span.name == "antom createPaymentSession"
        assert span.kind is SpanKind.CLIENT
        assert (
            dict(span.attributes or {}).items()
            >= {
                "http.request.method": "POST",
                "http.request.resend_count": attempt,
                "server.address": "127.0.0.1",
                "server.port": server.port,
                "antom.operation": "createPaymentSession",
            }.items()
        )
        assert not span.events
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
        async with _antom(_signed(SESSION)) as (client, server):
            await _create(client)
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
        _unsigned(secret),
        _signed(secret),
        _signed(secret, key="merchant_private"),
    ):
        error, _ = await _error(behaviour)
        said.append(repr(error) + str(error) + repr(error.__cause__))
    output = capsys.readouterr()
    everything = "".join(said) + caplog.text + output.out + output.err
    assert "antom_" in everything  # something was logged
    for planted in ("hunter2", "4111111111111111", "yourBuyerId", "algorithm=RSA256"):
        assert planted not in everything
