"""What callers may ask for, and what is refused by the path of the field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as some

from antom_payments.errors import InvalidRequest
from antom_payments.event_stream import AfterCursor, AtTime, Earliest, Latest, Snapshot
from antom_payments.grpc_api import requests
from antom_payments.grpc_api.session_requests import session_request as session_request_of
from antom_payments.money import Money
from antom_payments.payment import EventType
from antom_payments.payment_event import EventFilter
from antom_payments.v1 import payment_event_pb2, payment_pb2
from antom_payments.v1 import payment_service_pb2 as pb

TOO_LATE = Timestamp(seconds=253402300800)
"""The first second of the year 10000."""


def filled(message: Message) -> Message:
    """The message with every field set, to something of its own."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["key"] = "value"
        elif field.is_repeated and not field.message_type:
            getattr(message, field.name).append(field.name)
        elif field.is_repeated:
            filled(getattr(message, field.name).add())
        elif field.message_type and field.message_type.full_name == "google.protobuf.Timestamp":
            getattr(message, field.name).FromDatetime(datetime(2026, 3, 2, 10, 0))
        elif field.message_type:
            filled(getattr(message, field.name))
        elif field.type == descriptor.FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, field.name)
        else:
            setattr(message, field.name, 1)
    return message


def session_request(**changes: Any) -> pb.CreateSessionRequest:
    request = pb.CreateSessionRequest()
    filled(request)
    for path, value in changes.items():
        if value is None:
            request.ClearField(path)  # type: ignore[arg-type]
        else:
            getattr(request, path).CopyFrom(value)
    return request


