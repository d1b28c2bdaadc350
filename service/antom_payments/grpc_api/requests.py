"""From protobuf to the domain, with the limits that are ours. Pure.

Every wrong field is named, by its path. Limits of Antom, and those of metadata, are checked where
Antom's messages are made (`antom.messages`), once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from antom_payments.event_stream import AfterCursor, AtTime, Earliest, Latest, Snapshot, Start
from antom_payments.grpc_api.convert import EVENT_TYPES, SDK_EVENT_CODES
from antom_payments.grpc_api.faults import Faults
from antom_payments.payment_event import EventFilter
from antom_payments.sdk_event import SdkEvent
from antom_payments.service import PaymentKey
from antom_payments.v1 import payment_service_pb2

MAX_FILTER_VALUES = 100
"""Most merchants, and most payments, that one stream can name."""
MAX_CURSOR = 512
"""Characters of a cursor. Ours have 46 or 67; later versions may need more."""
SHORTEST_CHECKPOINT_SECONDS = 1.0
"""What callers can ask for, where the server's own interval is not shorter."""

_EVENT_TYPES = {number: kind for kind, number in EVENT_TYPES.items()}
_SDK_EVENT_CODES = {number: code for code, number in SDK_EVENT_CODES.items()}
# Of the buyer's device: nothing but a code may get into events by it.
_RESULT_CODE = re.compile(r"[A-Z0-9_]{0,64}")
_READ_MODES = {
    payment_service_pb2.READ_MODE_UNSPECIFIED: False,
    payment_service_pb2.READ_MODE_STORED: False,
    payment_service_pb2.READ_MODE_FRESH: True,
}


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A subscription as asked for."""

    start: Start
    event_filter: EventFilter
    """Not yet within what the caller may see."""
    checkpoint_seconds: float
    events_per_second: int
    """0 is no bound."""


def payment_key(request: payment_service_pb2.GetPaymentRequest) -> PaymentKey:
    """Which payment GetPayment is asked for; raises InvalidRequest."""
    faults = Faults()
    faults.check_merchant("merchant_account", request.merchant_account)
    key = request.WhichOneof("key")
    if key is None:
        faults.add("key", "payment_request_id, payment_id or reference_order_id is required")
    else:
        faults.check_id(key, getattr(request, key))
    if request.read_mode not in _READ_MODES:
        faults.add("read_mode", "is not a known value")
    faults.conclude()
    return PaymentKey(
        merchant_account=request.merchant_account,
        payment_request_id=request.payment_request_id,
        payment_id=request.payment_id,
        reference_order_id=request.reference_order_id,
    )


def wants_fresh(request: payment_service_pb2.GetPaymentRequest) -> bool:
    """Whether Antom is to be asked first; after `payment_key` has checked the request."""
    return _READ_MODES[request.read_mode]


def sdk_event(
    request: payment_service_pb2.ReportSdkEventRequest,
) -> tuple[PaymentKey, SdkEvent]:
    """What ReportSdkEvent is told, and of which payment; raises InvalidRequest."""
    faults = Faults()
    faults.check_merchant("merchant_account", request.merchant_account)
    faults.check_id("payment_request_id", request.payment_request_id)
    code = _SDK_EVENT_CODES.get(request.event_code)
    if code is None:
        faults.add("event_code", "unspecified and unknown values are refused")
    if not _RESULT_CODE.fullmatch(request.payment_result_code):
        faults.add("payment_result_code", "must be at most 64 of A to Z, 0 to 9 and underscore")
    faults.conclude()
    assert code is not None  # noqa: S101 - `conclude` raised otherwise
    key = PaymentKey(request.merchant_account, request.payment_request_id)
    return key, SdkEvent(code, request.payment_result_code)


def stream_request(
    request: payment_service_pb2.StreamPaymentEventsRequest, *, checkpoint_seconds: float
) -> StreamRequest:
    """What StreamPaymentEvents is asked for; raises InvalidRequest.

    ``checkpoint_seconds`` is the server's interval: the longest, and that of who names none.
    """
    faults = Faults()
    start = _start(request, faults)
    wanted = event_filter(request, faults)
    checkpoint_seconds = _checkpoint_seconds(request, checkpoint_seconds, faults)
    if request.max_events_per_second < 0:
        faults.add("max_events_per_second", "must be 0, which is no bound, or more")
    faults.conclude()
    return StreamRequest(start, wanted, checkpoint_seconds, request.max_events_per_second)


def event_filter(
    request: payment_service_pb2.StreamPaymentEventsRequest
    | payment_service_pb2.ListPaymentEventsRequest,
    faults: Faults,
) -> EventFilter:
    """Which events a reader wants, before it is told what it may see; adds to ``faults``."""
    for field in ("merchant_accounts", "payment_request_ids"):
        if len(getattr(request, field)) > MAX_FILTER_VALUES:
            faults.add(field, f"must be at most {MAX_FILTER_VALUES}")
    for index, text in enumerate(request.merchant_accounts[:MAX_FILTER_VALUES]):
        faults.check_id(f"merchant_accounts[{index}]", text)
    for index, text in enumerate(request.payment_request_ids[:MAX_FILTER_VALUES]):
        faults.check_id(f"payment_request_ids[{index}]", text)
    types = {_EVENT_TYPES.get(number) for number in request.event_types}
    if None in types:
        # Ignoring one would widen the filter to everything, or narrow it without a word.
        faults.add("event_types", "unspecified and unknown values are refused")
    return EventFilter(
        merchant_accounts=frozenset(request.merchant_accounts) or None,
        payment_request_ids=frozenset(request.payment_request_ids) or None,
        types=frozenset(kind for kind in types if kind) or None,
        final_states_only=request.final_states_only,
    )


def _start(request: payment_service_pb2.StreamPaymentEventsRequest, faults: Faults) -> Start:
    match request.WhichOneof("start"):
        case "after_cursor":
            if not 0 < len(request.after_cursor) <= MAX_CURSOR:
                faults.add("after_cursor", f"must be 1 to {MAX_CURSOR} characters")
            return AfterCursor(request.after_cursor)
        case "earliest":
            return Earliest()
        case "latest":
            return Latest()
        case "at_time":
            time = faults.time("at_time", request)
            return Latest() if time is None else AtTime(time)
        case "snapshot":
            return Snapshot()
        case _:
            faults.add("start", "after_cursor, earliest, latest, at_time or snapshot is required")
            return Latest()


def _checkpoint_seconds(
    request: payment_service_pb2.StreamPaymentEventsRequest, longest: float, faults: Faults
) -> float:
    if not request.HasField("checkpoint_interval"):
        return longest
    asked = request.checkpoint_interval
    shortest = min(SHORTEST_CHECKPOINT_SECONDS, longest)
    seconds = asked.seconds + asked.nanos / 1e9
    if not (0 <= asked.nanos < 1_000_000_000 and shortest <= seconds <= longest):
        faults.add("checkpoint_interval", f"must be from {shortest:g} to {longest:g} seconds")
    return seconds
