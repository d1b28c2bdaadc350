"""Antom's official SDK agrees with our signatures and talks to our emulator, over TLS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from antom.golden import SANDBOX_CLIENT_ID, all_vectors, keys, private_key, public_key
from antom.wires import Request, Visit, authority, serving
from antom_payments.antom.messages import SessionPolicy, parse_notification, session_body
from antom_payments.antom.signing import Signer, Verifier
from antom_payments.emulator import BuyerAction, EmulatorOptions, Step, server_config
from antom_payments.fact import FactKind, Outcome
from antom_payments.money import Money
from antom_payments.session import Buyer, Order, PaymentMethod, SessionRequest
from clock import START, FrozenClock
from emulator.world import receiving
from emulator.world import serving as serving_app
from official_sdk.environment import OfficialSdk

CREATE = "/ams/sandbox/api/v1/payments/createPaymentSession"
NOTIFY_URL = "https://www.yourNotifyUrl"
RESPONSE_TIME = "2026-03-02T17:30:00+08:00"

MESSAGES: list[dict[str, str]] = [
    {"method": "POST", "uri": uri, "client_id": client_id, "time": time, "body": body}
    for uri, client_id, time in (
        (CREATE, SANDBOX_CLIENT_ID, "1685599933871"),
        ("/antom/notify", "5J5XSU7Y2Y182W01981", RESPONSE_TIME),
    )
    for body in ("{}", '{"a":"Café 订单 🍵"}', '{\n  "a": "b.c\\n"\r\n}\n', " ", "")
]


def _our_header(message: dict[str, str]) -> str:
    signer = Signer(private_key("merchant_private"), message["client_id"])
    return signer.signature_header(
        message["method"], message["uri"], message["time"], message["body"].encode()
    )


def _verify_request(request: Request) -> None:
    """Verify what the SDK put on the wire; its target is in absolute form (antom-api 1.10)."""
    Verifier([public_key("merchant_public")]).verify(
        method="POST",
        uri=request.path.removeprefix("https://localhost"),
        client_id=request.headers["client-id"],
        time=request.headers["request-time"],
        body=request.body,
        signature_header=request.headers["signature"],
    )


async def test_it_signs_byte_for_byte_as_we_do(sdk: OfficialSdk) -> None:
    theirs = await sdk.do("sign", key=keys()["merchant_private"], messages=MESSAGES)
    ours = [_our_header(message).partition("signature=")[2] for message in MESSAGES]
    assert theirs == ours


async def test_it_verifies_what_we_sign(sdk: OfficialSdk) -> None:
    key = keys()["merchant_public"]
    signed = [
        message | {"signature_header": _our_header(message), "key": key} for message in MESSAGES
    ]
    assert await sdk.do("verify", messages=signed) == [True] * len(MESSAGES)
    altered = [message | {"body": message["body"] + " "} for message in signed]
    assert await sdk.do("verify", messages=altered) == ["VerificationError"] * len(MESSAGES)


async def test_it_still_answers_the_golden_vectors_as_they_say(sdk: OfficialSdk) -> None:
    """Where our verdict is another, the vectors say so: for a raw plus sign."""
    vectors = [
        vector.values[0]
        for vector in all_vectors()
        if vector.values[0]["official_python_sdk_check_signature"] != "raises AlipayApiException"
    ]
    verdicts = await sdk.do(
        "verify",
        messages=[
            {name: vector[name] for name in ("method", "uri", "client_id", "time")}
            | {
                "body": vector["body"].decode(),
                "signature_header": vector["signature_header"],
                "key": vector.get("public_key") or keys()[vector["verify_with"]],
            }
            for vector in vectors
        ],
    )
    for vector, verdict in zip(vectors, verdicts, strict=True):
        said = vector["official_python_sdk_check_signature"].removeprefix("raises ")
        assert str(verdict).lower() == said.lower(), vector["name"]
        differs = verdict is not True and vector["expected_valid"]
        assert differs == (vector["name"] == "sig_raw_base64_with_plus")


async def test_we_verify_what_it_sends_and_it_verifies_what_we_answer(
    sdk: OfficialSdk, tmp_path: Path
) -> None:
    trusted = authority(tmp_path)
    body = json.dumps({"result": {"resultStatus": "S", "resultCode": "SUCCESS"}}).encode()

    async def answering(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        headers = {
            "client-id": SANDBOX_CLIENT_ID,
            "response-time": RESPONSE_TIME,
            "signature": signer.signature_header("POST", CREATE, RESPONSE_TIME, body),
        }
        await visit.answer(body, headers)

    async with serving(answering, tls=trusted.server_tls) as server:
        answer = await _call(sdk, server.port, trusted.ca_file, "createPaymentSession")
    assert answer == json.loads(body)
    [request] = server.requests
    _verify_request(request)
    # The same session, asked by us, is the same JSON.
    ours = session_body(_seed_request(), policy=SessionPolicy(), now=START)
    assert json.loads(request.body) == json.loads(ours)


async def test_it_pays_at_our_emulator_over_tls_and_verifies_every_answer(
    sdk: OfficialSdk, tmp_path: Path
) -> None:
    trusted = authority(tmp_path)
    async with receiving() as receiver:
        options = EmulatorOptions(
            antom_private_key=private_key("antom_private"),
            merchant_public_keys={SANDBOX_CLIENT_ID: [public_key("merchant_public")]},
            clock=FrozenClock().now,
        )
        config = server_config(
            options,
            certificate_file=trusted.ca_file,
            private_key_file=trusted.ca_file.with_name("key.pem"),
        )
        async with serving_app(config) as port:
            notify_url = f"{receiver.origin}/antom/notify"
            session = await _call(
                sdk, port, trusted.ca_file, "createPaymentSession", notify_url=notify_url
            )
            assert session["result"]["resultStatus"] == "S"
            assert session["paymentSessionData"]

            before = await _call(sdk, port, trusted.ca_file, "inquiryPayment")
            assert before["result"]["resultCode"] == "ORDER_NOT_EXIST"

            emulator = config.app.state.emulator
            emulator.play_buyer("paymentRequestId01", BuyerAction(action=Step.APPROVE))
            await emulator.timeline.advance(60)
            after = await _call(sdk, port, trusted.ca_file, "inquiryPayment")
            assert after["paymentStatus"] == "SUCCESS"
            notified = await receiver.received(2)

    verdicts = await sdk.do(
        "verify",
        messages=[
            {
                "key": keys()["antom_public"],
                "method": "POST",
                "uri": notification.target,
                "client_id": notification.headers["client-id"],
                "time": notification.headers["request-time"],
                "body": notification.body.decode(),
                "signature_header": notification.headers["signature"],
            }
            for notification in notified
        ],
    )
    assert verdicts == [True, True]
    facts = [parse_notification(one.body, merchant_account="shop") for one in notified]
    assert [(fact.kind, fact.outcome) for fact in facts] == [
        (FactKind.PAYMENT, Outcome.SUCCEEDED),
        (FactKind.CAPTURE, Outcome.SUCCEEDED),
    ]


async def _call(
    sdk: OfficialSdk, port: int, ca_file: Path, operation: str, notify_url: str = NOTIFY_URL
) -> Any:
    return await sdk.do(
        "call",
        ca_file=ca_file,
        operation=operation,
        port=port,
        client_id=SANDBOX_CLIENT_ID,
        private_key=keys()["merchant_private"],
        public_key=keys()["antom_public"],
        payment_request_id="paymentRequestId01",
        notify_url=notify_url,
    )


def _seed_request() -> SessionRequest:
    amount = Money("SGD", 4200)
    return SessionRequest(
        payment_request_id="paymentRequestId01",
        payment_amount=amount,
        order=Order(
            reference_order_id="referenceOrderId01",
            order_description="antom sdk test order",
            order_amount=amount,
            buyer=Buyer(reference_buyer_id="yourBuyerId"),
        ),
        payment_method=PaymentMethod(payment_method_type="CARD"),
        payment_redirect_url="https://www.yourMerchantWeb.com",
        payment_notify_url=NOTIFY_URL,
        is_authorization=True,
    )
