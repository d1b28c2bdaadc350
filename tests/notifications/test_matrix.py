"""What becomes of a notification: a test for each row of the matrix, on both databases.

Each row is an answer, what the database holds after it, and what was counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import pytest

from antom_payments.payment import CaptureState, EventType, PaymentState
from antom_payments.store.tables import facts
from notifications.sidecars import (
    ACKNOWLEDGEMENT,
    CLIENT_ID,
    assert_acknowledged,
    events_of,
    message,
    sample,
    stored,
)

pytestmark = pytest.mark.usefixtures("payment")


async def test_a_new_one_is_committed_and_acknowledged(sidecar, store, database_url):
    assert_acknowledged(await sidecar.notify(sample("03")))
    [_, event_] = await events_of(store)
    [row] = await stored(database_url)
    assert event_.type is EventType.PAYMENT_AUTHORIZED
    assert event_.payment.state is PaymentState.AUTHORIZED
    assert event_.notification_id == row["notification_id"]
    assert (row["event_id"], row["outcome"]) == (event_.event_id, "APPLIED")
    assert (row["client_id"], row["request_time"]) == (CLIENT_ID, "2026-03-02T09:30:00Z")
    assert sidecar.metrics.outcomes() == {"accepted": 1}


@pytest.mark.parametrize("later", [0, 3600, 26 * 3600, 60 * 86_400])
async def test_one_seen_before_is_acknowledged_and_changes_nothing(sidecar, store, clock, later):
    headers = sidecar.antom.headers(sample("03"))
    assert_acknowledged(await sidecar.post(sample("03"), headers))
    clock.advance(later)
    assert_acknowledged(await sidecar.post(sample("03"), headers))
    assert len(await events_of(store)) == 2
    assert sidecar.metrics.outcomes() == {"accepted": 1, "duplicate": 1}


async def test_a_hundred_at_once_are_one_event_and_a_hundred_acknowledgements(sidecar, store):
    headers = sidecar.antom.headers(sample("03"))
    answers = await asyncio.gather(*(sidecar.post(sample("03"), headers) for _ in range(100)))
    for answer in answers:
        assert_acknowledged(answer)
    assert len(await events_of(store)) == 2
    assert sidecar.metrics.outcomes() == {"accepted": 1, "duplicate": 99}


async def test_copies_at_several_sidecars_are_one_event(service, store, start_sidecar):
    async with contextlib.AsyncExitStack() as stack:
        sidecars = [await stack.enter_async_context(start_sidecar(service)) for _ in range(4)]
        answers = await asyncio.gather(*(sidecar.notify(sample("03")) for sidecar in sidecars * 5))
    for answer in answers:
        assert_acknowledged(answer)
    assert len(await events_of(store)) == 2


async def test_one_that_tells_a_known_fact_otherwise_is_kept_and_concludes_nothing(
    sidecar, store, database_url, caplog
):
    await sidecar.notify(sample("03"))
    other = message("03", paymentAmount={"value": "1", "currency": "SGD"})
    with caplog.at_level(logging.ERROR, "antom_payments"):
        assert_acknowledged(await sidecar.notify(other))
    assert len(await events_of(store)) == 2
    found = await store.payment("default", payment_request_id="paymentRequestId01")
    assert (found.state, found.inquiry_wanted) == (PaymentState.AUTHORIZED, True)
    assert {row["outcome"] for row in await stored(database_url)} == {"APPLIED", "CONFLICT"}
    assert sidecar.metrics.outcomes() == {"accepted": 1, "conflict": 1}
    assert caplog.records


NOT_UNDERSTOOD = {
    "a refund": (message("03", notifyType="REFUND_RESULT"), "unsupported_type"),
    "a new type": (message("03", notifyType="NEWS_OF_2027"), "unsupported_type"),
    "no type": (message("03", notifyType=None), "unsupported_type"),
    "a field is missing": (message("03", paymentId=None), "missing"),
    "a field of another type": (message("03", result="S"), "wrong_type"),
    "an id that is too long": (message("03", paymentId="1" * 65), "too_long"),
    "an amount with decimals": (
        message("03", paymentAmount={"value": "42.00", "currency": "SGD"}),
        "not_an_integer",
    ),
    "a NUL in an id": (message("03", paymentRequestId="a\x00b"), "unstorable_text"),
    "a NUL anywhere": (message("03", x="a\x00b"), "unstorable_text"),
    "a lone surrogate": (message("03", x="\ud800"), "unstorable_text"),
    "broken": (b'{"notifyType":"PAYMENT_RESULT",', "not_json"),
    "a key twice": (b'{"paymentId":"1","paymentId":"2"}', "duplicate_key"),
    "not UTF-8": (b'{"paymentId":"\xff"}', "not_utf8"),
    "a list": (b"[]", "not_an_object"),
    "nested without end": (b"[" * 60_000, "nested_too_deep"),
    "nothing": (b"", "not_json"),
}


async def test_one_that_is_not_understood_is_quarantined_and_acknowledged(
    sidecar, store, database_url
):
    for body, reason in NOT_UNDERSTOOD.values():
        before = sidecar.metrics.outcomes()
        assert_acknowledged(await sidecar.notify(body))
        counted = f"quarantined/{reason}"
        assert sidecar.metrics.outcomes() == before | {counted: before.get(counted, 0) + 1}
    rows = await stored(database_url)
    assert {row["outcome"] for row in rows} == {"QUARANTINED"}
    assert sorted(row["reason"].partition(":")[0] for row in rows) == sorted(
        reason for _, reason in NOT_UNDERSTOOD.values()
    )
    assert len(await events_of(store)) == 1


async def test_a_quarantined_one_that_comes_again_is_kept_once(sidecar, database_url, caplog):
    with caplog.at_level(logging.ERROR, "antom_payments"):
        for _ in range(2):
            assert_acknowledged(await sidecar.notify(b"[]"))
    [row] = await stored(database_url)
    assert row["copies"] == 1
    assert caplog.records


@pytest.mark.parametrize("time", ["2026-03-01T08:29:59Z", "2026-03-02T09:35:01Z", "yesterday"])
async def test_one_from_outside_the_window_is_kept_and_not_applied(
    sidecar, store, database_url, time
):
    assert_acknowledged(await sidecar.notify(sample("03"), time=time))
    [row] = await stored(database_url)
    assert (row["outcome"], row["reason"]) == ("QUARANTINED", "outside_window")
    assert await stored(database_url, facts) == []
    assert len(await events_of(store)) == 1
    assert sidecar.metrics.outcomes() == {"stale": 1}


async def test_the_last_resend_after_a_day_is_accepted(sidecar, store, clock):
    headers = sidecar.antom.headers(sample("03"))
    clock.advance(24 * 3600 + 22 * 60)
    assert_acknowledged(await sidecar.post(sample("03"), headers))
    assert len(await events_of(store)) == 2


async def test_one_of_an_unknown_payment_is_kept_until_the_payment_is_known(
    sidecar, store, database_url
):
    capture = message("06", paymentId="2020010123456789XXXX")
    assert_acknowledged(await sidecar.notify(capture))
    assert len(await events_of(store)) == 1
    [row] = await stored(database_url)
    assert row["outcome"] == "ORPHANED"
    assert sidecar.metrics.outcomes() == {"orphaned": 1}
    assert_acknowledged(await sidecar.notify(sample("03")))
    told = await events_of(store)
    assert [event_.type for event_ in told] == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    assert told[-1].payment.state is PaymentState.SUCCEEDED


@pytest.mark.parametrize(
    "amount",
    [
        {"value": "4201", "currency": "SGD"},
        {"value": "42", "currency": "SGD"},
        {"value": "4200", "currency": "USD"},
        None,
    ],
)
async def test_one_of_another_amount_never_authorises(sidecar, store, database_url, amount, caplog):
    with caplog.at_level(logging.ERROR, "antom_payments"):
        assert_acknowledged(await sidecar.notify(message("03", paymentAmount=amount)))
    [_, event_] = await events_of(store)
    assert event_.type is EventType.AMOUNT_MISMATCH
    assert event_.payment.state is PaymentState.AWAITING_BUYER
    assert event_.payment.inquiry_wanted
    assert len(await stored(database_url)) == 1
    assert sidecar.metrics.outcomes() == {"accepted/amount_mismatch": 1}
    assert caplog.records


async def test_a_failed_capture_leaves_the_authorisation(sidecar, store):
    await sidecar.notify(sample("03"))
    failed = message("07", paymentId="2020010123456789XXXX")
    assert_acknowledged(await sidecar.notify(failed))
    [*_, event_] = await events_of(store)
    assert event_.type is EventType.CAPTURE_FAILED
    assert event_.payment.state is PaymentState.AUTHORIZED
    assert [c.state for c in event_.payment.captures] == [CaptureState.FAILED]


async def test_payment_and_capture_at_the_same_instant_end_succeeded(sidecar, store):
    capture = message("06", paymentId="2020010123456789XXXX")
    for answer in await asyncio.gather(sidecar.notify(sample("03")), sidecar.notify(capture)):
        assert_acknowledged(answer)
    told = await events_of(store)
    assert len(told) == 3
    assert told[-1].payment.state is PaymentState.SUCCEEDED


async def test_the_acknowledgement_is_antom_s():
    assert json.loads(ACKNOWLEDGEMENT) == json.loads(sample("13"))
