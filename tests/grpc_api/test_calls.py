"""CreateSession and GetPayment from a caller's socket to the database and a local Antom."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from antom_payments.antom import AntomClient, BreakerOptions
from antom_payments.grpc_api import Deadlines
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_event_pb2, payment_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from grpc_api.conftest import HeldWire
from grpc_api.sessions import card_session, new_id
from grpc_api.world import PATIENCE, Served, options, refusal_of, serving
from scripted_antom import INQUIRY, SESSION, antom_client, cut, scripted_antom, session


async def test_a_session_is_created_and_its_event_is_streamed_after_no_cursor_but_the_given(
    store: PaymentStore, antom: AntomClient
) -> None:
    async with serving(store, antom=antom) as served:
        created = await served.stub.CreateSession(card_session())
        following = await served.follow().until_events(1)
        after = served.follow(pb.StreamPaymentEventsRequest(after_cursor=created.cursor))
        await after.until_marker("caught_up")

    assert created.payment.state == payment_pb2.PAYMENT_STATE_AWAITING_BUYER
    assert created.session.payment_session_data
    assert created.session.payment_session_expiry_time.seconds > 0
    [event] = following.events
    assert event.type == payment_event_pb2.PAYMENT_EVENT_TYPE_SESSION_CREATED
    assert event.payment == created.payment
    assert dict(event.payment.metadata) == {"cart": "7"}
    assert following.responses[0].cursor == created.cursor
    assert after.events == []


async def test_repeating_a_call_returns_the_stored_session(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    request = card_session()
    async with serving(store, antom=antom) as served:
        first = await served.stub.CreateSession(request)
        second = await served.stub.CreateSession(request)
    assert first == second
    assert wire.requests == 1


async def test_an_id_used_for_another_amount_is_refused(
    store: PaymentStore, antom: AntomClient
) -> None:
    payment_request_id = new_id()
    other = payment_pb2.Money(currency_code="SGD", minor_units=99)
    async with serving(store, antom=antom) as served:
        await served.stub.CreateSession(card_session(payment_request_id))
        refusal = await refusal_of(
            served.stub.CreateSession(card_session(payment_request_id, payment_amount=other))
        )
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "PAYMENT_REQUEST_ID_REUSED"
    assert refusal.info.metadata["payment_request_id"] == payment_request_id
    assert refusal.info.metadata["differing"] == "payment_amount"


async def test_wrong_fields_are_named_by_the_path_that_the_caller_knows(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    request = card_session(payment_redirect_url="nowhere")
    request.order.goods.add(reference_goods_id="g-1")
    async with serving(store, antom=antom) as served:
        refusal = await refusal_of(served.stub.CreateSession(request))
        empty = await refusal_of(served.stub.CreateSession(pb.CreateSessionRequest()))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == {"payment_redirect_url", "order.goods[0].goods_name"}
    assert empty.fields == ["payment_amount", "order"]
    assert wire.requests == 0


async def test_a_payment_is_read_by_each_of_its_ids_with_a_cursor_to_follow_it_from(
    store: PaymentStore, antom: AntomClient
) -> None:
    request = card_session()
    async with serving(store, antom=antom) as served:
        created = await served.stub.CreateSession(request)
        for key in (
            {"payment_request_id": request.payment_request_id},
            {"reference_order_id": request.order.reference_order_id},
        ):
            read = await served.stub.GetPayment(pb.GetPaymentRequest(**key))
            assert read.payment == created.payment
            assert read.cursor == created.cursor


async def test_a_fresh_read_asks_antom(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    request = card_session()
    async with serving(store, antom=antom) as served:
        await served.stub.CreateSession(request)
        await served.stub.GetPayment(
            pb.GetPaymentRequest(
                payment_request_id=request.payment_request_id, read_mode=pb.READ_MODE_FRESH
            )
        )
    assert wire.requests == 2


async def test_a_payment_that_is_not_there_is_not_found(store: PaymentStore) -> None:
    async with serving(store) as served:
        refusal = await refusal_of(
            served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id="nothing"))
        )
        stranger = await refusal_of(
            served.stub.GetPayment(
                pb.GetPaymentRequest(merchant_account="stranger", payment_request_id="nothing")
            )
        )
        without_key = await refusal_of(served.stub.GetPayment(pb.GetPaymentRequest()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")
    assert (stranger.code, stranger.reason) == (grpc.StatusCode.NOT_FOUND, "MERCHANT_NOT_FOUND")
    assert without_key.fields == ["key"]


async def _is_awaiting(served: Served, payment_request_id: str) -> bool:
    read = await served.stub.GetPayment(pb.GetPaymentRequest(payment_request_id=payment_request_id))
    return bool(read.payment.state == payment_pb2.PAYMENT_STATE_AWAITING_BUYER)


async def test_a_caller_that_hangs_up_does_not_abort_what_has_left_for_antom(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    request = card_session()
    wire.hold()
    async with serving(store, antom=antom) as served:
        following = served.follow()
        await following.until_marker("caught_up")
        call = served.stub.CreateSession(request)
        async with asyncio.timeout(PATIENCE):
            asking = asyncio.ensure_future(call)
            await wire.asked.wait()
            call.cancel()
            await asyncio.wait({asking})
        # The handler is over, Antom's answer is not recorded yet.
        assert not await _is_awaiting(served, request.payment_request_id)
        wire.release()
        await following.until_events(1)
        assert await _is_awaiting(served, request.payment_request_id)


async def test_a_call_without_a_deadline_ends_in_time_and_what_has_left_is_recorded(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    request = card_session()
    wire.hold()
    short = options(deadlines=Deadlines(unary_seconds=0.5, margin_seconds=0.1))
    async with serving(store, short, antom=antom) as served:
        refusal = await refusal_of(served.stub.CreateSession(request))
        assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert refusal.reason == "DEADLINE_EXCEEDED"
        wire.release()
        await served.follow().until_events(1)
        assert await _is_awaiting(served, request.payment_request_id)


async def test_the_callers_deadline_is_answered_before_it_passes(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    """The reason arrives: the caller's own library would only say that time is up."""
    wire.hold()
    roomy = options(deadlines=Deadlines(margin_seconds=1))
    async with serving(store, roomy, antom=antom) as served:
        # A tenth of it is kept: a busy machine may be late for the first, not for the longest.
        for seconds in (2, 4, 8):
            request = card_session(f"pay-{seconds}")
            refusal = await refusal_of(served.stub.CreateSession(request, timeout=seconds))
            if refusal.reason:
                break
        wire.release()
    assert refusal.reason == "DEADLINE_EXCEEDED"


