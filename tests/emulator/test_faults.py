"""Answers that go wrong on purpose: how, for which calls, how often, and the same way again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from antom_payments.emulator import (
    AnswerFault,
    AnswerFaultKind,
    Emulator,
    EmulatorOptions,
    FaultPlan,
    NotPossible,
    emulator_app,
)
from antom_payments.emulator.faults import Faults
from antom_payments.errors import ConfigurationError
from emulator.conftest import Started
from emulator.world import (
    CREATE,
    INQUIRE,
    SANDBOX_ID,
    Json,
    Merchant,
    is_signed,
    sample,
    session_request,
    wallet_request,
)

ASKED = {"paymentRequestId": "order-1"}
CREATED = session_request()


async def payments(merchant: Merchant) -> list[str]:
    """What Antom has, however it answers."""
    shown = (await merchant.http.get("/emulator/payments")).json()["payments"]
    return [one["paymentRequestId"] for one in shown]


async def struck(merchant: Merchant) -> int:
    """How often a fault of answers has struck."""
    shown = (await merchant.http.get("/emulator/faults")).json()["answers"]
    return sum(one["struck"] for one in shown)


async def until_struck(merchant: Merchant) -> None:
    while not await struck(merchant):
        continue


# In place of the answer


@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_connection_is_cut_before_or_after_the_effect(
    merchant: Merchant, *, takes_effect: bool
) -> None:
    await merchant.spoil(answers=[{"fault": "DROP", "takesEffect": takes_effect, "times": 1}])
    with pytest.raises(httpx.RemoteProtocolError):
        await merchant.raw(CREATE, CREATED)

    assert await payments(merchant) == ["order-1"] * takes_effect
    assert (await merchant.create(CREATED)).code == "SUCCESS"


@pytest.mark.parametrize(("fault", "status"), [("HTTP_500", 500), ("HTTP_503", 503)])
@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_gateway_fails_before_or_after_the_effect(
    merchant: Merchant, fault: str, status: int, *, takes_effect: bool
) -> None:
    await merchant.spoil(answers=[{"fault": fault, "takesEffect": takes_effect}])
    answer = await merchant.raw(CREATE, CREATED)

    assert (answer.status_code, answer.content) == (status, b"")
    assert "signature" not in answer.headers
    assert await payments(merchant) == ["order-1"] * takes_effect


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("UNKNOWN", "inquiryPayment_response_api_unknown"),
        ("THROTTLED", "gateway_error_traffic"),
    ],
)
async def test_u_is_answered_for_some_calls_and_then_all_is_as_usual(
    merchant: Merchant, fault: str, expected: str
) -> None:
    await merchant.spoil(answers=[{"fault": fault, "times": 3}])
    answers = [await merchant.create(CREATED) for _ in range(4)]

    assert [one.json for one in answers[:3]] == [sample(expected)] * 3
    assert [one.signed for one in answers] == [True] * 4
    assert answers[3].code == "SUCCESS"


async def test_what_is_unknown_may_have_taken_effect(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "UNKNOWN", "takesEffect": True}])

    assert (await merchant.create(CREATED)).code == "UNKNOWN_EXCEPTION"
    assert await payments(merchant) == ["order-1"]


async def test_garbage_comes_with_http_200(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "GARBAGE"}])
    answer = await merchant.raw(CREATE, CREATED)

    assert (answer.status_code, answer.headers["content-type"][:9]) == (200, "text/html")
    assert answer.content.startswith(b"<html>")


# The true answer, bent


async def test_a_late_answer_leaves_by_antoms_clock(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "DELAY", "delaySeconds": 30, "times": 1}])
    calling = asyncio.create_task(merchant.create(CREATED))
    await until_struck(merchant)
    await merchant.advance(29)
    early = calling.done()
    await merchant.advance(1)
    answer = await calling

    assert not early
    assert (answer.code, answer.signed) == ("SUCCESS", True)
    assert answer.headers["response-time"] == "2026-03-02T17:30:30+08:00"


async def test_a_reset_lets_go_what_is_late(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "DELAY", "delaySeconds": 86_400}])
    calling = asyncio.create_task(merchant.create(CREATED))
    await until_struck(merchant)
    await merchant.http.post("/emulator/reset")

    assert (await calling).code == "SUCCESS"


async def test_a_success_may_come_unsigned(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "UNSIGNED"}])
    answer = await merchant.create(CREATED)

    assert (answer.code, answer.signed) == ("SUCCESS", False)
    assert {"client-id", "response-time"} & set(answer.headers) == set()


async def test_a_success_may_come_badly_signed(
    merchant: Merchant, antom_public: RSAPublicKey
) -> None:
    await merchant.spoil(answers=[{"fault": "BADLY_SIGNED"}])
    answer = await merchant.raw(CREATE, CREATED)

    assert answer.json()["result"]["resultCode"] == "SUCCESS"
    with pytest.raises(InvalidSignature):
        is_signed(antom_public, answer.headers, "response-time", CREATE, answer.content)


async def test_an_answer_may_be_meant_for_another_client(
    merchant: Merchant, antom_public: RSAPublicKey
) -> None:
    await merchant.spoil(answers=[{"fault": "WRONG_CLIENT_ID"}])
    answer = await merchant.raw(CREATE, CREATED)

    assert answer.headers["client-id"] not in {"", SANDBOX_ID}
    # Only the client id tells: Antom's signature over it is right.
    assert is_signed(antom_public, answer.headers, "response-time", CREATE, answer.content)


async def test_an_answer_may_be_signed_with_the_key_that_antom_rotates_to(
    started: Started, next_private: RSAPrivateKey, antom_public: RSAPublicKey
) -> None:
    async with started(antom_next_private_key=next_private) as merchant:
        await merchant.spoil(answers=[{"fault": "NEXT_KEY"}])
        answer = await merchant.raw(CREATE, CREATED)

    with pytest.raises(InvalidSignature):
        is_signed(antom_public, answer.headers, "response-time", CREATE, answer.content)
    rotated = next_private.public_key()
    assert is_signed(rotated, answer.headers, "response-time", CREATE, answer.content)


async def test_without_a_next_key_nothing_can_be_signed_with_it(merchant: Merchant) -> None:
    plan = {"answers": [{"fault": "NEXT_KEY"}], "notifications": [{"fault": "NEXT_KEY"}]}
    refused = await merchant.http.post("/emulator/faults", json=plan)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "NO_NEXT_KEY")
    assert (await merchant.create(CREATED)).code == "SUCCESS"


# Which calls, and how often


async def test_a_fault_strikes_its_operation_only(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "UNKNOWN", "operation": "inquiryPayment"}])

    assert (await merchant.create(CREATED)).code == "SUCCESS"
    assert (await merchant.call(INQUIRE, ASKED)).code == "UNKNOWN_EXCEPTION"


async def test_a_fault_strikes_its_payment_only_under_either_of_its_ids(merchant: Merchant) -> None:
    for name in ("one", "two"):
        await merchant.create(wallet_request(name))
        await merchant.buyer(name, action="approve")
    shown = (await merchant.http.get("/emulator/payments")).json()["payments"]
    await merchant.spoil(answers=[{"fault": "UNKNOWN", "paymentRequestId": "one"}])

    told = [
        (await merchant.call(INQUIRE, {name: one[name]})).code
        for one in shown
        for name in ("paymentRequestId", "paymentId")
    ]
    assert told == ["UNKNOWN_EXCEPTION"] * 2 + ["SUCCESS"] * 2


async def test_faults_follow_each_other_in_their_order(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "UNKNOWN", "times": 1}])
    await merchant.spoil(answers=[{"fault": "THROTTLED", "times": 1}])
    codes = [(await merchant.create(CREATED)).code for _ in range(3)]

    assert codes == ["UNKNOWN_EXCEPTION", "REQUEST_TRAFFIC_EXCEED_LIMIT", "SUCCESS"]


async def test_strangers_and_wrong_addresses_get_the_usual_answers(merchant: Merchant) -> None:
    await merchant.spoil(answers=[{"fault": "GARBAGE"}])
    stranger = await merchant.send("POST", CREATE, {"client-id": "nobody"}, b"{}")
    lost = await merchant.call("/ams/sandbox/api/v1/payments/nothing", {})

    assert (stranger.code, lost.code) == ("CLIENT_INVALID", "NO_INTERFACE_DEF")
    assert await struck(merchant) == 0


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"paymentId": 7}'])
async def test_a_request_that_names_no_payment_can_be_struck_too(
    merchant: Merchant, body: bytes
) -> None:
    await merchant.spoil(answers=[{"fault": "UNKNOWN"}])

    assert (await merchant.call(INQUIRE, body)).code == "UNKNOWN_EXCEPTION"


async def test_faults_are_shown_counted_and_cleared(merchant: Merchant) -> None:
    await merchant.spoil(
        answers=[{"fault": "UNKNOWN", "times": 2}], notifications=[{"fault": "WITHHOLD"}]
    )
    await merchant.create(CREATED)
    shown = (await merchant.http.get("/emulator/faults")).json()
    cleared = (await merchant.http.delete("/emulator/faults")).json()

    assert shown == {
        "seed": 7,
        "answers": [{"number": 1, "fault": "UNKNOWN", "times": 2, "struck": 1}],
        "notifications": [{"number": 2, "fault": "WITHHOLD", "struck": 0}],
    }
    assert cleared == {"seed": 7, "answers": [], "notifications": []}
    assert (await merchant.create(CREATED)).code == "SUCCESS"


async def test_a_reset_brings_the_faults_of_the_start_back(started: Started) -> None:
    once = AnswerFault(fault=AnswerFaultKind.UNKNOWN, times=1)
    async with started(faults=FaultPlan(answers=(once,))) as merchant:
        for _ in range(2):
            await merchant.spoil(answers=[{"fault": "GARBAGE", "operation": "inquiryPayment"}])
            codes = [(await merchant.create(CREATED)).code for _ in range(2)]
            assert codes == ["UNKNOWN_EXCEPTION", "SUCCESS"]
            await merchant.http.post("/emulator/reset")
        assert (await merchant.call(INQUIRE, ASKED)).code == "UNKNOWN_EXCEPTION"


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ({"answers": [{}]}, "fault"),
        ({"answers": [{"fault": "MELTDOWN"}]}, "fault"),
        ({"answers": [{"fault": "DROP", "operation": "refund"}]}, "operation"),
        ({"answers": [{"fault": "DROP", "times": 0}]}, "times"),
        ({"answers": [{"fault": "DROP", "probability": 1.5}]}, "probability"),
        ({"answers": [{"fault": "DELAY"}]}, "delaySeconds"),
        ({"answers": [{"fault": "DELAY", "delaySeconds": 0}]}, "delaySeconds"),
        ({"answers": [{"fault": "DROP", "delaySeconds": 5}]}, "delaySeconds"),
        ({"answers": [{"fault": "UNSIGNED", "takesEffect": True}]}, "takesEffect"),
        ({"answers": [{"fault": "THROTTLED", "takesEffect": True}]}, "takesEffect"),
        ({"answers": [{"fault": "WITHHOLD"}]}, "fault"),
        ({"notifications": [{"fault": "GARBAGE"}]}, "fault"),
        ({"notifications": [{"fault": "DUPLICATE"}]}, "copies"),
        ({"notifications": [{"fault": "DROP", "copies": 1}]}, "copies"),
        ({"notifications": [{"fault": "REORDER"}]}, "delaySeconds"),
        ({"notifications": [{"fault": "DROP", "notifyType": "REFUND"}]}, "notifyType"),
        ({"faults": []}, "faults"),
    ],
)
async def test_a_fault_that_would_not_do_as_it_says_is_refused(
    merchant: Merchant, plan: Json, named: str
) -> None:
    refused = await merchant.http.post("/emulator/faults", json=plan)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "WORDS_NOT_UNDERSTOOD")
    assert named in error["message"]
    assert (await merchant.create(CREATED)).code == "SUCCESS"


# Chance


def outcomes(seed: int | None, calls: list[str], probability: float = 0.5) -> list[bool]:
    """Which of these calls, by payment, are struck."""
    fault = AnswerFault(fault=AnswerFaultKind.UNKNOWN, probability=probability)
    faults = Faults(FaultPlan(answers=(fault,)), seed)
    return [faults.of_answer("inquiryPayment", name) is not None for name in calls]


def test_one_seed_repeats_one_run_and_another_makes_another() -> None:
    calls = ["pay-1", "pay-2"] * 40
    first = outcomes(7, calls)

    assert outcomes(7, calls) == first
    assert outcomes(8, calls) != first
    assert outcomes(None, calls) != outcomes(None, calls)
    assert 20 < sum(first) < 60
    assert not any(outcomes(7, calls, 0.0))
    assert all(outcomes(7, calls, 1.0))


def test_who_comes_first_does_not_change_what_chance_brings_a_payment() -> None:
    together = outcomes(7, ["pay-1", "pay-2"] * 40)
    one_by_one = outcomes(7, ["pay-1"] * 40 + ["pay-2"] * 40)

    assert together[0::2] == one_by_one[:40]
    assert together[1::2] == one_by_one[40:]


async def test_a_whole_run_is_repeated_by_its_seed(started: Started) -> None:
    plan = FaultPlan.model_validate(
        {
            "answers": [{"fault": "UNKNOWN", "probability": 0.4}],
            "notifications": [{"fault": "DUPLICATE", "copies": 2, "probability": 0.5}],
        }
    )

    async def run(seed: int) -> tuple[list[str], list[Json]]:
        async with started(seed=seed, faults=plan) as merchant:
            codes = []
            for number in range(12):
                name = f"pay-{number}"
                codes.append((await merchant.create(wallet_request(name))).code)
                await merchant.buyer(name, action="approve")
            await merchant.advance(0)
            return codes, await merchant.deliveries()

    first = await run(1)
    assert await run(1) == first
    assert await run(2) != first
    assert len(set(first[0])) == 2


def test_a_plan_that_needs_a_next_key_needs_one_in_the_options(
    options: Callable[..., EmulatorOptions],
) -> None:
    plan = FaultPlan(answers=(AnswerFault(fault=AnswerFaultKind.NEXT_KEY),))

    with pytest.raises(ConfigurationError, match="antom_next_private_key"):
        options(faults=plan)


async def test_the_same_in_the_same_process(options: Callable[..., EmulatorOptions]) -> None:
    def plan(**words: Any) -> FaultPlan:
        return FaultPlan(answers=(AnswerFault(**words),))

    async with Emulator(options()).running() as antom:
        antom.add_faults(plan(fault=AnswerFaultKind.UNKNOWN, times=2))
        with pytest.raises(NotPossible):
            antom.add_faults(plan(fault=AnswerFaultKind.NEXT_KEY))
        assert [one.fault.times for one in antom.faults.answers] == [2]
        antom.faults.clear()
        assert antom.faults.answers == []


async def test_another_server_than_ours_cannot_cut_connections(
    options: Callable[..., EmulatorOptions],
    merchant_private: RSAPrivateKey,
    antom_public: RSAPublicKey,
) -> None:
    plan = FaultPlan(answers=(AnswerFault(fault=AnswerFaultKind.DROP),))
    app = emulator_app(options(faults=plan))
    bare = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=bare, base_url="http://antom.invalid") as http:
        merchant = Merchant(http, merchant_private, antom_public)
        answer = await merchant.raw(CREATE, CREATED)

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INTERNAL")
