"""The Node client against the whole product: sessions, reads, reports, payments to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from antom_payments.client.terminal import SessionWish
from antom_payments.emulator import Step
from node.driver import Driver, Json, environment
from node.installed import CLIENT, NodeClient
from whole import Shop, shop_on, trust_one_authority

PATIENCE = 60.0
EARLIEST: Json = {"earliest": {}}
CREATED = ("SESSION_CREATED", "AWAITING_BUYER")
AUTHORIZED = ("PAYMENT_AUTHORIZED", "AUTHORIZED")
CAPTURED = ("CAPTURE_SUCCEEDED", "SUCCEEDED")


@pytest.fixture(autouse=True)
def _one_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_one_authority(monkeypatch, tmp_path)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_on(database_url, tmp_path) as shop:
        yield shop


@pytest.fixture
async def small_shop(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """For what depends on no database."""
    async with shop_on(sqlite_url, tmp_path) as shop:
        yield shop


def wish(payment_request_id: str = "pay-1", **more: Any) -> Json:
    usual = {"minor_units": 4200, "currency_code": "SGD", "reference_order_id": "order-1"}
    request = SessionWish(payment_request_id=payment_request_id, **(usual | more)).request()
    return MessageToDict(request, preserving_proto_field_name=True)


def named(events: list[Json]) -> list[tuple[str, str]]:
    """What happened, and where the payment stands."""
    return [
        (
            event["type"].removeprefix("PAYMENT_EVENT_TYPE_"),
            event["payment"]["state"].removeprefix("PAYMENT_STATE_"),
        )
        for event in events
    ]


async def test_a_payment_is_created_read_and_followed_to_its_end(
    shop: Shop, driver: Driver
) -> None:
    async with driver.following(shop.port, {"latest": {}}) as live:
        await live.until_caught_up()
        created = await driver.call(shop.port, "createSession", wish())
        assert created["session"]["payment_session_data"]
        assert created["payment"]["state"] == "PAYMENT_STATE_AWAITING_BUYER"
        again = await driver.call(shop.port, "createSession", wish())
        assert again == created
        await shop.buyer(Step.APPROVE)
        await live.until_events(3)
    assert named(live.events) == [CREATED, AUTHORIZED, CAPTURED]
    assert [event["payment_version"] for event in live.events] == ["1", "2", "3"]
    keys: list[Json] = [
        {"payment_request_id": "pay-1"},
        {"payment_id": shop.payment_id()},
        {"reference_order_id": "order-1"},
        {"payment_request_id": "pay-1", "read_mode": "READ_MODE_STORED"},
        {"payment_request_id": "pay-1", "read_mode": "READ_MODE_FRESH"},
    ]
    for key in keys:
        read = await driver.call(shop.port, "getPayment", key)
        assert read["payment"]["state"] == "PAYMENT_STATE_SUCCEEDED", key
        assert read["payment"]["captured_amount"] == {"currency_code": "SGD", "minor_units": "4200"}
    stored = await driver.call(shop.port, "getPayment", keys[0])
    assert stored["payment"] == live.events[-1]["payment"]
    async with driver.following(shop.port, {"after_cursor": created["cursor"]}) as later:
        await later.until_events(2)
    assert later.ids == live.ids[1:]


async def test_a_front_ends_report_is_passed_on_and_told(small_shop: Shop, driver: Driver) -> None:
    await driver.call(small_shop.port, "createSession", wish())
    report = {"payment_request_id": "pay-1", "event_code": "SDK_EVENT_CODE_SDK_PAYMENT_CANCEL"}
    told = await driver.call(small_shop.port, "reportSdkEvent", report)
    assert told["next_step"].startswith("SDK_NEXT_STEP_")
    async with driver.following(small_shop.port, EARLIEST) as follower:
        await follower.until_events(2)
    assert follower.events[1]["sdk_event_code"] == report["event_code"]


async def test_filters_are_those_of_the_contract(small_shop: Shop, driver: Driver) -> None:
    await small_shop.create("pay-1")
    await small_shop.create("pay-2", reference_order_id="order-2")
    await small_shop.buyer(Step.APPROVE, "pay-2")
    final = EARLIEST | {"final_states_only": True, "payment_request_ids": ["pay-1", "pay-2"]}
    async with driver.following(small_shop.port, final) as follower:
        await follower.until_caught_up()
    assert [event["payment_request_id"] for event in follower.events] == ["pay-2"]
    async with driver.following(
        small_shop.port, EARLIEST | {"event_types": ["NONSENSE"]}
    ) as refused:
        assert (await refused.until_failed())["name"] == "TypeError"


async def run_example(client: NodeClient, folder: Path, port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(client.node, CLIENT / "example.mjs", f"127.0.0.1:{port}", "pay-1"),
        cwd=folder,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_the_example_takes_a_payment_to_its_end_also_when_it_is_interrupted(
    small_shop: Shop, node_client: NodeClient, tmp_path: Path
) -> None:
    told = []
    first = await run_example(node_client, tmp_path, small_shop.port)
    assert first.stdout
    async with asyncio.timeout(PATIENCE):
        while "SESSION_CREATED" not in "".join(told):
            told.append((await first.stdout.readline()).decode())
        first.kill()
        await first.communicate()
        await small_shop.buyer(Step.APPROVE)
        second = await run_example(node_client, tmp_path, small_shop.port)
        rest, _ = await second.communicate()
    assert told[0] == "pay-1 is AWAITING_BUYER\n"
    assert rest.decode().splitlines()[-3:] == [
        "PAYMENT_AUTHORIZED: AUTHORIZED",
        "CAPTURE_SUCCEEDED: SUCCEEDED",
        "pay-1 is SUCCEEDED, 4200 minor units taken",
    ]
    assert second.returncode == 0
    assert [one.payment_request_id for one in small_shop.antom.payments] == ["pay-1"]