async def test_a_call_that_comes_with_no_time_left_does_nothing(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    late = options(deadlines=Deadlines(unary_seconds=0))
    async with serving(store, late, antom=antom) as served:
        refusal = await refusal_of(served.stub.CreateSession(card_session()))
    assert refusal.reason == "DEADLINE_EXCEEDED"
    assert wire.requests == 0


async def test_a_second_call_with_the_same_id_while_one_is_under_way_is_told_to_come_back(
    store: PaymentStore, antom: AntomClient, wire: HeldWire
) -> None:
    request = card_session()
    wire.hold()
    async with serving(store, antom=antom) as served:
        first = asyncio.ensure_future(served.stub.CreateSession(request))
        await wire.asked.wait()
        refusal = await refusal_of(served.stub.CreateSession(request))
        wire.release()
        await first
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "SESSION_IN_FLIGHT")
    assert refusal.retry_seconds > 0


async def test_while_antom_is_left_alone_sessions_fail_fast_and_reads_and_streams_go_on(
    store: PaymentStore,
) -> None:
    known = card_session()
    touchy = BreakerOptions(failures=1)
    async with (
        scripted_antom() as antom,
        antom_client(antom.origin, breaker=touchy) as client,
        serving(store, antom=client) as served,
    ):
        antom.will(SESSION, session(), cut)
        antom.will(INQUIRY, cut)
        following = served.follow()
        created = await served.stub.CreateSession(known)
        in_doubt = await refusal_of(served.stub.CreateSession(card_session()))
        refusals = [await refusal_of(served.stub.CreateSession(card_session())) for _ in range(3)]
        fresh = pb.GetPaymentRequest(
            payment_request_id=known.payment_request_id, read_mode=pb.READ_MODE_FRESH
        )
        await refusal_of(served.stub.GetPayment(fresh))
        assert antom.operations == [SESSION, SESSION, INQUIRY]
        assert await served.stub.CreateSession(known) == created
        read = await served.stub.GetPayment(
            pb.GetPaymentRequest(payment_request_id=known.payment_request_id)
        )
        await served.news.about("order-1")
        await following.until_events(2)
        assert antom.operations == [SESSION, SESSION, INQUIRY]
    assert (in_doubt.code, in_doubt.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
    for refusal in refusals:
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.reason == "ANTOM_UNAVAILABLE"
        assert 0 < refusal.retry_seconds <= in_doubt.retry_seconds <= 5
    assert read.payment == created.payment


async def test_a_message_above_the_limit_is_refused(store: PaymentStore) -> None:
    async with serving(store) as served:
        refusal = await refusal_of(
            served.stub.CreateSession(card_session(metadata={"big": "x" * 300_000}))
        )
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("text", ["\x00", "x" * 70_000])
async def test_names_that_no_merchant_can_have_are_refused(store: PaymentStore, text: str) -> None:
    async with serving(store) as served:
        refusal = await refusal_of(
            served.stub.GetPayment(
                pb.GetPaymentRequest(merchant_account=text, payment_request_id="order-1")
            )
        )
    assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["merchant_account"])


HOSTILE = ["x" * 12_000, "x" * 200_000, "a." * 6_000, "4111111111111111 " * 1_000]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:4]}{len(text)}")
async def test_long_hostile_texts_are_refused_at_once_and_free_their_slots(
    store: PaymentStore, antom: AntomClient, text: str
) -> None:
    subscription = pb.StreamPaymentEventsRequest(
        latest=pb.StreamPaymentEventsRequest.Latest(), merchant_accounts=["default", text]
    )
    async with serving(store, antom=antom) as served:
        began = time.process_time()
        refusals = [
            await refusal_of(served.stub.CreateSession(card_session(merchant_account=text))),
            await refusal_of(served.stub.CreateSession(card_session(metadata={"cart": text}))),
            await refusal_of(served.stub.CreateSession(card_session(metadata={text: "7"}))),
            await refusal_of(
                served.stub.GetPayment(
                    pb.GetPaymentRequest(merchant_account=text, payment_id="P-1")
                )
            ),
            await served.follow(subscription).until_end(),
        ]
        assert time.process_time() - began < 2
        async with asyncio.timeout(PATIENCE):
            await served.server.admission.idle()
        assert (served.server.admission.unary, served.server.admission.streams) == (0, 0)
    for refusal in refusals:
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "INVALID_REQUEST"
        assert b"41111111" not in refusal.wire_bytes
    assert [refusal.fields for refusal in refusals] == [
        ["merchant_account"],
        ["metadata[cart]"] * len(refusals[1].fields),
        ["metadata"],
        ["merchant_account"],
        ["merchant_accounts[1]"],
    ]
