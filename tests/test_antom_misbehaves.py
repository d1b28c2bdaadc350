"""The product in front of an Antom that misbehaves, or whose dashboard somebody uses."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from antom_payments.client import CallFailed, Earliest, TryAgain
from antom_payments.emulator import Step
from antom_payments.v1.payment_pb2 import Payment, PaymentState
from whole import Shop, named, next_antom_key, shop_on, trust_one_authority

TOLD = [
    ("SESSION_CREATED", "AWAITING_BUYER", "API"),
    ("PAYMENT_AUTHORIZED", "AUTHORIZED", "NOTIFICATION"),
    ("CAPTURE_SUCCEEDED", "SUCCEEDED", "NOTIFICATION"),
]


@pytest.fixture(autouse=True)
def _one_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_one_authority(monkeypatch, tmp_path)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_on(database_url, tmp_path, one_clock=True, antom_budget_seconds=0.4) as shop:
        yield shop


def state(payment: Payment) -> str:
    return PaymentState.Name(payment.state).removeprefix("PAYMENT_STATE_")


async def events(shop: Shop, payment_request_id: str = "pay-1") -> list[tuple[str, str, str]]:
    """All that subscribers are told of a payment."""
    async with shop.following(Earliest(), payment_request_ids=[payment_request_id]) as follower:
        return [named(event) for event in await follower.until_caught_up()]


async def test_a_charge_that_nobody_tells_of_is_found_by_asking(shop: Shop) -> None:
    shop.charge_without_answer()
    with pytest.raises(TryAgain):
        await shop.create()
    await shop.buyer(Step.APPROVE)

    assert state(await shop.read()) == "CREATING"
    assert state(await shop.read(fresh=True)) == "SUCCEEDED"


async def test_what_is_cancelled_in_antoms_dashboard_becomes_cancelled(shop: Shop) -> None:
    await shop.create("unpaid")
    await shop.create("authorized", minor_units=660061)  # its automatic capture fails
    await shop.create("paid", payment_method_type="GCASH")
    for name in ("authorized", "paid"):
        await shop.buyer(Step.APPROVE, name)
    before = {"unpaid": "AWAITING_BUYER", "authorized": "AUTHORIZED", "paid": "SUCCEEDED"}
    for name, stands in before.items():
        await shop.cancel_in_dashboard(name)

        assert state(await shop.read(name)) == stands
        assert state(await shop.read(name, fresh=True)) == "CANCELLED"


async def test_a_capture_in_the_dashboard_after_a_failed_one_takes_the_money(shop: Shop) -> None:
    await shop.create(minor_units=660061)
    await shop.buyer(Step.APPROVE)
    failed = state(await shop.read())
    await shop.capture_in_dashboard(in_process_seconds=60)
    waiting = state(await shop.read(fresh=True))
    await shop.antom.timeline.advance(60)
    payment = await shop.read()

    assert (failed, waiting, state(payment)) == ("AUTHORIZED", "AUTHORIZED", "SUCCEEDED")
    assert payment.captured_amount.minor_units == 660061
    assert len(payment.captures) == 2


async def test_notifications_that_go_wrong_make_the_same_events_in_the_end(shop: Shop) -> None:
    wrong = {
        "DUPLICATE": {"copies": 5},
        "DELAY": {"delay_seconds": 30},
        "REORDER": {"delay_seconds": 60},
        "DROP": {"times": 6},
        "BADLY_SIGNED": {"times": 6},
    }
    for fault, words in wrong.items():
        shop.spoil_notifications(fault, payment_request_id=fault, **words)
        await shop.create(fault)
        await shop.buyer(Step.APPROVE, fault, later=0)
    # Three attempts of each are lost: the fourth comes after 22 minutes.
    await shop.antom.timeline.advance(1800)

    for fault in wrong:
        assert await events(shop, fault) == TOLD, fault


async def test_a_call_whose_answer_is_lost_is_made_again(shop: Shop) -> None:
    for fault in ("UNKNOWN", "THROTTLED", "DROP", "HTTP_503"):
        shop.spoil_answers(fault, payment_request_id=fault, times=1)
        created = await shop.create(fault)

        assert state(created.payment) == "AWAITING_BUYER", fault
        assert created.session.payment_session_data


async def test_an_answer_that_is_not_antoms_concludes_nothing(shop: Shop) -> None:
    shop.spoil_notifications("WITHHOLD")
    for fault in ("UNSIGNED", "BADLY_SIGNED", "WRONG_CLIENT_ID", "GARBAGE", "NEXT_KEY"):
        await shop.create(fault)
        await shop.buyer(Step.APPROVE, fault)
        shop.spoil_answers(fault, payment_request_id=fault)
        with pytest.raises(CallFailed):
            await shop.read(fault, fresh=True)

        assert state(await shop.read(fault)) == "AWAITING_BUYER", fault


async def test_when_antom_rotates_its_key_whoever_has_both_notices_nothing(
    database_url: str, tmp_path: Path
) -> None:
    public = next_antom_key().public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "next").write_bytes(base64.b64encode(der))
    both = f"{tmp_path / 'antom_public_key_files'},{tmp_path / 'next'}"
    async with shop_on(database_url, tmp_path, antom_public_key_files=both) as shop:
        shop.spoil_answers("NEXT_KEY")
        shop.spoil_notifications("NEXT_KEY")
        await shop.create()
        await shop.buyer(Step.APPROVE)

        assert await events(shop) == TOLD
        assert state(await shop.read(fresh=True)) == "SUCCEEDED"
