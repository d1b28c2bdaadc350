"""Calls of the Node client: what it sends, what it takes, and what it refuses to send."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from antom_payments.v1.payment_pb2 import Money, Payment
from antom_payments.v1.payment_service_pb2 import (
    CreateSessionResponse,
    GetPaymentRequest,
    GetPaymentResponse,
)
from client.scripted import Refusal, ScriptedService, scripted_server
from client.tls import Authority
from node.driver import Driver, Json

A_KEY: Json = {"payment_request_id": "pay-1"}
ANSWER = GetPaymentResponse(cursor="c")
UNSAFE = 9_007_199_254_740_993
"""The first integer that a JavaScript number does not hold."""


@pytest.mark.parametrize("units", [UNSAFE, -UNSAFE, 2**63 - 1, -(2**63), 4200, 0])
async def test_64_bit_integers_keep_every_digit(driver: Driver, units: int) -> None:
    payment = Payment(amount=Money(currency_code="SGD", minor_units=units))
    service = ScriptedService(answers=[CreateSessionResponse(payment=payment)])
    request = {"payment_amount": {"currency_code": "SGD", "minor_units": str(units)}}
    async with scripted_server(service) as server:
        answer = await driver.call(server.port, "createSession", request)
    assert service.requests[0].payment_amount == payment.amount
    assert answer["payment"]["amount"]["minor_units"] == str(units)


async def test_what_is_not_there_is_null_and_empty_what_has_no_presence(driver: Driver) -> None:
    service = ScriptedService(answers=[CreateSessionResponse(payment=Payment())])
    async with scripted_server(service) as server:
        answer = await driver.call(server.port, "createSession", {})
    assert answer["session"] is None
    assert answer["payment"]["payment_id"] == ""


async def test_metadata_reaches_the_service(driver: Driver) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    service = ScriptedService(answers=[ANSWER])
    async with scripted_server(service) as server:
        how = {"metadata": {"traceparent": traceparent}}
        await driver.call(server.port, "getPayment", A_KEY, how=how)
    assert service.metadata[0]["traceparent"] == traceparent


async def test_tls_is_checked(driver: Driver) -> None:
    authority, stranger = Authority("127.0.0.1"), Authority("127.0.0.1")
    service = ScriptedService(answers=[ANSWER])
    async with scripted_server(service, credentials=authority.server_credentials()) as server:
        trusted, foreign = (one._certificate.decode() for one in (authority, stranger))
        answer = await driver.call(server.port, "getPayment", A_KEY, authority=trusted)
        refused = await driver.failure(
            *(server.port, "getPayment", A_KEY), authority=foreign, how={"timeoutMs": 300}
        )
    assert answer["cursor"] == "c"
    assert refused["code"] == "DEADLINE_EXCEEDED"
    assert len(service.requests) == 1


@pytest.mark.parametrize("domain", ["proxy.example", ""])
async def test_reasons_of_others_are_not_taken_for_ours(driver: Driver, domain: str) -> None:
    foreign = Refusal(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND", {"a": "b"}, domain=domain)
    async with scripted_server(ScriptedService(answers=[foreign])) as server:
        failure = await driver.failure(server.port, "getPayment", A_KEY)
    assert (failure["code"], failure["reason"], failure["metadata"]) == ("NOT_FOUND", "", {})


class Garbled(ScriptedService):
    """Its details are none."""

    async def GetPayment(  # noqa: N802 the contract's name
        self, _: GetPaymentRequest, context: Any
    ) -> GetPaymentResponse:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        raise AssertionError


async def test_garbled_details_are_none(driver: Driver) -> None:
    async with scripted_server(Garbled()) as server:
        failure = await driver.failure(server.port, "getPayment", A_KEY)
    assert (failure["code"], failure["reason"], failure["violations"]) == ("NOT_FOUND", "", [])


MONEY = {"currency_code": "SGD"}
WRONG: dict[str, Json] = {
    "paymentRequestId": {"paymentRequestId": "pay-1"},
    "payment_amount.minorUnits": {"payment_amount": {"minorUnits": "1"}},
    "order.goods[0].name": {"order": {"goods": [{"name": "x"}]}},
    "payment_factor.capture_mode": {"payment_factor": {"capture_mode": "SOMEHOW"}},
    "payment_amount.minor_units": {"payment_amount": MONEY | {"minor_units": 42.5}},
    "payment_amount.minor_units:": {"payment_amount": MONEY | {"minor_units": "42.00"}},
    "payment_amount.minor_units: 9223372036854775808": {
        "payment_amount": MONEY | {"minor_units": "9223372036854775808"}
    },
    "payment_amount.minor_units: 9007199254740992": {
        "payment_amount": MONEY | {"minor_units": 9007199254740993}
    },
}


@pytest.mark.parametrize("start", WRONG)
async def test_what_the_libraries_would_bend_is_refused_before_it_leaves(
    driver: Driver, start: str
) -> None:
    failure = await driver.failure(1, "createSession", WRONG[start])
    assert failure["name"] == "TypeError"
    assert failure["message"].startswith(start)
