"""Notifications that go wrong on purpose: withheld, doubled, late, reordered, lost, forged."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from antom_payments.emulator import charged_but_no_answer
from clock import START
from emulator.conftest import Started
from emulator.world import (
    CREATE,
    Json,
    Merchant,
    Notified,
    Receiver,
    is_signed,
    session_request,
    wallet_request,
)

DAY = 86_400


async def paid(merchant: Merchant, *faults: Json, request: Json | None = None) -> None:
    """A payment whose notifications go wrong."""
    await merchant.spoil(notifications=list(faults))
    await merchant.create(request or wallet_request())
    await merchant.buyer(action="approve")
    await merchant.advance(0)


def seconds_of(receiver: Receiver) -> list[tuple[str, int]]:
    """What came, and when by Antom's clock, from the buyer's step on."""
    return [
        (
            one.json["notifyType"],
            int((datetime.fromisoformat(one.headers["request-time"]) - START).total_seconds()),
        )
        for one in receiver.got
    ]


def verifies(key: RSAPublicKey, notified: Notified) -> bool:
    try:
        return is_signed(key, notified.headers, "request-time", notified.target, notified.body)
    except InvalidSignature:
        return False


async def test_a_withheld_notification_never_comes(merchant: Merchant, receiver: Receiver) -> None:
    await paid(merchant, {"fault": "WITHHOLD"})
    await merchant.advance(3 * DAY)

    assert receiver.got == []
    (delivery,) = await merchant.deliveries()
    assert (delivery["state"], delivery["spoilt"]) == ("WITHHELD", "WITHHOLD")
    assert (delivery["attempts"], delivery["nextAttemptTime"]) == ([], None)
    assert (await merchant.inquire())["paymentStatus"] == "SUCCESS"


async def test_only_one_type_or_payment_may_be_withheld(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(
        merchant,
        {"fault": "WITHHOLD", "notifyType": "CAPTURE_RESULT"},
        {"fault": "WITHHOLD", "paymentRequestId": "another"},
        request=session_request(),
    )
    await merchant.advance(60)

    assert receiver.types == ["PAYMENT_RESULT"]


async def test_copies_leave_with_the_notification_and_each_is_resent(
    merchant: Merchant, receiver: Receiver
) -> None:
    receiver.status = 500
    await paid(merchant, {"fault": "DUPLICATE", "copies": 4})
    receiver.status = 200
    await merchant.advance(120)

    assert seconds_of(receiver) == [("PAYMENT_RESULT", 0)] * 5 + [("PAYMENT_RESULT", 120)] * 5
    assert len({one.body for one in receiver.got}) == 1
    deliveries = await merchant.deliveries()
    assert [one["number"] for one in deliveries] == [1, 2, 3, 4, 5]
    assert {(one["state"], one["spoilt"]) for one in deliveries} == {("ACKNOWLEDGED", "DUPLICATE")}


async def test_one_of_another_amount_names_ten_times_as_much_well_signed(
    merchant: Merchant, receiver: Receiver, antom_public: RSAPublicKey
) -> None:
    await paid(merchant, {"fault": "OTHER_AMOUNT"}, request=session_request())
    await merchant.advance(60)

    asked = session_request()["paymentAmount"]
    wrong = asked | {"value": asked["value"] + "0"}
    assert [one.json.get("paymentAmount") or one.json["captureAmount"] for one in receiver.got] == [
        wrong,
        wrong,
    ]
    assert all(verifies(antom_public, one) for one in receiver.got)
    assert {one["spoilt"] for one in await merchant.deliveries()} == {"OTHER_AMOUNT"}
    inquired = await merchant.inquire()
    assert inquired["paymentAmount"] == asked
    assert inquired["transactions"][0]["transactionAmount"] == asked


async def test_a_late_notification_comes_by_antoms_clock(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant, {"fault": "DELAY", "delaySeconds": 300})
    await merchant.advance(299)
    assert receiver.got == []
    await merchant.advance(1)

    assert seconds_of(receiver) == [("PAYMENT_RESULT", 300)]


async def test_a_reordered_notification_comes_after_the_next_one_of_its_payment(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant, {"fault": "REORDER", "delaySeconds": 600}, request=session_request())
    (held,) = await merchant.deliveries()
    await merchant.advance(60)

    assert (held["state"], held["nextAttemptTime"]) == ("WAITING", "2026-03-02T17:40:00+08:00")
    assert seconds_of(receiver) == [("CAPTURE_RESULT", 1), ("PAYMENT_RESULT", 1)]
    await merchant.advance(DAY)
    assert len(receiver.got) == 2


async def test_a_reordered_notification_waits_no_longer_than_it_may(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant, {"fault": "REORDER", "delaySeconds": 600})
    await merchant.create(wallet_request("another"))
    await merchant.buyer("another", action="decline")
    await merchant.advance(DAY)

    assert {one.json["paymentRequestId"] for one in receiver.got} == {"order-1", "another"}
    assert seconds_of(receiver) == [("PAYMENT_RESULT", 600)] * 2


async def test_a_lost_attempt_is_made_again_on_the_documented_schedule(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant, {"fault": "DROP", "times": 2})
    await merchant.advance(DAY)

    assert seconds_of(receiver) == [("PAYMENT_RESULT", 720)]
    (delivery,) = await merchant.deliveries()
    told = [(one["httpStatus"], one["fault"], one["spoilt"]) for one in delivery["attempts"]]
    assert told == [(None, "lost on the way", "DROP")] * 2 + [(200, None, None)]


async def test_every_attempt_may_be_lost(merchant: Merchant, receiver: Receiver) -> None:
    await paid(merchant, {"fault": "DROP"})
    await merchant.advance(3 * DAY)

    (delivery,) = await merchant.deliveries()
    assert (delivery["state"], len(delivery["attempts"])) == ("GIVEN_UP", 8)
    assert receiver.got == []


async def test_a_badly_signed_attempt_is_followed_by_a_true_one(
    merchant: Merchant, receiver: Receiver, antom_public: RSAPublicKey
) -> None:
    receiver.status = 401
    await paid(merchant, {"fault": "BADLY_SIGNED", "times": 1})
    receiver.status = 200
    await merchant.advance(120)

    assert [verifies(antom_public, one) for one in receiver.got] == [False, True]


async def test_a_notification_may_be_signed_with_the_key_that_antom_rotates_to(
    started: Started,
    receiver: Receiver,
    next_private: RSAPrivateKey,
    antom_public: RSAPublicKey,
) -> None:
    async with started(antom_next_private_key=next_private) as merchant:
        await paid(merchant, {"fault": "NEXT_KEY"})

    (notified,) = receiver.got
    assert verifies(next_private.public_key(), notified)
    assert not verifies(antom_public, notified)


async def test_a_copy_may_be_lost_while_the_others_arrive(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant, {"fault": "DUPLICATE", "copies": 2}, {"fault": "DROP", "times": 1})

    assert len(receiver.got) == 2
    states = sorted(one["state"] for one in await merchant.deliveries())
    assert states == ["ACKNOWLEDGED", "ACKNOWLEDGED", "WAITING"]


async def test_a_buyer_is_charged_and_nobody_is_told(started: Started, receiver: Receiver) -> None:
    async with started(faults=charged_but_no_answer("order-1")) as merchant:
        with pytest.raises(httpx.RemoteProtocolError):
            await merchant.raw(CREATE, session_request())
        await merchant.create(session_request("another"))
        for name in ("order-1", "another"):
            await merchant.buyer(name, action="approve")
        await merchant.advance(3 * DAY)
        answer = await merchant.inquire()

    assert answer["transactions"][0]["transactionStatus"] == "SUCCESS"
    assert {one.json.get("paymentRequestId") for one in receiver.got} == {"another", None}
    assert len(receiver.got) == 2


async def test_a_reset_forgets_what_is_held_back(merchant: Merchant, receiver: Receiver) -> None:
    await paid(merchant, {"fault": "REORDER", "delaySeconds": 600}, request=session_request())
    await merchant.http.post("/emulator/reset")
    await merchant.create(session_request())
    await merchant.buyer(action="approve")
    await merchant.advance(DAY)

    assert receiver.types == ["PAYMENT_RESULT", "CAPTURE_RESULT"]
