"""What callers see of payments and events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some

from antom_payments.grpc_api import convert, encode
from antom_payments.money import Money
from antom_payments.payment import Capture, CaptureState, EventType, Payment, PaymentState, Source
from antom_payments.payment_event import PaymentEvent
from antom_payments.sdk_event import SdkEventCode
from antom_payments.session import Session
from antom_payments.v1 import payment_event_pb2, payment_pb2, sdk_event_pb2
from antom_payments.v1 import payment_service_pb2 as pb

NOW = datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)
PAYMENT = Payment(
    merchant_account="shop-sg",
    payment_request_id="order-1-pay-1",
    amount=Money("SGD", 1250),
    reference_order_id="order-1",
    payment_method_type="CARD",
    capture_mode="MANUAL",
    capture_expected=False,
    create_time=NOW,
    update_time=NOW + timedelta(seconds=1),
    state=PaymentState.SUCCEEDED,
    version=3,
    payment_id="2026030219401",
    authorized_minor_units=1250,
    captured_minor_units=1200,
    refunded_minor_units=7,
    result_code="SUCCESS",
    captures=(Capture("C-1", "R-1", CaptureState.SUCCEEDED, Money("SGD", 1200), "SUCCESS", NOW),),
    payment_session_expiry_time=NOW + timedelta(hours=1),
    payment_create_time=NOW + timedelta(seconds=2),
    payment_time=NOW + timedelta(seconds=3),
    auth_expiry_time=NOW + timedelta(days=7),
    metadata={"cart": "7", "é": "ü"},
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
EVENT = PaymentEvent(
    event_id="e-1",
    type=EventType.CAPTURE_SUCCEEDED,
    payment=PAYMENT,
    state_before=PaymentState.AUTHORIZED,
    source=Source.NOTIFICATION,
    antom_time=NOW,
    notification_id="n-1",
    append_traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    result_code="SUCCESS",
    reported_amount=Money("USD", 1),
    capture_id="C-1",
    sdk_event_code=SdkEventCode.SDK_PAYMENT_FAIL,
    sequence=12,
    append_time=NOW + timedelta(seconds=4),
)


def untold(message: object) -> set[str]:
    """Fields that are not set."""
    return {
        field.name
        for field in message.DESCRIPTOR.fields  # type: ignore[attr-defined]
        if field.name not in {set_field.name for set_field, _ in message.ListFields()}  # type: ignore[attr-defined]
    }


def test_every_field_of_a_payment_an_event_and_a_session_is_told() -> None:
    event = convert.event_to_proto(EVENT)
    session = Session("data", "id", NOW, "https://antom.example")
    assert untold(event) == set()
    assert untold(event.payment) == set()
    assert untold(event.payment.captures[0]) == set()
    assert untold(convert.session_to_proto(session)) == set()


def test_values_arrive_as_they_were() -> None:
    told = convert.payment_to_proto(PAYMENT)
    assert told.state == payment_pb2.PAYMENT_STATE_SUCCEEDED
    assert told.capture_mode == payment_pb2.CAPTURE_MODE_MANUAL
    assert told.captured_amount == payment_pb2.Money(currency_code="SGD", minor_units=1200)
    assert told.create_time.ToDatetime(tzinfo=UTC) == NOW
    assert dict(told.metadata) == PAYMENT.metadata
    assert told.captures[0].state == payment_pb2.CAPTURE_STATE_SUCCEEDED


def test_what_is_not_known_is_absent_and_zero_amounts_have_their_currency() -> None:
    young = Payment(
        merchant_account="default",
        payment_request_id="order-1",
        amount=Money("JPY", 500),
        reference_order_id="order-1",
        payment_method_type="GCASH",
        capture_mode="",
        capture_expected=None,
        create_time=NOW,
        update_time=NOW,
    )
    told = convert.payment_to_proto(young)
    absent = ("capture_expected", "payment_time", "auth_expiry_time", "payment_session_expiry_time")
    assert not any(told.HasField(field) for field in absent)
    assert told.payment_id == ""
    assert told.capture_mode == payment_pb2.CAPTURE_MODE_UNSPECIFIED
    assert told.captured_amount == payment_pb2.Money(currency_code="JPY")


def test_every_value_of_the_domain_has_its_own_in_the_contract_and_the_other_way_round() -> None:
    for told, contract in (
        (convert.STATES, payment_pb2.PaymentState),
        (convert.CAPTURE_STATES, payment_pb2.CaptureState),
        (convert.EVENT_TYPES, payment_event_pb2.PaymentEventType),
        (convert.SOURCES, payment_event_pb2.EventSource),
        (convert.SDK_EVENT_CODES, sdk_event_pb2.SdkEventCode),
        (convert.NEXT_STEPS, sdk_event_pb2.SdkNextStep),
    ):
        assert sorted(told.values()) == sorted(set(contract.values()) - {0})  # type: ignore[attr-defined]


@given(some.lists(some.text(min_size=1, max_size=46), min_size=1, max_size=5))
def test_joined_responses_are_one_with_all_events_in_order_and_the_last_cursor(
    cursors: list[str],
) -> None:
    events = [replace(EVENT, event_id=f"e-{n}") for n in range(len(cursors))]
    joined = b"".join(encode(event, cursor) for event, cursor in zip(events, cursors, strict=True))
    response = pb.StreamPaymentEventsResponse.FromString(joined)
    assert [event.event_id for event in response.events] == [event.event_id for event in events]
    assert response.cursor == cursors[-1]
    assert response.WhichOneof("marker") is None


def test_a_checkpoint_tells_time_lag_and_cursor_and_no_events() -> None:
    data = convert.checkpoint("c", server_time=NOW, lag_seconds=1.5)
    response = pb.StreamPaymentEventsResponse.FromString(data)
    assert (response.cursor, len(response.events)) == ("c", 0)
    assert response.checkpoint.server_time.ToDatetime(tzinfo=UTC) == NOW
    assert response.checkpoint.lag.ToTimedelta() == timedelta(seconds=1.5)


def test_joined_payments_of_a_snapshot_are_one_response_with_the_last_cursor() -> None:
    payments = [replace(EVENT.payment, payment_request_id=f"order-{n}") for n in range(3)]
    joined = b"".join(encode(payment, f"c-{n}") for n, payment in enumerate(payments))
    response = pb.StreamPaymentEventsResponse.FromString(joined)
    assert list(response.payments) == [convert.payment_to_proto(payment) for payment in payments]
    assert (response.cursor, len(response.events)) == ("c-2", 0)
    assert response.WhichOneof("marker") is None


def test_a_checkpoint_within_a_snapshot_has_no_lag() -> None:
    data = convert.checkpoint("c", server_time=NOW, lag_seconds=None)
    assert not pb.StreamPaymentEventsResponse.FromString(data).checkpoint.HasField("lag")
    response = pb.StreamPaymentEventsResponse.FromString(convert.snapshot_end("c"))
    assert (response.cursor, response.WhichOneof("marker")) == ("c", "snapshot_end")


def test_the_caught_up_marker_is_told_apart_from_no_marker() -> None:
    response = pb.StreamPaymentEventsResponse.FromString(convert.caught_up("c"))
    assert (response.cursor, response.WhichOneof("marker")) == ("c", "caught_up")


def test_events_hold_no_session_data_and_no_person() -> None:
    words = ("session_data", "session_id", "buyer", "shipping", "payment_method_id", "email")
    fields = [
        *payment_event_pb2.PaymentEvent.DESCRIPTOR.fields_by_name,
        *payment_pb2.Payment.DESCRIPTOR.fields_by_name,
    ]
    assert not [field for field in fields if any(word in field for word in words)]
