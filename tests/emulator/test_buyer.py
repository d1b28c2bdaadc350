"""What a buyer does, and what inquiryPayment and the notifications then say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from emulator.conftest import Started
from emulator.world import (
    INQUIRE,
    Json,
    Merchant,
    Notified,
    Receiver,
    sample,
    session_request,
    wallet_request,
)

VISA, DECLINED_VISA = "4054695723100768", "4054692760174822"
MANUAL = {"paymentFactor": {"isAuthorization": True, "captureMode": "MANUAL"}}


def shape(value: Any) -> Any:
    """Which fields of which types: what two messages of one kind have in common."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


def covers(message: Json, expected: Json, *, without: set[str] | None = None) -> bool:
    """Whether ``message`` has every field of the documentation's sample, in its type."""
    wanted = {name: item for name, item in expected.items() if name not in (without or set())}
    return shape(message) | shape(wanted) == shape(message)


async def test_before_the_buyer_submits_there_is_no_order(merchant: Merchant) -> None:
    await merchant.create(session_request())

    known, unknown = await merchant.inquire(), await merchant.inquire("never-seen")

    assert known == unknown
    assert known["result"]["resultCode"] == "ORDER_NOT_EXIST"
    assert known["result"]["resultStatus"] == "F"


async def test_before_the_buyer_submits_it_may_also_be_in_process(started: Started) -> None:
    async with started(before_submission="PROCESSING") as merchant:
        await merchant.create(session_request())

        answer = await merchant.inquire()

    assert covers(answer, sample("inquiryPayment_response_processing"))
    assert answer["paymentResultCode"] == "PAYMENT_IN_PROCESS"


async def test_an_inquiry_names_a_payment(merchant: Merchant) -> None:
    await merchant.create(session_request())
    payment_id = (await merchant.buyer(action="approve")).json()["paymentId"]

    none = await merchant.call(INQUIRE, {})
    long = await merchant.call(INQUIRE, {"paymentRequestId": "x" * 65})
    wins = await merchant.call(INQUIRE, {"paymentRequestId": "other", "paymentId": payment_id})

    assert none.code == long.code == "PARAM_ILLEGAL"
    assert wins.json["paymentRequestId"] == "order-1"