def texts_of(value: object) -> set[str]:
    """Every text in a domain object."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, tuple):
        return set().union(*map(texts_of, value))
    slots = getattr(type(value), "__slots__", ())
    return set().union(*(texts_of(getattr(value, slot)) for slot in slots))


def test_every_field_of_a_session_request_reaches_the_domain() -> None:
    asked = session_request_of(session_request())
    strings = {
        field.name
        for message in _messages(pb.CreateSessionRequest.DESCRIPTOR)
        for field in message.fields
        if field.type == field.TYPE_STRING
    }
    # Amounts share one type with the settlement's currency code, maps are not objects.
    assert strings - texts_of(asked) == {"key", "value"}
    assert asked.metadata == {"key": "value"}
    assert asked.payment_amount == Money("currency_code", 1)
    assert asked.capture_mode == "AUTOMATIC"
    assert asked.is_authorization is True
    assert asked.payment_session_expiry_time == datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    assert asked.order.goods[0].goods_quantity == 1
    card = asked.payment_method.card
    assert card is not None
    assert (card.is_3ds_authentication, card.enable_authentication_upgrade) == (True, True)
    assert card.is_card_on_file is True


def _messages(root: descriptor.Descriptor) -> list[descriptor.Descriptor]:
    inner = [field.message_type for field in root.fields if field.message_type]
    return [root, *(found for message in inner for found in _messages(message))]


def test_what_is_not_said_stays_unsaid() -> None:
    bare = pb.CreateSessionRequest(payment_amount=payment_pb2.Money(), order={}, payment_method={})
    asked = session_request_of(bare)
    assert asked.is_authorization is None
    assert asked.capture_mode == ""
    assert asked.payment_session_expiry_time is None
    assert asked.env is None
    assert (asked.order.buyer, asked.order.shipping, asked.order.order_amount) == (None,) * 3
    assert asked.payment_method.card is None


def _fields(refused: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        refused()
    return [violation.field for violation in error.value.violations]


def test_all_missing_parts_of_a_session_request_are_named_at_once() -> None:
    assert _fields(lambda: session_request_of(pb.CreateSessionRequest())) == [
        "payment_amount",
        "order",
    ]


def test_an_unknown_capture_mode_is_refused() -> None:
    request = session_request()
    request.payment_factor.capture_mode = 77  # type: ignore[assignment]
    assert _fields(lambda: session_request_of(request)) == ["payment_factor.capture_mode"]


@pytest.mark.parametrize(
    "time", [TOO_LATE, Timestamp(seconds=-62135596801), Timestamp(nanos=-1), Timestamp(nanos=10**9)]
)
def test_times_out_of_range_are_refused_by_path(time: Timestamp) -> None:
    request = session_request(payment_session_expiry_time=time)
    request.order.buyer.buyer_registration_time.CopyFrom(time)
    assert _fields(lambda: session_request_of(request)) == [
        "order.buyer.buyer_registration_time",
        "payment_session_expiry_time",
    ]


@given(some.integers(-(2**63), 2**63 - 1), some.integers(-(2**31), 2**31 - 1))
def test_no_timestamp_breaks_the_conversion(seconds: int, nanos: int) -> None:
    request = session_request(payment_session_expiry_time=Timestamp(seconds=seconds, nanos=nanos))
    try:
        time = session_request_of(request).payment_session_expiry_time
    except InvalidRequest:
        return
    assert time is not None
    assert time.tzinfo is UTC


@pytest.mark.parametrize("key", ["payment_request_id", "payment_id", "reference_order_id"])
def test_a_payment_is_named_by_one_of_its_ids(key: str) -> None:
    request = pb.GetPaymentRequest(merchant_account="shop", **{key: "x-1"})  # type: ignore[arg-type]
    asked = requests.payment_key(request)
    assert (asked.merchant_account, getattr(asked, key)) == ("shop", "x-1")
    assert texts_of(asked) == {"shop", "x-1", ""}


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a\x00b", "é", "a\n"])
def test_ids_that_no_payment_can_have_are_refused(text: str) -> None:
    for key in ("payment_request_id", "payment_id", "reference_order_id"):
        request = pb.GetPaymentRequest(**{key: text})  # type: ignore[arg-type]
        assert _fields(lambda request=request: requests.payment_key(request)) == [key]  # type: ignore[misc]


def test_a_read_without_a_key_or_with_an_unknown_mode_is_refused() -> None:
    request = pb.GetPaymentRequest(read_mode=9)  # type: ignore[arg-type]
    assert _fields(lambda: requests.payment_key(request)) == ["key", "read_mode"]


@pytest.mark.parametrize(
    ("mode", "fresh"),
    [(pb.READ_MODE_UNSPECIFIED, False), (pb.READ_MODE_STORED, False), (pb.READ_MODE_FRESH, True)],
)
def test_reads_are_of_what_is_stored_unless_fresh_is_asked_for(
    mode: pb.ReadMode.ValueType, fresh: bool
) -> None:
    assert requests.wants_fresh(pb.GetPaymentRequest(read_mode=mode)) is fresh


def test_a_stream_starts_where_it_is_told() -> None:
    request = pb.StreamPaymentEventsRequest
    starts = {
        AfterCursor("c"): request(after_cursor="c"),
        Earliest(): request(earliest=request.Earliest()),
        Latest(): request(latest=request.Latest()),
        Snapshot(): request(snapshot=request.Snapshot()),
        AtTime(datetime(2026, 3, 2, tzinfo=UTC)): request(at_time=Timestamp(seconds=1_772_409_600)),
    }
    assert {
        requests.stream_request(asked, checkpoint_seconds=15).start for asked in starts.values()
    } == set(starts)


def test_a_stream_without_a_start_is_refused_rather_than_started_somewhere() -> None:
    assert _fields(
        lambda: requests.stream_request(pb.StreamPaymentEventsRequest(), checkpoint_seconds=15)
    ) == ["start"]


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(-62_135_596_801, 0), (253_402_300_800, 0), (0, -1)]
)
def test_a_time_that_is_none_is_refused(seconds: int, nanos: int) -> None:
    request = pb.StreamPaymentEventsRequest(at_time=Timestamp(seconds=seconds, nanos=nanos))
    assert _fields(lambda: requests.stream_request(request, checkpoint_seconds=15)) == ["at_time"]


def test_the_checkpoint_interval_is_the_servers_unless_a_shorter_one_is_asked_for() -> None:
    assert _stream().checkpoint_seconds == 15
    for duration, seconds in (
        (Duration(seconds=1), 1),
        (Duration(seconds=2, nanos=500_000_000), 2.5),
        (Duration(seconds=15), 15),
    ):
        assert _stream(checkpoint_interval=duration).checkpoint_seconds == seconds


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(0, 0), (0, 999_999_999), (15, 1), (-1, 0), (2, -1), (2, 2_000_000_000), (10**12, 0)],
)
def test_an_interval_out_of_bounds_is_refused_with_the_bounds(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _stream(checkpoint_interval=Duration(seconds=seconds, nanos=nanos))
    violation = refused.value.violations[0]
    assert violation.field == "checkpoint_interval"
    assert violation.description == "must be from 1 to 15 seconds"


def test_a_rate_is_zero_or_more() -> None:
    assert _stream().events_per_second == 0
    assert _stream(max_events_per_second=7).events_per_second == 7
    assert _fields(lambda: _stream(max_events_per_second=-1)) == ["max_events_per_second"]


@pytest.mark.parametrize("cursor", ["", "x" * 513])
def test_a_cursor_that_can_be_none_is_refused(cursor: str) -> None:
    request = pb.StreamPaymentEventsRequest(after_cursor=cursor)
    assert _fields(lambda: requests.stream_request(request, checkpoint_seconds=15)) == [
        "after_cursor"
    ]


def _stream(**asked: Any) -> requests.StreamRequest:
    request = pb.StreamPaymentEventsRequest(after_cursor="c", **asked)
    return requests.stream_request(request, checkpoint_seconds=15)


def _filter(**asked: Any) -> EventFilter:
    return _stream(**asked).event_filter


def test_an_empty_filter_is_no_restriction() -> None:
    assert _filter() == EventFilter()


def test_filters_arrive() -> None:
    asked = _filter(
        merchant_accounts=["shop", "shop"],
        payment_request_ids=["order-1"],
        event_types=[payment_event_pb2.PAYMENT_EVENT_TYPE_CAPTURE_FAILED],
        final_states_only=True,
    )
    assert asked.merchant_accounts == {"shop"}
    assert asked.payment_request_ids == {"order-1"}
    assert asked.types == {EventType.CAPTURE_FAILED}
    assert asked.final_states_only


@pytest.mark.parametrize("kind", [0, 99])
def test_unspecified_and_unknown_event_types_are_refused(kind: int) -> None:
    assert _fields(lambda: _stream(event_types=[kind])) == ["event_types"]


def test_long_filters_are_refused() -> None:
    many = [f"order-{n}" for n in range(101)]
    assert _fields(lambda: _stream(payment_request_ids=many, merchant_accounts=many)) == [
        "merchant_accounts",
        "payment_request_ids",
    ]


def test_ids_in_a_filter_are_refused_by_their_place() -> None:
    assert _fields(lambda: _stream(payment_request_ids=["order-1", "a\x00b"])) == [
        "payment_request_ids[1]"
    ]


@pytest.mark.parametrize("text", ["x" * 65, "a b", "a\x00b", "é"])
def test_names_that_no_merchant_can_have_are_refused(text: str) -> None:
    session = session_request()
    session.merchant_account = text
    read = pb.GetPaymentRequest(merchant_account=text, payment_id="x")
    assert _fields(lambda: session_request_of(session)) == ["merchant_account"]
    assert _fields(lambda: requests.payment_key(read)) == ["merchant_account"]
    assert _fields(lambda: _stream(merchant_accounts=[text])) == ["merchant_accounts[0]"]
