"""ReportSdkEvent: a hint on the stream, an answer for the front end, and never a state."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from antom_payments.cadence import Phase, Priority
from antom_payments.payment import EventType, PaymentState
from antom_payments.sdk_event import SdkEventCode
from antom_payments.store import PaymentStore
from antom_payments.v1 import payment_event_pb2, payment_pb2, sdk_event_pb2
from antom_payments.v1 import payment_service_pb2 as pb
from clock import FrozenClock
from facts import a_payment_fact
from grpc_api.world import LATEST, Served, refusal_of, serving
from store.test_every_step import Case, claims, lead
from stored import SESSION, all_payments, begun, confirmed, execute, notified, rows, whole_log

HINT = payment_event_pb2.PAYMENT_EVENT_TYPE_SDK_EVENT_REPORTED
FINAL_ONLY = pb.StreamPaymentEventsRequest(
    earliest=pb.StreamPaymentEventsRequest.Earliest(), final_states_only=True
)
THE_ID = "order-1-attempt-1"
NEWS = [code for code in SdkEventCode if code.may_be_news]


def report(
    code: str = "SDK_PAYMENT_SUCCESSFUL", payment_request_id: str = THE_ID, **more: str
) -> pb.ReportSdkEventRequest:
    number = sdk_event_pb2.SdkEventCode.Value(f"SDK_EVENT_CODE_{code}")
    return pb.ReportSdkEventRequest(
        payment_request_id=payment_request_id, event_code=number, **more
    )


async def reported(served: Served, request: pb.ReportSdkEventRequest) -> pb.ReportSdkEventResponse:
    answer: pb.ReportSdkEventResponse = await served.stub.ReportSdkEvent(request)
    return answer


async def test_a_report_is_a_hint_on_the_stream_and_an_answer_for_the_front_end(
    store: PaymentStore,
) -> None:
    await confirmed(store)
    async with serving(store) as served:
        answer = await reported(
            served, report("SDK_PAYMENT_FAIL", payment_result_code="DO_NOT_HONOR")
        )
        following = await served.follow().until_events(2)
        after = served.follow(pb.StreamPaymentEventsRequest(after_cursor=answer.cursor))
        await after.until_marker("caught_up")
    _, hint = following.events
    assert (hint.type, hint.source) == (HINT, payment_event_pb2.EVENT_SOURCE_API)
    assert hint.sdk_event_code == sdk_event_pb2.SDK_EVENT_CODE_SDK_PAYMENT_FAIL
    assert hint.result_code == "DO_NOT_HONOR"
    assert hint.state_before == payment_pb2.PAYMENT_STATE_AWAITING_BUYER
    assert hint.payment == answer.payment
    assert hint.payment.state == payment_pb2.PAYMENT_STATE_AWAITING_BUYER
    # The reported code is the event's alone: the payment's own is Antom's.
    assert hint.payment.result_code == ""
    assert hint.payment_version == 2
    assert answer.next_step == sdk_event_pb2.SDK_NEXT_STEP_WAIT_FOR_RESULT
    assert after.events == []


async def test_no_report_moves_any_state(store: PaymentStore, clock: FrozenClock) -> None:
    walked = [Case(state, EventType.SDK_EVENT_REPORTED) for state in PaymentState]
    claimed = await claims(store, walked)
    for case in walked:
        if case.state is PaymentState.AWAITING_BUYER:
            await store.confirm_session(claimed[case], SESSION)
    clock.advance(7200)
    before = await lead(store, walked)
    async with serving(store, clock=clock) as served:
        for case in walked:
            for code in SdkEventCode:
                await reported(served, report(code, case.order))
    after = {payment.payment_request_id: payment for payment in await all_payments(store)}
    for case in walked:
        was, became = before[case.order], after[case.order]
        told = {"version": was.version + len(SdkEventCode)}
        kept = {name: getattr(became, name) for name in ("last_sequence", "update_time")}
        assert became == replace(was, **told, **kept), case
    hints = [one for one in await whole_log(store) if one.sdk_event_code]
    assert len(hints) == len(walked) * len(SdkEventCode)
    assert all(hint.state is hint.state_before for hint in hints)


async def test_a_repeated_report_is_one_event(store: PaymentStore) -> None:
    await confirmed(store)
    async with serving(store) as served:
        calls = [reported(served, report(payment_result_code=f"CODE_{n}")) for n in range(20)]
        answers = await asyncio.gather(*calls)
        other = await reported(served, report("SDK_END_OF_LOADING"))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert other.payment.version == 3
    assert [event.sdk_event_code for event in await whole_log(store)] == [
        None,
        SdkEventCode.SDK_PAYMENT_SUCCESSFUL,
        SdkEventCode.SDK_END_OF_LOADING,
    ]


async def test_payments_have_their_hints_apart(store: PaymentStore) -> None:
    await confirmed(store)
    await begun(store, payment_request_id="order-2")
    await begun(store, merchant_account="shop-b")
    async with serving(store, merchants=("default", "shop-b")) as served:
        first = await reported(served, report(merchant_account="default"))
        second = await reported(
            served, report("SDK_PAYMENT_SUCCESSFUL", "order-2", merchant_account="default")
        )
        third = await reported(served, report(merchant_account="shop-b"))
    assert (first.payment.version, second.payment.version, third.payment.version) == (2, 1, 1)
    assert third.payment.merchant_account == "shop-b"


async def test_of_a_payment_that_nobody_knows_nothing_is_told(store: PaymentStore) -> None:
    await confirmed(store)
    async with serving(store) as served:
        unknown = await refusal_of(served.stub.ReportSdkEvent(report(payment_request_id="order-2")))
        foreign = await refusal_of(served.stub.ReportSdkEvent(report(merchant_account="shop-b")))
    assert unknown.reason == "PAYMENT_NOT_FOUND"
    assert foreign.reason == "MERCHANT_NOT_FOUND"
    assert len(await whole_log(store)) == 1


@pytest.mark.parametrize("code", ["do_not_honor", "A" * 65, "4054 6957", "é", "A\n"])
async def test_what_is_no_result_code_is_refused_by_its_field(
    store: PaymentStore, code: str
) -> None:
    async with serving(store) as served:
        refusal = await refusal_of(served.stub.ReportSdkEvent(report(payment_result_code=code)))
    assert refusal.fields == ["payment_result_code"]
    assert code not in refusal.message


@pytest.mark.parametrize("number", [0, 99])
async def test_unspecified_and_unknown_codes_are_refused_with_whatever_else_is_wrong(
    store: PaymentStore, number: int
) -> None:
    request = pb.ReportSdkEventRequest(merchant_account="a b", event_code=number)  # type: ignore[arg-type]
    async with serving(store) as served:
        refusal = await refusal_of(served.stub.ReportSdkEvent(request))
    assert refusal.reason == "INVALID_REQUEST"
    assert refusal.fields == ["merchant_account", "payment_request_id", "event_code"]


async def inquiry(store: PaymentStore) -> tuple[str, int, bool]:
    """The phase and class of the payment's inquiry, and whether it is due."""
    [(phase, priority, due_time, since)] = await rows(
        store, "SELECT phase, priority, due_time, since_time FROM inquiries"
    )
    return phase, priority, due_time == since


