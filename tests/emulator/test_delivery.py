"""Notifications: signed over what is sent, resent on schedule until exactly acknowledged."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from antom_payments.emulator import BuyerAction, Emulator, EmulatorOptions, Step
from antom_payments.emulator.requests import SessionRequest
from clock import START, FrozenClock
from emulator.conftest import Started
from emulator.world import (
    ACKNOWLEDGED,
    SANDBOX_ID,
    Json,
    Merchant,
    Notified,
    Receiver,
    is_signed,
    session_request,
    wallet_request,
)

SCHEDULE = [0, 2 * 60, 10 * 60, 10 * 60, 3600, 2 * 3600, 6 * 3600, 15 * 3600]
DAYS = 3 * 86_400


async def paid(merchant: Merchant, notify_url: str | None = None) -> None:
    """One wallet payment: one notification, sent once."""
    await merchant.create(wallet_request(paymentNotifyUrl=notify_url))
    await merchant.buyer(action="approve")
    await merchant.advance(0)


def seconds_of(receiver: Receiver) -> list[float]:
    """When each attempt came, in Antom's time, from the first on."""
    times = [datetime.fromisoformat(one.headers["request-time"]) for one in receiver.got]
    return [(time - times[0]).total_seconds() for time in times]


@pytest.mark.parametrize(
    "path", ["/antom/notify", "/", "/a%2Fb/%41", "/notify?merchant=1&x=%20", "/über/%c3%a4"]
)
async def test_a_notification_is_signed_over_the_path_as_it_is_sent(
    merchant: Merchant, receiver: Receiver, antom_public: RSAPublicKey, path: str
) -> None:
    await paid(merchant, receiver.origin + path)

    (notified,) = receiver.got
    assert is_signed(antom_public, notified.headers, "request-time", notified.target, notified.body)
    if path.isascii():
        assert notified.target == path
    assert notified.headers["client-id"] == SANDBOX_ID
    assert notified.headers["content-type"] == "application/json; charset=UTF-8"
    assert {"client-id", "request-time", "signature", "content-type"} <= set(notified.names)


async def test_a_url_without_a_path_is_called_at_its_root(
    merchant: Merchant, receiver: Receiver, antom_public: RSAPublicKey
) -> None:
    await paid(merchant, receiver.origin)

    (notified,) = receiver.got
    assert notified.target == "/"
    assert is_signed(antom_public, notified.headers, "request-time", "/", notified.body)


async def test_the_session_s_url_wins_over_the_default(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant, f"{receiver.origin}/of/the/session")

    assert [one.target for one in receiver.got] == ["/of/the/session"]


async def test_without_any_url_nothing_is_sent_and_the_log_says_why(
    started: Started, receiver: Receiver
) -> None:
    async with started(default_notify_url="") as merchant:
        await paid(merchant)
        await merchant.advance(DAYS)
        (delivery,) = await merchant.deliveries()

    assert (delivery["state"], delivery["attempts"]) == ("NO_NOTIFY_URL", [])
    assert receiver.got == []


async def test_an_acknowledged_notification_is_sent_once(
    merchant: Merchant, receiver: Receiver
) -> None:
    await paid(merchant)
    await merchant.advance(DAYS)

    assert len(receiver.got) == 1
    (delivery,) = await merchant.deliveries()
    assert delivery["state"] == "ACKNOWLEDGED"
    assert delivery["attempts"] == [
        {"time": "2026-03-02T17:30:00+08:00", "httpStatus": 200, "fault": None, "spoilt": None}
    ]
    assert delivery["nextAttemptTime"] is None
    assert delivery["notification"] == receiver.got[0].json


async def test_an_unacknowledged_one_is_resent_on_the_documented_schedule_then_given_up(
    merchant: Merchant, receiver: Receiver, antom_public: RSAPublicKey
) -> None:
    receiver.status = 503
    await paid(merchant)
    await merchant.advance(DAYS)

    assert seconds_of(receiver) == [sum(SCHEDULE[: made + 1]) for made in range(8)]
    assert len({one.body for one in receiver.got}) == 1
    assert len({one.headers["signature"] for one in receiver.got}) == 8
    for one in receiver.got:
        assert is_signed(antom_public, one.headers, "request-time", "/antom/notify", one.body)
    (delivery,) = await merchant.deliveries()
    assert delivery["state"] == "GIVEN_UP"
    assert len(delivery["attempts"]) == 8


