"""The interface beneath /emulator: look inside, move the clock, begin again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from antom_payments.emulator import EmulatorOptions, server_config
from emulator.conftest import Started
from emulator.world import (
    Merchant,
    Notified,
    Receiver,
    serving,
    session_request,
    wallet_request,
)


async def test_health_tells_that_it_is_up_and_its_time(merchant: Merchant) -> None:
    await merchant.advance(90)

    health = await merchant.http.get("/emulator/health")

    assert health.status_code == 200
    assert health.json() == {"status": "UP", "time": "2026-03-02T17:31:30+08:00"}


async def test_payments_can_be_looked_at_without_their_cards(merchant: Merchant) -> None:
    await merchant.create(session_request("one"))
    await merchant.create(wallet_request("two"))
    await merchant.buyer("one", action="approve", card="4054695723100768")
    await merchant.advance(1)

    response = await merchant.http.get("/emulator/payments")
    (one,) = (
        await merchant.http.get("/emulator/payments", params={"paymentRequestId": "one"})
    ).json()["payments"]

    first, second = response.json()["payments"]
    assert one == first
    assert (first["paymentStatus"], first["captures"][0]["resultCode"]) == ("SUCCESS", "SUCCESS")
    assert (second["paymentMethodType"], second["paymentStatus"]) == ("GCASH", None)
    assert second["closingTime"] == "2026-03-02T18:44:00+08:00"
    assert "4054695723100768" not in response.text


async def test_notifications_can_be_narrowed_to_a_payment(merchant: Merchant) -> None:
    for name in ("one", "two"):
        await merchant.create(wallet_request(name))
        await merchant.buyer(name, action="approve")
    await merchant.advance(0)

    response = await merchant.http.get(
        "/emulator/notifications", params={"paymentRequestId": "two"}
    )

    assert [one["paymentRequestId"] for one in response.json()["notifications"]] == ["two"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/emulator/nothing", b"", 404, "NOT_FOUND"),
        ("GET", "/emulator/clock", b"", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/emulator/clock", b"", 400, "WORDS_NOT_UNDERSTOOD"),
        ("POST", "/emulator/clock", b'{"advanceSeconds":-1}', 400, "WORDS_NOT_UNDERSTOOD"),
        ("POST", "/emulator/clock", b'{"advanceSeconds":1e99}', 400, "WORDS_NOT_UNDERSTOOD"),
        ("POST", "/emulator/clock", b'{"seconds":1}', 400, "WORDS_NOT_UNDERSTOOD"),
        ("POST", "/emulator/buyer/x", b"approve", 400, "WORDS_NOT_UNDERSTOOD"),
    ],
)
async def test_errors_are_json(
    *, merchant: Merchant, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    response = await merchant.http.request(method, path, content=body)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]


async def test_a_card_number_is_not_quoted_in_an_error(merchant: Merchant) -> None:
    await merchant.create(session_request())

    wrong_word = await merchant.buyer(action="approve", cardNumber="4111111111111111")
    wrong_card = await merchant.buyer(action="approve", card="4111111111111111")

    assert wrong_word.status_code == wrong_card.status_code == 400
    assert "4111111111111111" not in wrong_word.text + wrong_card.text


async def test_nothing_of_the_emulator_s_own_is_outside_its_path(merchant: Merchant) -> None:
    response = await merchant.http.post("/reset")

    assert response.json()["result"]["resultCode"] == "NO_INTERFACE_DEF"


async def test_a_reset_forgets_payments_notifications_and_the_moved_clock(
    merchant: Merchant, receiver: Receiver
) -> None:
    receiver.status = 500
    await merchant.create(wallet_request())
    first = (await merchant.buyer(action="approve")).json()
    await merchant.advance(60)

    reset = await merchant.http.post("/emulator/reset")
    got = len(receiver.got)
    await merchant.advance(3 * 86_400)

    assert reset.json()["time"] == "2026-03-02T17:30:00+08:00"
    assert (await merchant.http.get("/emulator/payments")).json() == {"payments": []}
    assert await merchant.deliveries() == []
    assert len(receiver.got) == got
    assert (await merchant.inquire())["result"]["resultCode"] == "ORDER_NOT_EXIST"
    # A seeded emulator repeats itself, so that a test can name what it expects.
    await merchant.http.post("/emulator/reset")
    await merchant.create(wallet_request())
    assert (await merchant.buyer(action="approve")).json() == first


async def test_without_a_seed_ids_are_never_the_same(started: Started) -> None:
    ids = set()
    for _ in range(2):
        async with started(seed=None, default_notify_url="") as merchant:
            await merchant.create(wallet_request())
            ids.add((await merchant.buyer(action="approve")).json()["paymentId"])

    assert len(ids) == 2


async def test_it_stops_while_a_merchant_hangs(
    options: Callable[..., EmulatorOptions], started: Started, receiver: Receiver
) -> None:
    released = asyncio.Event()

    async def hang(_notified: Notified) -> None:
        await released.wait()

    receiver.hold = hang
    async with started() as merchant:
        await merchant.create(wallet_request())
        await merchant.buyer(action="approve")
        await receiver.received(1)
    released.set()

    async with serving(server_config(options())) as port:
        assert port
