"""Calls of the Node client: what it sends, what it takes, and what it refuses to send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_pb2 import PAYMENT_STATE_AUTHORIZED, Money, Payment
from antom_payments.v1.payment_service_pb2 import (
    CreateSessionResponse,
    GetPaymentRequest,
    GetPaymentResponse,
    ListPaymentEventsRequest,
    ListPaymentEventsResponse,
    ListPaymentsRequest,
    ListPaymentsResponse,
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


@pytest.mark.parametrize("moment", ["2026-11-27T12:00:00.250Z", "1969-12-31T23:59:59.750Z"])
async def test_a_date_is_a_time_to_the_millisecond(driver: Driver, moment: str) -> None:
    service = ScriptedService(answers=[CreateSessionResponse()])
    async with scripted_server(service) as server:
        request = {"payment_expiry_time": {"$date": moment}}
        await driver.call(server.port, "createSession", request)
    sent = service.requests[0].payment_expiry_time.ToDatetime(UTC)
    assert sent == datetime.fromisoformat(moment)


async def test_of_the_ways_to_name_a_payment_one_is_taken(driver: Driver) -> None:
    failure = await driver.failure(1, "getPayment", A_KEY | {"payment_id": "p"})
    assert failure["name"] == "TypeError"
    assert failure["message"] == (
        "GetPaymentRequest: payment_request_id and payment_id: only one key is taken"
    )


async def test_lists_are_read_page_by_page(driver: Driver) -> None:
    shown = Payment(payment_request_id="pay-1", version=3)
    service = ScriptedService(
        answers=[
            ListPaymentsResponse(payments=[shown], next_page_token="n", cursor="c"),
            ListPaymentEventsResponse(events=[PaymentEvent(event_id="e")], cursor="d"),
        ]
    )
    asked = {"states": ["PAYMENT_STATE_AUTHORIZED"], "page_size": 1}
    async with scripted_server(service) as server:
        page = await driver.call(server.port, "listPayments", asked)
        log = await driver.call(server.port, "listPaymentEvents", {"page_token": page["cursor"]})
    assert service.requests == [
        ListPaymentsRequest(states=[PAYMENT_STATE_AUTHORIZED], page_size=1),
        ListPaymentEventsRequest(page_token="c"),
    ]
    assert (page["payments"][0]["payment_request_id"], page["next_page_token"]) == ("pay-1", "n")
    assert (log["events"][0]["event_id"], log["cursor"]) == ("e", "d")


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
    "payment_amount.minor_units: true": {"payment_amount": MONEY | {"minor_units": True}},
    "payment_factor.is_authorization: false is no boolean": {
        "payment_factor": {"is_authorization": "false"}
    },
    "payment_factor.is_authorization: 1": {"payment_factor": {"is_authorization": 1}},
    "payment_factor.capture_mode: CaptureMode has no value 1": {
        "payment_factor": {"capture_mode": "1"}
    },
    "payment_factor: CARD is no plain object": {"payment_factor": "CARD"},
    "order.buyer:": {"order": {"buyer": ["b"]}},
    "order.goods:": {"order": {"goods": {"goods_name": "x"}}},
    "order.goods[0].goods_quantity: 1.5": {"order": {"goods": [{"goods_quantity": 1.5}]}},
    "order.goods[0].goods_quantity: 2147483648": {"order": {"goods": [{"goods_quantity": 2**31}]}},
    "payment_request_id: 42 is no string": {"payment_request_id": 42},
    "payment_amount: ": {"payment_amount": {"$date": "2026-11-27T12:00:00Z"}},
    "payment_expiry_time: ": {"payment_expiry_time": "2026-11-27T12:00:00Z"},
    "payment_expiry_time.seconds: NaN": {"payment_expiry_time": {"$date": "soon"}},
    "metadata: ": {"metadata": ["c-17"]},
    "metadata.cart: 17 is no string": {"metadata": {"cart": 17}},
    "constructor: ": {"constructor": {}},
}


@pytest.mark.parametrize("start", WRONG)
async def test_what_the_libraries_would_bend_is_refused_before_it_leaves(
    driver: Driver, start: str
) -> None:
    failure = await driver.failure(1, "createSession", WRONG[start])
    assert failure["name"] == "TypeError"
    assert failure["message"].startswith(start)