async def test_no_attempt_comes_before_it_is_due(merchant: Merchant, receiver: Receiver) -> None:
    receiver.status = 500
    await paid(merchant)

    await merchant.advance(119)
    assert len(receiver.got) == 1
    (delivery,) = await merchant.deliveries()
    assert delivery["nextAttemptTime"] == "2026-03-02T17:32:00+08:00"

    await merchant.advance(1)
    assert len(receiver.got) == 2


async def test_resending_ends_with_the_acknowledgement(
    merchant: Merchant, receiver: Receiver
) -> None:
    receiver.status = 500
    await paid(merchant)
    await merchant.advance(120)
    receiver.status = 200
    await merchant.advance(DAYS)

    assert len(receiver.got) == 3
    (delivery,) = await merchant.deliveries()
    assert delivery["state"] == "ACKNOWLEDGED"
    assert [one["httpStatus"] for one in delivery["attempts"]] == [500, 500, 200]


def with_result(**changes: str) -> bytes:
    return json.dumps({"result": ACKNOWLEDGED["result"] | changes}).encode()


@pytest.mark.parametrize(
    ("status", "content_type", "answer", "fault"),
    [
        (201, "application/json", with_result(), "HTTP status 201"),
        (302, "application/json", with_result(), "HTTP status 302"),
        (503, "application/json", with_result(), "HTTP status 503"),
        (200, "text/plain", with_result(), "content type"),
        (200, "application/json", b"", "not JSON"),
        (200, "application/json", b"success", "not JSON"),
        (200, "application/json", b"[" * 60_000, "not JSON"),
        (200, "application/json", b"{}", "not Antom's acknowledgement"),
        (200, "application/json", b'{"result":null}', "not Antom's acknowledgement"),
        (200, "application/json", with_result(resultStatus="F"), "not Antom's"),
        (200, "application/json", with_result(resultCode="OK"), "not Antom's"),
        (200, "application/json", with_result(resultMessage="Success"), "not Antom's"),
        (200, "application/json", with_result(more="x"), "not Antom's"),
        (200, "application/json", b" " * 70_000, "too long"),
    ],
)
async def test_anything_but_the_exact_acknowledgement_is_resent_and_explained(
    *,
    merchant: Merchant,
    receiver: Receiver,
    status: int,
    content_type: str,
    answer: bytes,
    fault: str,
) -> None:
    receiver.status, receiver.content_type, receiver.answer = status, content_type, answer
    await paid(merchant)

    (delivery,) = await merchant.deliveries()
    (attempt,) = delivery["attempts"]
    assert delivery["state"] == "WAITING"
    assert attempt["httpStatus"] == status
    assert fault in attempt["fault"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=UTF-8", "Application/JSON"]
)
async def test_the_acknowledgement_is_compared_as_json(
    merchant: Merchant, receiver: Receiver, content_type: str
) -> None:
    receiver.content_type = content_type
    receiver.answer = json.dumps(ACKNOWLEDGED, indent=2, sort_keys=True).encode()
    await paid(merchant)

    (delivery,) = await merchant.deliveries()
    assert delivery["state"] == "ACKNOWLEDGED"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1:1/", "ConnectError"),
        ("https://127.0.0.1:1/", "ConnectError"),
        ("http://127.0.0.1:no-port/", "InvalidURL"),
    ],
)
async def test_who_cannot_be_reached_is_tried_again(
    merchant: Merchant, url: str, fault: str
) -> None:
    await paid(merchant, url)

    (delivery,) = await merchant.deliveries()
    assert (delivery["state"], delivery["attempts"][0]["httpStatus"]) == ("WAITING", None)
    assert fault in delivery["attempts"][0]["fault"]


async def test_who_closes_without_an_answer_is_tried_again(
    merchant: Merchant, receiver: Receiver
) -> None:
    receiver.answers = False
    await paid(merchant)

    (delivery,) = await merchant.deliveries()
    assert "not delivered" in delivery["attempts"][0]["fault"]