async def test_an_authorised_card_is_captured_by_antom(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(session_request())
    await merchant.buyer(action="approve", card=VISA)
    await merchant.advance(0)
    authorised = await merchant.inquire()
    await merchant.advance(1)
    captured = await merchant.inquire()

    payment, capture = (one.json for one in receiver.got)
    assert covers(payment, sample("03_notifyPayment_PAYMENT_RESULT_success"))
    assert covers(payment, sample("notifyPayment_card_authorised"))
    assert shape(capture) == shape(sample("06_notifyCapture_CAPTURE_RESULT_success"))
    assert payment["paymentId"] == capture["paymentId"] == captured["paymentId"]
    assert capture["captureAmount"] == payment["paymentAmount"]
    assert covers(authorised, sample("inquiryPayment_response_capture_in_process"))
    assert authorised["transactions"][0]["transactionStatus"] == "PROCESSING"
    assert covers(captured, sample("inquiryPayment_response_captured"), without={"transactions"})
    (transaction,) = captured["transactions"]
    (expected,) = sample("inquiryPayment_response_captured")["transactions"]
    assert covers(transaction, expected)
    assert transaction["transactionId"] == capture["captureId"]
    assert transaction["transactionRequestId"] == capture["captureRequestId"]
    assert transaction["transactionResult"] == capture["result"] | {"resultMessage": "success."}
    assert captured["authExpiryTime"] == "2026-03-09T17:30:00+08:00"


async def test_a_manual_capture_is_left_to_the_merchant(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(sample("createPaymentSession_request_card_manual_capture"))
    await merchant.create(session_request(**MANUAL))
    await merchant.buyer(action="approve")
    await merchant.advance(86_400)

    answer = await merchant.inquire()

    assert receiver.types == ["PAYMENT_RESULT"]
    assert covers(answer, sample("inquiryPayment_response_authorised_not_captured"))
    assert answer["transactions"] is None


@pytest.mark.parametrize(
    "factor", [{}, {"paymentFactor": {"isAuthorization": False}}, {"paymentFactor": {}}]
)
async def test_a_card_without_authorisation_is_paid_at_once(
    merchant: Merchant, receiver: Receiver, factor: Json
) -> None:
    request = session_request()
    request.pop("paymentFactor")
    await merchant.create(request | factor)
    await merchant.buyer(action="approve")
    await merchant.advance(60)

    answer = await merchant.inquire()

    assert receiver.types == ["PAYMENT_RESULT"]
    assert covers(answer, sample("05_inquiryPayment_response_success_transactions_null"))
    assert "authExpiryTime" not in answer


async def test_a_wallet_is_paid_at_once(merchant: Merchant, receiver: Receiver) -> None:
    await merchant.create(wallet_request(metadata='{"k":"v"}'))
    await merchant.buyer(action="approve")
    await merchant.advance(60)

    answer = await merchant.inquire()

    assert receiver.types == ["PAYMENT_RESULT"]
    assert covers(receiver.got[0].json, sample("notifyPayment_wallet_psp_customer"))
    assert receiver.got[0].json["pspCustomerInfo"]["pspName"] == "GCASH"
    assert answer["metadata"] == receiver.got[0].json["metadata"] == '{"k":"v"}'
    assert "paymentResultInfo" not in answer


async def test_on_a_hosted_page_the_buyer_chooses_the_method(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(
        sample("createPaymentSession_request_hosted_checkout")
        | {"paymentRequestId": "order-1", "paymentNotifyUrl": None}
    )
    await merchant.buyer(action="approve", paymentMethodType="GCASH")
    await merchant.advance(0)

    assert (await merchant.inquire())["paymentMethodType"] == "GCASH"
    assert receiver.got[0].json["paymentMethodType"] == "GCASH"


async def test_a_declined_payment_fails_with_the_buyer_s_code(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(session_request())
    await merchant.buyer(action="decline", resultCode="USER_BALANCE_NOT_ENOUGH")
    await merchant.advance(0)

    answer = await merchant.inquire()

    assert covers(answer, sample("inquiryPayment_response_fail_balance"))
    assert answer["paymentResultCode"] == "USER_BALANCE_NOT_ENOUGH"
    assert "paymentTime" not in answer
    (notified,) = (one.json for one in receiver.got)
    assert notified["notifyType"] == "PAYMENT_RESULT"
    assert notified["result"] == {
        "resultCode": "USER_BALANCE_NOT_ENOUGH",
        "resultStatus": "F",
        "resultMessage": "The balance is insufficient.",
    }


@pytest.mark.parametrize(
    ("action", "amount", "code"),
    [
        ({"action": "decline"}, "4200", "DO_NOT_HONOR"),
        ({"action": "approve", "card": DECLINED_VISA}, "4200", "DO_NOT_HONOR"),
        ({"action": "approve", "card": "5162 7704 7256 1357"}, "4200", "DO_NOT_HONOR"),
        ({"action": "approve", "card": VISA}, "11", "RISK_REJECT"),
        ({"action": "approve"}, "660005", "DO_NOT_HONOR"),
        ({"action": "approve"}, "660051", "USER_BALANCE_NOT_ENOUGH"),
        ({"action": "approve", "card": "5162774114974622"}, "4200", "SUCCESS"),
        ({"action": "approve", "card": "9490220011669217"}, "4200", "SUCCESS"),
    ],
)
async def test_cards_and_amounts_decide_the_outcome(
    merchant: Merchant, action: Json, amount: str, code: str
) -> None:
    await merchant.create(session_request(paymentAmount={"currency": "SGD", "value": amount}))
    await merchant.buyer(**action)

    answer = await merchant.inquire()

    assert answer["paymentResultCode"] == code
    card = action.get("card", VISA).replace(" ", "")
    assert answer["paymentResultInfo"]["cardNo"] == "************" + card[-4:]
    assert ("cardToken" in answer["paymentResultInfo"]) is (code == "SUCCESS")


async def test_a_pending_payment_is_decided_later(merchant: Merchant, receiver: Receiver) -> None:
    await merchant.create(wallet_request())
    await merchant.buyer(action="pending")
    await merchant.advance(2 * 3600)
    pending = await merchant.inquire()
    twice = await merchant.buyer(action="pending")
    await merchant.buyer(action="approve")
    await merchant.advance(0)

    assert shape(pending) == shape(
        sample("inquiryPayment_response_pending_no_result_code")
        | {"transactions": None, "pspCustomerInfo": {"pspName": "", "pspCustomerId": ""}}
    )
    assert twice.json()["error"]["code"] == "PAYMENT_PENDING"
    assert shape(receiver.got[0].json) == shape(sample("notifyPayment_pending"))
    assert receiver.types == ["PAYMENT_PENDING", "PAYMENT_RESULT"]
    assert (await merchant.inquire())["paymentStatus"] == "SUCCESS"


async def test_an_abandoned_payment_is_in_process_until_its_order_is_closed(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(session_request())
    await merchant.buyer(action="abandon")
    waiting = await merchant.inquire()
    await merchant.advance(14 * 60)
    closed = await merchant.inquire()

    assert covers(waiting, sample("inquiryPayment_response_processing"))
    assert (closed["paymentStatus"], closed["paymentResultCode"]) == ("FAIL", "ORDER_IS_CLOSED")
    assert [one.json["result"]["resultCode"] for one in receiver.got] == ["ORDER_IS_CLOSED"]


async def test_a_buyer_who_left_may_come_back(merchant: Merchant, receiver: Receiver) -> None:
    await merchant.create(wallet_request())
    await merchant.buyer(action="abandon")
    await merchant.buyer(action="approve")
    await merchant.advance(3600)

    assert (await merchant.inquire())["paymentStatus"] == "SUCCESS"
    assert receiver.types == ["PAYMENT_RESULT"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("PAYMENT_FIRST", [("PAYMENT_RESULT", "00"), ("CAPTURE_RESULT", "05")]),
        ("CAPTURE_FIRST", [("CAPTURE_RESULT", "00"), ("PAYMENT_RESULT", "05")]),
    ],
)
async def test_the_capture_s_news_come_after_or_before_the_payment_s(
    merchant: Merchant, receiver: Receiver, order: str, expected: list[tuple[str, str]]
) -> None:
    await merchant.create(session_request())
    await merchant.buyer(action="approve", capture={"order": order, "delaySeconds": 5})
    await merchant.advance(60)

    got = [(one.json["notifyType"], one.headers["request-time"][17:19]) for one in receiver.got]
    assert got == expected


async def test_the_capture_s_news_may_come_at_the_same_instant(
    started: Started, receiver: Receiver
) -> None:
    both = asyncio.Barrier(2)

    async def until_both_are_here(_notified: Notified) -> None:
        await both.wait()

    receiver.hold = until_both_are_here
    async with started(capture_order="SAME_INSTANT") as merchant:
        await merchant.create(session_request())
        await merchant.buyer(action="approve")
        await merchant.advance(0)

        assert {one["state"] for one in await merchant.deliveries()} == {"ACKNOWLEDGED"}
    assert sorted(receiver.types) == ["CAPTURE_RESULT", "PAYMENT_RESULT"]


async def test_a_capture_may_fail_and_leaves_the_authorisation(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(session_request())
    await merchant.buyer(action="approve", capture={"resultCode": "PROCESS_FAIL"})
    await merchant.advance(1)

    answer = await merchant.inquire()

    assert shape(receiver.got[1].json) == shape(sample("07_notifyCapture_CAPTURE_RESULT_failed"))
    assert receiver.got[1].json["result"]["resultCode"] == "PROCESS_FAIL"
    assert answer["paymentStatus"] == "SUCCESS"
    (fragment,) = sample("09_inquiryPayment_fragment_capture_fail")["transactions"]
    assert shape(answer["transactions"]) == [shape(fragment)]
    assert answer["transactions"][0]["transactionResult"] == fragment["transactionResult"]


async def test_an_amount_may_make_the_capture_fail_unless_the_buyer_says_how_it_goes(
    merchant: Merchant,
) -> None:
    magic = {"currency": "SGD", "value": "660061"}
    for name, wish in (("magic", {}), ("told", {"capture": {"resultCode": "SUCCESS"}})):
        await merchant.create(session_request(name, paymentAmount=magic))
        await merchant.buyer(name, action="approve", **wish)
    await merchant.advance(1)

    (failed,) = (await merchant.inquire("magic"))["transactions"]
    (captured,) = (await merchant.inquire("told"))["transactions"]
    assert failed["transactionResult"]["resultCode"] == "PROCESS_FAIL"
    assert captured["transactionResult"]["resultCode"] == "SUCCESS"


async def test_every_capture_may_be_made_to_fail(started: Started, receiver: Receiver) -> None:
    async with started(capture_result_code="AUTH_EXPIRED") as merchant:
        await merchant.create(session_request())
        await merchant.buyer(action="approve")
        await merchant.advance(1)

    assert receiver.got[1].json["result"] == sample("notifyCapture_failed_auth_expired")["result"]


@pytest.mark.parametrize(
    ("request_", "action", "status", "code"),
    [
        (session_request(), {"action": "steal"}, 400, "WORDS_NOT_UNDERSTOOD"),
        (session_request(), {}, 400, "WORDS_NOT_UNDERSTOOD"),
        (session_request(), {"action": "approve", "cart": "1"}, 400, "WORDS_NOT_UNDERSTOOD"),
        (
            session_request(),
            {"action": "decline", "resultCode": "SUCCESS"},
            *(400, "WORDS_NOT_UNDERSTOOD"),
        ),
        (
            session_request(),
            {"action": "approve", "capture": {"resultCode": "NO"}},
            *(400, "WORDS_NOT_UNDERSTOOD"),
        ),
        (
            session_request(),
            {"action": "approve", "resultCode": "PROCESS_FAIL"},
            *(400, "RESULT_CODE_NOT_USED"),
        ),
        (session_request(), {"action": "approve", "card": "4242"}, 400, "UNKNOWN_CARD"),
        (
            session_request(),
            {"action": "approve", "paymentMethodType": "GCASH"},
            *(400, "WRONG_METHOD"),
        ),
        (wallet_request(), {"action": "approve", "card": VISA}, 400, "CARD_NOT_USED"),
        (wallet_request(), {"action": "approve", "capture": {}}, 400, "CAPTURE_NOT_USED"),
        (session_request(), {"action": "decline", "capture": {}}, 400, "CAPTURE_NOT_USED"),
    ],
)
async def test_what_a_buyer_cannot_do_is_said_and_changes_nothing(
    merchant: Merchant, request_: Json, action: Json, status: int, code: str
) -> None:
    await merchant.create(request_)

    refused = await merchant.buyer(**action)

    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert (await merchant.inquire())["result"]["resultCode"] == "ORDER_NOT_EXIST"
    assert await merchant.deliveries() == []


async def test_a_buyer_of_no_payment_is_not_found(merchant: Merchant) -> None:
    refused = await merchant.buyer("nothing", action="approve")

    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "PAYMENT_NOT_FOUND")


async def test_ids_with_slashes_and_escapes_name_their_payment(merchant: Merchant) -> None:
    await merchant.create(session_request("a/b%2F c?d"))

    assert (await merchant.buyer("a/b%2F c?d", action="approve")).status_code == 200
