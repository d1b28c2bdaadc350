"""`antom-payments serve` with the official SDK for its way to Antom. Runs where the SDK is.

    python -I sdk_server.py TESTS PACKAGES SERVICE GATEWAY_PORT THREADS

Everything but the client is the product's: servicer, service, store, event log, reconciler. Its
packages come from PACKAGES, ours, but what the SDK needs is found first. The SDK is synchronous: it
is called in threads, one client for all, as its users do.
"""

import asyncio
import contextlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

tests, packages, service, gateway_port, threads = sys.argv[1:]
sys.path += [tests, str(Path(tests) / "official_sdk"), service, packages]

import driver
from com.alipay.ams.api.default_alipay_client import DefaultAlipayClient
from com.alipay.ams.api.model.amount import Amount
from com.alipay.ams.api.model.buyer import Buyer
from com.alipay.ams.api.model.order import Order
from com.alipay.ams.api.model.payment_factor import PaymentFactor
from com.alipay.ams.api.model.payment_method import PaymentMethod
from com.alipay.ams.api.model.product_code_type import ProductCodeType
from com.alipay.ams.api.request.pay.alipay_pay_query_request import AlipayPayQueryRequest
from com.alipay.ams.api.request.pay.alipay_payment_session_request import (
    AlipayPaymentSessionRequest,
)
from com.alipay.ams.api.response.pay.alipay_pay_query_response import AlipayPayQueryResponse
from com.alipay.ams.api.response.pay.alipay_payment_session_response import (
    AlipayPaymentSessionResponse,
)

from antom_payments import __main__, app
from antom_payments.antom.messages import InquiryAnswer
from antom_payments.antom.messages.inquiry import ORDER_NOT_EXIST
from antom_payments.session import Session
from keys import golden_pair


class OfficialClient:
    """What the service asks of its client, answered by the SDK; it has no breaker, nor retries."""

    def __init__(self, client_id):
        self._sdk = DefaultAlipayClient(
            "https://localhost",
            client_id,
            golden_pair("merchant").private,
            golden_pair("antom").public,
        )
        self._threads = ThreadPoolExecutor(int(threads))

    def refuse_while_shut(self):
        """Never shut."""

    async def create_payment_session(self, body, *, budget_seconds):  # noqa: ARG002 - the product's
        return await self._in_a_thread(self._session, json.loads(body))

    async def inquire_payment(self, *, payment_request_id, **_rest):
        return await self._in_a_thread(self._inquiry, payment_request_id)

    async def _in_a_thread(self, work, asked):
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, asked)

    def _session(self, body):
        answer = AlipayPaymentSessionResponse(self._sdk.execute(_session_request(body)))
        assert answer.result.result_code == "SUCCESS", answer.result.result_code
        return Session(
            payment_session_data=answer.payment_session_data,
            payment_session_id=answer.payment_session_id,
            payment_session_expiry_time=datetime.fromisoformat(answer.payment_session_expiry_time),
        )

    def _inquiry(self, payment_request_id):
        asked = AlipayPayQueryRequest()
        asked.payment_request_id = payment_request_id
        answer = AlipayPayQueryResponse(self._sdk.execute(asked))
        assert answer.result.result_code == ORDER_NOT_EXIST, answer.result.result_code
        return InquiryAnswer(exists=False, time=None, result_code=ORDER_NOT_EXIST)


def _session_request(body):
    """The product's request in the SDK's types."""
    buyer = Buyer()
    buyer.reference_buyer_id = body["order"]["buyer"]["referenceBuyerId"]
    buyer.buyer_email = body["order"]["buyer"].get("buyerEmail")
    order = Order()
    order.reference_order_id = body["order"]["referenceOrderId"]
    order.order_description = body["order"]["orderDescription"]
    order.order_amount = _amount(body["order"]["orderAmount"])
    order.buyer = buyer
    method = PaymentMethod()
    method.payment_method_type = body["paymentMethod"]["paymentMethodType"]
    factor = PaymentFactor()
    factor.is_authorization = body["paymentFactor"]["isAuthorization"]
    asked = AlipayPaymentSessionRequest()
    asked.product_code = ProductCodeType.CASHIER_PAYMENT
    asked.payment_request_id = body["paymentRequestId"]
    asked.order = order
    asked.payment_amount = _amount(body["paymentAmount"])
    asked.payment_method = method
    asked.payment_factor = factor
    asked.payment_redirect_url = body["paymentRedirectUrl"]
    asked.payment_notify_url = body["paymentNotifyUrl"]
    return asked


def _amount(amount):
    return Amount(amount["currency"], amount["value"])


@contextlib.asynccontextmanager
async def official_client(_origin, signer, _verifier, **_rest):
    """Stands for `antom.open_client`."""
    driver._lead_port_443_to(int(gateway_port))
    yield OfficialClient(signer.client_id)


if __name__ == "__main__":
    app.open_client = official_client
    sys.argv = ["antom-payments", "serve"]
    __main__.main()