async def test_who_does_not_answer_in_time_is_tried_again(
    started: Started, receiver: Receiver
) -> None:
    given_up = asyncio.Event()

    async def never(_notified: Notified) -> None:
        await given_up.wait()

    receiver.hold = never
    async with started(acknowledgement_timeout_seconds=0.05) as merchant:
        await paid(merchant)
        (delivery,) = await merchant.deliveries()
        given_up.set()

    assert delivery["attempts"][0] == {
        "time": "2026-03-02T17:30:00+08:00",
        "httpStatus": None,
        "fault": "no answer in time",
        "spoilt": None,
    }


async def test_a_merchant_that_hangs_delays_nobody_else(
    merchant: Merchant, receiver: Receiver
) -> None:
    released = asyncio.Event()

    async def hang(notified: Notified) -> None:
        if notified.target == "/slow":
            await released.wait()

    receiver.hold = hang
    for name in ("slow", "quick"):
        await merchant.create(wallet_request(name, paymentNotifyUrl=f"{receiver.origin}/{name}"))
        await merchant.buyer(name, action="approve")
    got = await receiver.received(2)
    released.set()
    await merchant.advance(0)

    assert {one.target for one in got} == {"/slow", "/quick"}


async def test_of_many_that_fall_due_at_once_each_is_in_time(
    merchant: Merchant, receiver: Receiver
) -> None:
    """Those that wait for their turn do not use up their time, nor each other's."""
    under_way, most = 0, 0
    full = asyncio.Event()

    async def until_full(_notified: Notified) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 64:
            full.set()
        await full.wait()
        under_way -= 1

    receiver.hold = until_full
    await merchant.spoil(notifications=[{"fault": "DUPLICATE", "copies": 100}])
    await paid(merchant)

    deliveries = await merchant.deliveries()
    assert len(deliveries) == 101
    assert {len(one["attempts"]) for one in deliveries} == {1}
    assert {one["state"] for one in deliveries} == {"ACKNOWLEDGED"}
    assert most == 64


async def test_time_that_passes_outside_passes_faster_inside(
    options: Callable[..., EmulatorOptions], receiver: Receiver
) -> None:
    clock = FrozenClock()
    receiver.status = 500
    request = SessionRequest.model_validate(wallet_request())

    async with Emulator(options(clock=clock.now, clock_scale=60.0)).running() as antom:
        antom.create_payment_session(SANDBOX_ID, request)
        antom.play_buyer("order-1", BuyerAction(action=Step.APPROVE))
        await antom.timeline.settle()
        clock.advance(1)
        await antom.timeline.settle()
        early = len(receiver.got)
        clock.advance(1)
        await antom.timeline.settle()

        assert antom.timeline.now() == START + timedelta(seconds=120)
    assert (early, len(receiver.got)) == (1, 2)


async def test_time_runs_by_itself(
    options: Callable[..., EmulatorOptions], receiver: Receiver
) -> None:
    receiver.status = 500
    request = SessionRequest.model_validate(wallet_request())
    real_and_fast = {"clock": lambda: datetime.now().astimezone(), "clock_scale": 50_000.0}

    async with Emulator(options(**real_and_fast)).running() as antom:
        antom.create_payment_session(SANDBOX_ID, request)
        antom.play_buyer("order-1", BuyerAction(action=Step.APPROVE))
        got = await receiver.received(4)

    assert len(got) >= 4


async def test_no_card_number_and_nothing_personal_is_logged(
    merchant: Merchant, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    order: Json = session_request()["order"]
    order["buyer"] |= {"buyerEmail": "ann@example.com", "buyerPhoneNo": "+6591234567"}
    created = await merchant.create(session_request(order=order))
    await merchant.buyer(
        created.json["paymentSessionId"], action="approve", card="4054695723100768"
    )
    await merchant.advance(1)

    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "emulator.notified" in logged
    token = receiver.got[0].json["paymentResultInfo"]["cardToken"]
    secrets = (
        *("4054695723100768", "ann@example.com", "6591234567", "yourBuyerId", token),
        *(created.json["paymentSessionData"], created.json["paymentSessionId"]),
    )
    assert [one for one in secrets if one in logged] == []
