"""Sessions for Antom's hosted page, and where what callers send ends up."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from sqlalchemy import select

from antom_payments.antom import AntomClient
from antom_payments.store import PaymentStore
from antom_payments.store.tables import metadata
from antom_payments.v1 import payment_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from grpc_api.sessions import card_session
from grpc_api.test_every_field import every_field
from grpc_api.world import refusal_of, serving


def hosted_session(**changes: Any) -> pb.CreateSessionRequest:
    request = card_session(product_scene="CHECKOUT_PAYMENT", **changes)
    request.ClearField("payment_method")
    request.ClearField("payment_factor")
    return request


async def test_a_session_of_the_hosted_page_says_where_to_send_the_buyer(
    store: PaymentStore, antom: AntomClient
) -> None:
    request = hosted_session()
    async with serving(store, antom=antom) as served:
        created = await served.stub.CreateSession(request)
        again = await served.stub.CreateSession(request)
        following = await served.follow().until_events(1)
    assert created.session.normal_url.startswith("http")
    assert created.payment.state == payment_pb2.PAYMENT_STATE_AWAITING_BUYER
    assert created.payment.payment_method_type == ""
    assert not created.payment.HasField("capture_expected")
    assert again == created
    assert created.session.normal_url not in str(following.events)


async def test_without_the_hosted_page_a_session_needs_a_payment_method(
    store: PaymentStore, antom: AntomClient
) -> None:
    request = hosted_session()
    request.product_scene = ""
    async with serving(store, antom=antom) as served:
        refusal = await refusal_of(served.stub.CreateSession(request))
    assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["payment_method"])


NOT_PERSONAL = {
    *("p-1", "o-1", "SGD", "CARD", "AUTOMATIC", "default", "never", "sent"),
    *("payment_request_id", "default", "CAPTURE_MODE_AUTOMATIC"),
}
"""What payments and events carry: ids, amount, method, capture mode, the caller's own metadata."""
SHORT = 5
"""Characters of texts that may be anywhere by chance."""


def texts_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(texts_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(texts_in, value))
    return {value} if isinstance(value, str) else set()


async def test_what_callers_send_is_stored_encrypted_and_told_to_nobody(
    store: PaymentStore, antom: AntomClient
) -> None:
    """Of a request with every field, only what payments carry is readable in the database."""
    request = every_field()
    request.ClearField("payment_session_expiry_time")
    request.ClearField("payment_expiry_time")
    sent = json_format.MessageToDict(request, preserving_proto_field_name=True)
    secrets = {
        text for text in texts_in(sent) - NOT_PERSONAL if len(text) > SHORT and "00:00" not in text
    }
    assert {"card-token-0001", "ada@example.com", "11144477735", "Lovelace"} <= secrets
    async with serving(store, antom=antom) as served:
        created = await served.stub.CreateSession(request)
        following = await served.follow().until_events(1)
    stored = ""
    for table in metadata.sorted_tables:
        result = await store._database.read(
            lambda connection, table=table: connection.execute(select(table))
        )
        stored += "".join(str(tuple(row)) for row in result)
    assert "p-1" in stored
    seen = stored + str(following.events) + str(created.payment)
    assert {text for text in secrets if text in seen} == set()
