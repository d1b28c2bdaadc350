"""Our own client and the emulator agree: what one sends the other takes and understands."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from antom_payments.antom.client import AntomClient, open_client
from antom_payments.antom.messages import SessionPolicy, parse_notification, session_body
from antom_payments.antom.signing import Signer, Verifier
from antom_payments.errors import AntomRefused, AntomUntrusted, NewPaymentRequestIdNeeded
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.session import (
    Address,
    Buyer,
    CardMetadata,
    Env,
    Goods,
    Order,
    PaymentMethod,
    SessionRequest,
    Shipping,
    UserName,
)
from clock import START
from emulator.world import SANDBOX_ID, Merchant, Receiver

SGD_42 = Money("SGD", 4200)
ANN = UserName(first_name="Ann", last_name="Lee")
EVERYTHING = SessionRequest(
    payment_request_id="order-1",
    payment_amount=SGD_42,
    order=Order(
        reference_order_id="order-1",
        order_description="Two coffees",
        order_amount=SGD_42,
        buyer=Buyer("ann", ANN, "+6591234567", "ann@example.com", START),
        goods=(Goods("sku-1", "Café", "food/drinks", Money("SGD", 2100), 2, "", "PHYSICAL"),),
        shipping=Shipping(
            ANN, Address("SG", "", "Singapore", "1 Road", "", "018989"), "post", "+6591234567"
        ),
    ),
    payment_method=PaymentMethod("CARD", card=CardMetadata(is_3ds_authentication=False)),
    payment_redirect_url="https://shop.example/return",
    is_authorization=True,
    capture_mode="AUTOMATIC",
    settlement_currency="SGD",
    payment_session_expiry_time=START + timedelta(minutes=30),
    env=Env("WEB", "", "203.0.113.7", "Mozilla/5.0", "device"),
    merchant_region="SG",
    user_region="SG",
    locale="en_US",
)
BODY = session_body(EVERYTHING, policy=SessionPolicy(), now=START)


def client_of(
    merchant: Merchant, merchant_private: RSAPrivateKey, antom_public: RSAPublicKey
) -> AbstractAsyncContextManager[AntomClient]:
    return open_client(
        str(merchant.http.base_url).rstrip("/"),
        Signer(merchant_private, SANDBOX_ID),
        Verifier([antom_public]),
    )


async def test_facts_by_notification_and_by_inquiry_are_the_same(
    merchant: Merchant,
    receiver: Receiver,
    merchant_private: RSAPrivateKey,
    antom_public: RSAPublicKey,
) -> None:
    async with client_of(merchant, merchant_private, antom_public) as client:
        session = await client.create_payment_session(BODY, budget_seconds=5)
        before = await client.inquire_payment(
            merchant_account="default", payment_request_id="order-1", budget_seconds=5
        )
        await merchant.buyer(session.payment_session_id, action="approve")
        await merchant.advance(1)
        after = await client.inquire_payment(
            merchant_account="default", payment_request_id="order-1", budget_seconds=5
        )

    notified = [parse_notification(one.body, merchant_account="default") for one in receiver.got]
    assert session.payment_session_expiry_time == START + timedelta(minutes=30)
    assert before.exists is False
    assert [(fact.kind, fact.outcome, fact.amount) for fact in notified] == [
        (FactKind.PAYMENT, Outcome.SUCCEEDED, SGD_42),
        (FactKind.CAPTURE, Outcome.SUCCEEDED, SGD_42),
    ]
    assert [fact.identity for fact in after.facts] == [fact.identity for fact in notified]
    assert [fact.antom_time for fact in after.facts] == [fact.antom_time for fact in notified]
    payment = after.facts[0]
    assert (payment.capture_expected, payment.payment_time) == (True, START)
    assert payment.auth_expiry_time == START + timedelta(days=7)


@pytest.mark.parametrize(
    ("action", "outcome", "code"),
    [
        ({"action": "decline"}, Outcome.FAILED, "DO_NOT_HONOR"),
        ({"action": "pending"}, Outcome.PENDING, "SUCCESS"),
    ],
)
async def test_other_outcomes_are_understood(
    *,
    merchant: Merchant,
    receiver: Receiver,
    merchant_private: RSAPrivateKey,
    antom_public: RSAPublicKey,
    action: dict[str, str],
    outcome: Outcome,
    code: str,
) -> None:
    async with client_of(merchant, merchant_private, antom_public) as client:
        await client.create_payment_session(BODY, budget_seconds=5)
        await merchant.buyer(**action)
        await merchant.advance(0)
        answer = await client.inquire_payment(
            merchant_account="default", payment_request_id="order-1", budget_seconds=5
        )

    (notified,) = receiver.got
    fact: Fact = parse_notification(notified.body, merchant_account="default")
    assert (fact.outcome, fact.result_code) == (outcome, code)
    assert answer.facts[0].outcome in {outcome, Outcome.PROCESSING}


async def test_refusals_are_told_apart(
    merchant: Merchant,
    merchant_private: RSAPrivateKey,
    antom_private: RSAPrivateKey,
    antom_public: RSAPublicKey,
) -> None:
    async with client_of(merchant, merchant_private, antom_public) as client:
        with pytest.raises(AntomRefused) as illegal:
            await client.create_payment_session(b"{}", budget_seconds=5)
        await client.create_payment_session(BODY, budget_seconds=5)
        await merchant.buyer(action="decline")
        with pytest.raises(NewPaymentRequestIdNeeded):
            await client.create_payment_session(BODY, budget_seconds=5)
    # Keys mixed up: the emulator does not know this signature.
    async with client_of(merchant, antom_private, antom_public) as stranger:
        with pytest.raises(AntomUntrusted) as untrusted:
            await stranger.create_payment_session(BODY, budget_seconds=5)

    assert illegal.value.result_code == "PARAM_ILLEGAL"
    assert untrusted.value.result_code == "INVALID_SIGNATURE"
