"""The whole product finds out what became of payments, though nobody tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antom_payments.client import Earliest, TryAgain
from antom_payments.emulator import Step
from whole import Shop, shop_on, trust_one_authority

CREATED = ("SESSION_CREATED", "AWAITING_BUYER", "API")
FOUND = [
    ("PAYMENT_AUTHORIZED", "AUTHORIZED", "INQUIRY"),
    ("CAPTURE_SUCCEEDED", "SUCCEEDED", "INQUIRY"),
]
HOUR = 3600


@pytest.fixture(autouse=True)
def _one_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_one_authority(monkeypatch, tmp_path)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_on(
        database_url, tmp_path, one_clock=True, reconciles=True, antom_budget_seconds=0.4
    ) as shop:
        yield shop


async def test_a_charge_into_a_dead_connection_arrives_on_the_stream(shop: Shop) -> None:
    shop.charge_without_answer()
    with pytest.raises(TryAgain):
        await shop.create()
    await shop.buyer(Step.APPROVE, later=40)
    async with shop.following(Earliest()) as follower:
        assert await follower.until(2) == FOUND


async def test_a_payment_that_no_notification_tells_of_arrives_on_the_stream(shop: Shop) -> None:
    shop.spoil_notifications("WITHHOLD")
    await shop.create()
    await shop.buyer(Step.APPROVE, later=40)
    async with shop.following(Earliest()) as follower:
        assert await follower.until(3) == [CREATED, *FOUND]


async def test_an_abandoned_payment_ends_though_no_notification_tells(shop: Shop) -> None:
    shop.spoil_notifications("WITHHOLD")
    await shop.create()
    await shop.antom.timeline.advance(HOUR + 20 * 60)
    async with shop.following(Earliest()) as follower:
        told = await follower.until(2)
    assert told == [CREATED, ("PAYMENT_EXPIRED", "EXPIRED", "INQUIRY")]


async def test_a_payment_cancelled_in_the_dashboard_arrives_on_the_stream(shop: Shop) -> None:
    await shop.create(payment_method_type="GCASH")
    await shop.buyer(Step.APPROVE)
    async with shop.following(Earliest()) as follower:
        assert (await follower.until(2))[1] == ("PAYMENT_SUCCEEDED", "SUCCEEDED", "NOTIFICATION")
        await shop.cancel_in_dashboard(later=700)
        assert (await follower.until(3))[2] == ("PAYMENT_CANCELLED", "CANCELLED", "INQUIRY")


async def test_a_capture_that_failed_and_a_later_one_are_told_without_notifications(
    shop: Shop,
) -> None:
    shop.spoil_notifications("WITHHOLD")
    await shop.create(minor_units=660061)  # its automatic capture fails
    await shop.buyer(Step.APPROVE, later=40)
    async with shop.following(Earliest()) as follower:
        told = await follower.until(3)
        assert told[2] == ("CAPTURE_FAILED", "AUTHORIZED", "INQUIRY")
        await shop.capture_in_dashboard(later=HOUR + 60)
        assert (await follower.until(4))[3] == ("CAPTURE_SUCCEEDED", "SUCCEEDED", "INQUIRY")
