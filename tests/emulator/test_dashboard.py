"""Antom's dashboard: payments cancelled and captured there, by Antom's rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from antom_payments.emulator import (
    BuyerAction,
    Cancellation,
    Emulator,
    EmulatorOptions,
    ManualCapture,
    NotPossible,
    Refused,
    Step,
)
from antom_payments.emulator.requests import SessionRequest
from emulator.test_buyer import MANUAL, covers, shape
from emulator.world import (
    SANDBOX_ID,
    Json,
    Merchant,
    Receiver,
    sample,
    session_request,
    wallet_request,
)

MINUTES, DAYS = 60, 86_400
AUTOMATIC = session_request()
BY_HAND = session_request(**MANUAL)
PAID_CARD = session_request(paymentFactor={"isAuthorization": False})
WALLET = wallet_request()


def paid_with(method: str) -> Json:
    return wallet_request(paymentMethod={"paymentMethodType": method})


async def refusal(merchant: Merchant, action: str, **words: object) -> str:
    """The code with which the dashboard refuses."""
    before = await merchant.http.get("/emulator/payments")
    response = await merchant.dashboard(action, **words)
    assert response.status_code == 409, response.text
    assert (await merchant.http.get("/emulator/payments")).json() == before.json()
    return str(response.json()["error"]["code"])


async def test_a_payment_is_cancelled_before_the_buyer_comes(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(AUTOMATIC)
    cancelled = await merchant.dashboard("cancel")
    blocked = await merchant.buyer(action="approve")
    again = await merchant.create(AUTOMATIC)
    await merchant.advance(2 * 3600)
    answer = await merchant.inquire()

    assert cancelled.json()["paymentStatus"] == "CANCELLED"
    assert (blocked.status_code, blocked.json()["error"]["code"]) == (409, "PAYMENT_FINISHED")
    assert (again.code, again.signed) == ("ORDER_IS_CANCELED", True)
    assert shape(answer) == shape(
        sample("inquiryPayment_response_cancelled_unpaid") | {"transactions": None}
    )
    assert (answer["paymentStatus"], answer["paymentResultCode"]) == ("CANCELLED", "SUCCESS")
    assert receiver.got == []


@pytest.mark.parametrize("action", ["abandon", "pending"])
async def test_a_payment_is_cancelled_while_the_buyer_is_on_the_way(
    merchant: Merchant, receiver: Receiver, action: str
) -> None:
    await merchant.create(WALLET)
    await merchant.buyer(action=action)
    await merchant.dashboard("cancel")
    await merchant.advance(2 * 3600)

    assert (await merchant.inquire())["paymentStatus"] == "CANCELLED"
    assert "PAYMENT_RESULT" not in receiver.types


async def test_a_paid_wallet_payment_is_cancelled_and_only_inquiry_tells(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(WALLET)
    await merchant.buyer(action="approve")
    await merchant.advance(60)
    await merchant.dashboard("cancel")
    once_more = await merchant.dashboard("cancel")
    await merchant.advance(DAYS)
    answer = await merchant.inquire()

    wanted = sample("inquiryPayment_response_cancelled_after_pay")
    assert covers(answer, wanted)
    assert answer["paymentResultMessage"] == wanted["paymentResultMessage"]
    assert (once_more.status_code, once_more.json()["paymentStatus"]) == (200, "CANCELLED")
    assert receiver.types == ["PAYMENT_RESULT"]


async def test_an_authorisation_is_voided(merchant: Merchant) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    await merchant.dashboard("cancel")
    answer = await merchant.inquire()

    assert answer["paymentStatus"] == "CANCELLED"
    assert {"authExpiryTime", "paymentResultInfo"} & set(answer) == set()
    assert await refusal(merchant, "capture") == "ORDER_IS_CANCELED"


async def test_a_late_success_does_not_revive_a_cancelled_payment(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.spoil(notifications=[{"fault": "DELAY", "delaySeconds": 600}])
    await merchant.create(WALLET)
    await merchant.buyer(action="approve")
    await merchant.dashboard("cancel")
    await merchant.advance(600)

    assert receiver.types == ["PAYMENT_RESULT"]
    assert (await merchant.inquire())["paymentStatus"] == "CANCELLED"


@pytest.mark.parametrize(
    ("request_", "seconds", "code"),
    [
        (AUTOMATIC, 0, "ORDER_STATUS_INVALID"),  # its capture is under way
        (AUTOMATIC, 60, "ORDER_STATUS_INVALID"),
        (BY_HAND, 7 * DAYS + 1, "CANCEL_WINDOW_EXCEED"),
        (PAID_CARD, 7 * DAYS + 1, "CANCEL_WINDOW_EXCEED"),
        (paid_with("MERCADOPAGO_BR"), 7 * DAYS + 1, "CANCEL_WINDOW_EXCEED"),
        # Paid at 17:30 in Antom's zone.
        (WALLET, 6 * 3600 + 45 * MINUTES + 1, "CANCEL_WINDOW_EXCEED"),
        (paid_with("JKOPAY"), 0, "PAYMENT_METHOD_NOT_SUPPORTED"),
        (paid_with("DANA"), 0, "PAYMENT_METHOD_NOT_SUPPORTED"),
        (paid_with("BANKAPP_SCB"), 0, "PAYMENT_METHOD_NOT_SUPPORTED"),
    ],
)
async def test_what_is_captured_or_too_old_is_not_cancelled_unless_forced(
    merchant: Merchant, request_: Json, seconds: float, code: str
) -> None:
    await merchant.create(request_)
    await merchant.buyer(action="approve")
    await merchant.advance(seconds)

    assert await refusal(merchant, "cancel") == code
    forced = await merchant.dashboard("cancel", force=True)
    assert forced.json()["paymentStatus"] == "CANCELLED"


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [
        (BY_HAND, 7 * DAYS - 1),
        (PAID_CARD, 7 * DAYS),
        (paid_with("MERCADOPAGO_BR"), 7 * DAYS),
        (WALLET, 6 * 3600 + 45 * MINUTES),
    ],
)
async def test_within_its_window_a_paid_payment_is_cancelled(
    merchant: Merchant, request_: Json, seconds: float
) -> None:
    await merchant.create(request_)
    await merchant.buyer(action="approve")
    await merchant.advance(seconds)

    assert (await merchant.dashboard("cancel")).json()["paymentStatus"] == "CANCELLED"


async def test_a_method_that_never_cancels_is_cancelled_before_payment(merchant: Merchant) -> None:
    await merchant.create(paid_with("DANA"))

    assert (await merchant.dashboard("cancel")).status_code == 200


async def test_nothing_leaves_failed(merchant: Merchant) -> None:
    await merchant.create(AUTOMATIC)
    await merchant.buyer(action="decline")

    assert await refusal(merchant, "cancel", force=True) == "ORDER_STATUS_INVALID"
    assert await refusal(merchant, "capture") == "ORDER_STATUS_INVALID"


async def test_an_authorised_payment_is_captured_by_hand(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    before = await merchant.inquire()
    await merchant.advance(DAYS)
    told = await merchant.dashboard("capture", captureRequestId="cap-1")
    await merchant.advance(0)
    after = await merchant.inquire()

    assert before["transactions"] is None
    assert covers(after, sample("inquiryPayment_response_captured"), without={"transactions"})
    (transaction,) = after["transactions"]
    assert transaction["transactionStatus"] == "SUCCESS"
    assert transaction["transactionRequestId"] == "cap-1"
    assert told.json()["captures"] == [
        {
            "captureId": transaction["transactionId"],
            "captureRequestId": "cap-1",
            "captureAmount": {"currency": "SGD", "value": "4200"},
            "resultCode": "SUCCESS",
        }
    ]
    capture = receiver.got[1].json
    assert shape(capture) == shape(sample("06_notifyCapture_CAPTURE_RESULT_success"))
    assert (capture["captureRequestId"], capture["captureId"]) == (
        "cap-1",
        transaction["transactionId"],
    )


async def test_after_a_capture_that_failed_another_may_succeed(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(AUTOMATIC)
    await merchant.buyer(action="approve", capture={"resultCode": "PROCESS_FAIL"})
    await merchant.advance(60)
    await merchant.dashboard("capture", resultCode="USER_BALANCE_NOT_ENOUGH")
    await merchant.dashboard("capture")
    await merchant.advance(0)
    answer = await merchant.inquire()

    told = [
        (one["transactionStatus"], one["transactionResult"]["resultCode"])
        for one in answer["transactions"]
    ]
    assert told == [
        ("FAIL", "PROCESS_FAIL"),
        ("FAIL", "USER_BALANCE_NOT_ENOUGH"),
        ("SUCCESS", "SUCCESS"),
    ]
    ids = {one["transactionRequestId"] for one in answer["transactions"]}
    assert len(ids) == 3
    codes = [one.json["result"]["resultCode"] for one in receiver.got]
    assert sorted(codes[1:]) == ["PROCESS_FAIL", "SUCCESS", "USER_BALANCE_NOT_ENOUGH"]


async def test_a_capture_may_be_in_process_for_a_while(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    started = await merchant.dashboard("capture", inProcessSeconds=3600)
    await merchant.advance(3599)
    waiting = await merchant.inquire()
    second = await refusal(merchant, "capture")
    await merchant.advance(1)
    done = await merchant.inquire()

    assert started.json()["captures"][0]["resultCode"] is None
    assert covers(waiting, sample("inquiryPayment_response_capture_in_process"))
    assert waiting["transactions"][0]["transactionStatus"] == "PROCESSING"
    assert second == "MULTI_CAPTURE_NOT_SUPPORTED"
    assert done["transactions"][0]["transactionStatus"] == "SUCCESS"
    assert receiver.types == ["PAYMENT_RESULT", "CAPTURE_RESULT"]


async def test_a_capture_fails_when_its_authorisation_is_cancelled_meanwhile(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    await merchant.advance(0)
    await merchant.dashboard("capture", inProcessSeconds=60)
    await merchant.dashboard("cancel", force=True)
    await merchant.advance(60)
    answer = await merchant.inquire()

    assert answer["paymentStatus"] == "CANCELLED"
    assert answer["transactions"][0]["transactionResult"]["resultCode"] == "AUTH_CANCELLED"
    assert receiver.got[1].json["result"]["resultCode"] == "AUTH_CANCELLED"


async def test_an_authorisation_expires_after_seven_days(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(BY_HAND)
    paid = await merchant.buyer(action="approve")
    await merchant.advance(7 * DAYS)
    await merchant.dashboard("capture", captureRequestId="late")
    await merchant.advance(0)
    answer = await merchant.inquire()

    assert paid.json()["authExpiryTime"] == "2026-03-09T17:30:00+08:00"
    assert receiver.got[1].json["result"] == sample("notifyCapture_failed_auth_expired")["result"]
    assert answer["paymentStatus"] == "SUCCESS"
    assert answer["transactions"][0]["transactionStatus"] == "FAIL"


async def test_a_known_capture_request_changes_nothing(
    merchant: Merchant, receiver: Receiver
) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    less = {"currency": "SGD", "value": "4100"}
    first = await merchant.dashboard("capture", captureRequestId="cap-1", captureAmount=less)
    again = await merchant.dashboard("capture", captureRequestId="cap-1", captureAmount=less)
    await merchant.advance(0)

    assert again.json() == first.json()
    assert first.json()["captures"][0]["captureAmount"] == less
    assert receiver.types.count("CAPTURE_RESULT") == 1
    other = await refusal(merchant, "capture", captureRequestId="cap-1")
    assert other == "REPEAT_REQ_INCONSISTENT"
    assert await refusal(merchant, "capture") == "MULTI_CAPTURE_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("request_", "amount", "code"),
    [
        (BY_HAND, {"currency": "SGD", "value": "4201"}, "CAPTURE_AMOUNT_EXCEED_AUTH_LIMIT"),
        (BY_HAND, {"currency": "USD", "value": "4200"}, "CURRENCY_NOT_SUPPORT"),
        (WALLET, None, "ORDER_STATUS_INVALID"),
        (PAID_CARD, None, "ORDER_STATUS_INVALID"),
    ],
)
async def test_there_must_be_so_much_to_capture(
    merchant: Merchant, request_: Json, amount: Json | None, code: str
) -> None:
    await merchant.create(request_)
    assert await refusal(merchant, "capture") == "ORDER_STATUS_INVALID"
    await merchant.buyer(action="approve")

    assert await refusal(merchant, "capture", captureAmount=amount) == code


@pytest.mark.parametrize(
    ("action", "words", "code"),
    [
        ("cancel", {"forced": True}, "WORDS_NOT_UNDERSTOOD"),
        ("capture", {"resultCode": "NO"}, "WORDS_NOT_UNDERSTOOD"),
        ("capture", {"captureAmount": {"currency": "SGD", "value": "0"}}, "WORDS_NOT_UNDERSTOOD"),
        ("capture", {"inProcessSeconds": -1}, "WORDS_NOT_UNDERSTOOD"),
        ("refund", {}, "NOT_FOUND"),
    ],
)
async def test_words_that_the_dashboard_does_not_know_change_nothing(
    merchant: Merchant, action: str, words: Json, code: str
) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    before = await merchant.inquire()
    refused = await merchant.dashboard(action, **words)

    assert refused.json()["error"]["code"] == code
    assert await merchant.inquire() == before


async def test_an_unknown_payment_is_not_found(merchant: Merchant) -> None:
    for action in ("cancel", "capture"):
        refused = await merchant.dashboard(action, "nothing")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "PAYMENT_NOT_FOUND")


async def test_a_body_may_be_left_out(merchant: Merchant) -> None:
    await merchant.create(BY_HAND)
    await merchant.buyer(action="approve")
    captured = await merchant.http.post("/emulator/dashboard/capture/order-1")

    assert captured.json()["captures"][0]["resultCode"] == "SUCCESS"


async def test_the_same_in_the_same_process(
    options: Callable[..., EmulatorOptions],
) -> None:
    async with Emulator(options()).running() as antom:
        antom.create_payment_session(SANDBOX_ID, SessionRequest.model_validate(BY_HAND))
        antom.play_buyer("order-1", BuyerAction(action=Step.APPROVE))
        captured = antom.capture_payment("order-1", ManualCapture(capture_request_id="cap-1"))
        with pytest.raises(Refused) as refused:
            antom.cancel_payment("order-1", Cancellation())
        with pytest.raises(NotPossible):
            antom.cancel_payment("nothing", Cancellation())
        cancelled = antom.cancel_payment("order-1", Cancellation(force=True))
        await antom.timeline.settle()
        told = [(one.notify_type, one.state) for one in antom.deliveries]

    assert told == [("PAYMENT_RESULT", "ACKNOWLEDGED"), ("CAPTURE_RESULT", "ACKNOWLEDGED")]
    assert captured.captures[0].capture_request_id == "cap-1"
    assert refused.value.result.code == "ORDER_STATUS_INVALID"
    assert cancelled.status == "CANCELLED"
