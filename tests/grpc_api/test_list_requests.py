"""What callers may ask of lists, and what is refused by the path of the field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from antom_payments.errors import InvalidRequest
from antom_payments.event_stream import AfterCursor, Earliest
from antom_payments.grpc_api.list_requests import event_list_request, payment_list_request
from antom_payments.payment import EventType, PaymentState
from antom_payments.payment_event import EventFilter
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, TimeRange
from antom_payments.v1 import payment_event_pb2, payment_pb2
from antom_payments.v1 import payment_service_pb2 as pb

SECOND = {"seconds": 1_772_443_800}
THE_SECOND = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def payments(**asked: Any) -> Any:
    return payment_list_request(pb.ListPaymentsRequest(**asked))


def events(**asked: Any) -> Any:
    return event_list_request(pb.ListPaymentEventsRequest(**asked))


def test_an_empty_request_is_everything_from_the_first_page_on() -> None:
    asked = payments()
    assert (asked.wanted, asked.order) == (PaymentFilter(), PaymentOrder.CREATE_TIME_DESC)
    assert (asked.page_size, asked.page_token) == (50, "")
    told = events()
    assert (told.start, told.event_filter, told.page_size) == (Earliest(), EventFilter(), 50)


def test_filters_arrive() -> None:
    asked = payments(
        merchant_accounts=["shop", "shop"],
        states=[payment_pb2.PAYMENT_STATE_FAILED],
        reference_order_id="order-1",
        create_time={"start_time": SECOND},
        update_time={"end_time": SECOND},
        order=pb.PAYMENT_ORDER_UPDATE_TIME_ASC,
    )
    assert asked.wanted == PaymentFilter(
        merchant_accounts=frozenset({"shop"}),
        states=frozenset({PaymentState.FAILED}),
        reference_order_id="order-1",
        create_time=TimeRange(start=THE_SECOND),
        update_time=TimeRange(end=THE_SECOND),
    )
    assert asked.order is PaymentOrder.UPDATE_TIME_ASC
    told = events(
        merchant_accounts=["shop"],
        payment_request_ids=["pay-1"],
        event_types=[payment_event_pb2.PAYMENT_EVENT_TYPE_CAPTURE_FAILED],
        final_states_only=True,
        page_token="c",
    )
    assert told.start == AfterCursor("c")
    assert told.event_filter == EventFilter(
        frozenset({"shop"}), frozenset({"pay-1"}), frozenset({EventType.CAPTURE_FAILED}), True
    )


@pytest.mark.parametrize(("size", "taken"), [(0, 50), (1, 1), (200, 200), (201, 200)])
def test_page_sizes_have_a_default_and_a_cap(size: int, taken: int) -> None:
    assert payments(page_size=size).page_size == taken
    assert events(page_size=size).page_size == taken


def test_what_a_token_is_bound_to_is_everything_but_page_and_size() -> None:
    one = payments(states=[payment_pb2.PAYMENT_STATE_FAILED], page_size=3, page_token="t")
    other = payments(states=[payment_pb2.PAYMENT_STATE_FAILED])
    assert one.list_id == other.list_id
    assert len(one.list_id) == 16
    # A field of a later version: this one does not know what it would narrow.
    later = pb.ListPaymentsRequest.FromString(b"\xa0\x06\x01")
    assert payment_list_request(later).list_id != payments().list_id


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("states", {"states": [0]}),
        ("states", {"states": [99]}),
        ("order", {"order": 99}),
        ("reference_order_id", {"reference_order_id": "a\x00b"}),
        ("create_time.end_time", {"create_time": {"start_time": SECOND, "end_time": {}}}),
        ("update_time.start_time", {"update_time": {"start_time": {"seconds": 1 << 40}}}),
    ],
)
def test_wrong_filters_of_payments_are_named(field: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        payments(**asked)
    assert [violation.field for violation in refused.value.violations] == [field]


@pytest.mark.parametrize("listed", [payments, events])
@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("merchant_accounts[1]", {"merchant_accounts": ["shop", "a b"]}),
        ("merchant_accounts", {"merchant_accounts": ["shop"] * 101}),
        ("page_size", {"page_size": -1}),
        ("page_token", {"page_token": "x" * 513}),
    ],
    ids=["merchant", "merchants", "size", "token"],
)
def test_wrong_fields_of_any_list_are_named(listed: Any, field: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        listed(**asked)
    assert [violation.field for violation in refused.value.violations] == [field]