@pytest.mark.parametrize("code", NEWS)
async def test_antom_is_asked_at_once_where_there_may_be_news(
    store: PaymentStore, code: SdkEventCode
) -> None:
    await confirmed(store)
    assert await inquiry(store) == (Phase.WAITING, Priority.ROUTINE, False)
    async with serving(store) as served:
        await reported(served, report(code))
    assert await inquiry(store) == (Phase.PRESSING, Priority.EVIDENCE, True)


async def test_antom_is_not_asked_where_there_is_none(store: PaymentStore) -> None:
    await confirmed(store)
    [before] = await rows(store, "SELECT * FROM inquiries")
    async with serving(store) as served:
        for code in set(SdkEventCode) - set(NEWS):
            await reported(served, report(code))
        [after] = await rows(store, "SELECT * FROM inquiries")
    assert after == before


async def test_a_report_of_a_payment_that_is_over_asks_nobody(store: PaymentStore) -> None:
    await confirmed(store)
    await store.apply([notified(a_payment_fact(a_payment_fact().outcome.FAILED))])
    async with serving(store) as served:
        answer = await reported(served, report())
    assert answer.next_step == sdk_event_pb2.SDK_NEXT_STEP_NEW_PAYMENT
    assert await rows(store, "SELECT * FROM inquiries") == []


async def test_a_repeated_report_has_antom_asked_again_soon_and_no_sooner(
    store: PaymentStore, clock: FrozenClock
) -> None:
    await confirmed(store)
    async with serving(store, clock=clock) as served:
        await reported(served, report())
        # Antom was asked, knew of nothing, and is to be asked much later.
        await execute(store, "UPDATE inquiries SET due_time = '2026-03-03 00:00:00+00:00'")
        await reported(served, report())
        [(soon,)] = await rows(store, "SELECT due_time FROM inquiries")
        await reported(served, report())
        [(again,)] = await rows(store, "SELECT due_time FROM inquiries")
    for due_time in (soon, again):
        assert "2026-03-02 09:30:02" <= str(due_time) < "2026-03-02 09:30:03"


async def test_whoever_waits_for_final_states_hears_no_hints(store: PaymentStore) -> None:
    await confirmed(store)
    async with serving(store) as served:
        live = served.follow(
            pb.StreamPaymentEventsRequest(latest=LATEST.latest, final_states_only=True)
        )
        await live.until_marker("caught_up")
        await store.apply([notified(a_payment_fact(capture_expected=False))])
        await execute(store, "UPDATE payments SET state = 'SUCCEEDED'")
        await reported(served, report())
        await store.apply([notified(a_payment_fact(a_payment_fact().outcome.CANCELLED))])
        of_history = await served.follow(FINAL_ONLY).until_events(1)
        await live.until_events(1)
    assert [event.type for event in (*live.events, *of_history.events)] == [
        payment_event_pb2.PAYMENT_EVENT_TYPE_PAYMENT_CANCELLED
    ] * 2
