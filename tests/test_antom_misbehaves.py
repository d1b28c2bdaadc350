"""The product in front of an Antom that misbehaves, or whose dashboard somebody uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antom_payments.client.errors import TryAgain
from antom_payments.emulator import Step
from antom_payments.v1.payment_pb2 import Payment, PaymentState
from whole import Shop, shop_on, trust_one_authority


@pytest.fixture(autouse=True)
def _one_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_one_authority(monkeypatch, tmp_path)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_on(database_url, tmp_path, antom_budget_seconds=0.5) as shop:
        yield shop


def state(payment: Payment) -> str:
    return PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")


async def test_a_charge_that_nobody_tells_of_is_found_by_asking(shop: Shop) -> None:
    shop.charge_without_answer()
    with pytest.raises(TryAgain):
        await shop.create()
    await shop.buyer(Step.APPROVE)
    assert state(await shop.read()) == "CREATING"
    assert state(await shop.read(fresh=True)) == "SUCCEEDED"


async def test_a_wallet_payment_cancelled_in_the_dashboard_is_found_by_asking(shop: Shop) -> None:
    await shop.create(payment_method_type="GCASH")
    await shop.buyer(Step.APPROVE)
    await shop.cancel_in_dashboard()
    assert state(await shop.read()) == "SUCCEEDED"
    assert state(await shop.read(fresh=True)) == "CANCELLED"
