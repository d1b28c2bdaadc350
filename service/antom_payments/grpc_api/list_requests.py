"""From protobuf to the domain for lists, with the limits that are ours. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from antom_payments.event_stream import AfterCursor, Earliest, Start
from antom_payments.grpc_api.convert import STATES
from antom_payments.grpc_api.faults import Faults
from antom_payments.grpc_api.requests import MAX_CURSOR, MAX_FILTER_VALUES, event_filter
from antom_payments.listing import PaymentListRequest
from antom_payments.payment_event import EventFilter
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, TimeRange
from antom_payments.v1 import payment_service_pb2 as pb

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
"""Reading and converting so many holds the event loop for some 20 ms."""

_STATES = {number: state for state, number in STATES.items()}
_ORDERS = {
    pb.PAYMENT_ORDER_UNSPECIFIED: PaymentOrder.CREATE_TIME_DESC,
    pb.PAYMENT_ORDER_CREATE_TIME_DESC: PaymentOrder.CREATE_TIME_DESC,
    pb.PAYMENT_ORDER_UPDATE_TIME_ASC: PaymentOrder.UPDATE_TIME_ASC,
}


@dataclass(frozen=True, slots=True)
class EventListRequest:
    """A page of events as asked for."""

    start: Start
    event_filter: EventFilter
    """Not yet within what the caller may see."""
    page_size: int


def payment_list_request(request: pb.ListPaymentsRequest) -> PaymentListRequest:
    """What ListPayments is asked for; raises InvalidRequest."""
    faults = Faults()
    if len(request.merchant_accounts) > MAX_FILTER_VALUES:
        faults.add("merchant_accounts", f"must be at most {MAX_FILTER_VALUES}")
    for index, text in enumerate(request.merchant_accounts[:MAX_FILTER_VALUES]):
        faults.check_id(f"merchant_accounts[{index}]", text)
    states = {_STATES.get(number) for number in request.states}
    if None in states:
        # Ignoring one would widen the list to everything, or narrow it without a word.
        faults.add("states", "unspecified and unknown values are refused")
    if request.reference_order_id:
        faults.check_id("reference_order_id", request.reference_order_id)
    wanted = PaymentFilter(
        merchant_accounts=frozenset(request.merchant_accounts),
        states=frozenset(state for state in states if state),
        reference_order_id=request.reference_order_id,
        create_time=_range("create_time", request.create_time, faults),
        update_time=_range("update_time", request.update_time, faults),
    )
    order = _ORDERS.get(request.order)
    if order is None:
        faults.add("order", "is not a known value")
    size = _page_size(request.page_size, faults)
    _check_token(request.page_token, faults)
    faults.conclude()
    assert order is not None  # noqa: S101 - `conclude` raised otherwise
    return PaymentListRequest(wanted, order, size, request.page_token, _list_id(request))


def event_list_request(request: pb.ListPaymentEventsRequest) -> EventListRequest:
    """What ListPaymentEvents is asked for; raises InvalidRequest."""
    faults = Faults()
    wanted = event_filter(request, faults)
    size = _page_size(request.page_size, faults)
    _check_token(request.page_token, faults)
    faults.conclude()
    start = AfterCursor(request.page_token) if request.page_token else Earliest()
    return EventListRequest(start, wanted, size)


def _range(field: str, message: pb.TimeRange, faults: Faults) -> TimeRange:
    start = faults.time(f"{field}.start_time", message)
    end = faults.time(f"{field}.end_time", message)
    if start is not None and end is not None and end < start:
        faults.add(f"{field}.end_time", "must not be before start_time")
    return TimeRange(start, end)


def _page_size(asked: int, faults: Faults) -> int:
    """AIP-158: 0 is the default, what is too much is taken as the most."""
    if asked < 0:
        faults.add("page_size", "must not be negative")
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _check_token(token: str, faults: Faults) -> None:
    if len(token) > MAX_CURSOR:
        faults.add("page_token", f"must be at most {MAX_CURSOR} characters")


def _list_id(request: pb.ListPaymentsRequest) -> bytes:
    """16 bytes of every field but those that differ from page to page.

    Of the message and not of what was read from it: a field of a later version counts as well.
    """
    same = pb.ListPaymentsRequest()
    same.CopyFrom(request)
    same.ClearField("page_size")
    same.ClearField("page_token")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()[:16]
