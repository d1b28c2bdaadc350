"""CreateSession around the official SDK; the SDK's signing alone, too. Runs where the SDK is.

    python -I sdk_server.py TESTS SERVICE PACKAGES GATEWAY_PORT THREADS

gRPC and protobuf come from PACKAGES, ours, so that both sides run on the same ones; what the SDK
needs is found first. Prints its port. The SDK is synchronous: it is called in threads, one client
for all, as its users do.
"""

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

tests, service, packages, gateway_port, threads = sys.argv[1:]
sys.path += [tests, str(Path(tests) / "official_sdk"), service, packages]

import driver
import grpc
import uvloop
from com.alipay.ams.api.default_alipay_client import DefaultAlipayClient
from com.alipay.ams.api.model.amount import Amount
from com.alipay.ams.api.model.buyer import Buyer
from com.alipay.ams.api.model.order import Order
from com.alipay.ams.api.model.payment_factor import PaymentFactor
from com.alipay.ams.api.model.payment_method import PaymentMethod
from com.alipay.ams.api.model.product_code_type import ProductCodeType
from com.alipay.ams.api.request.pay.alipay_payment_session_request import (
    AlipayPaymentSessionRequest,
)
from com.alipay.ams.api.response.pay.alipay_payment_session_response import (
    AlipayPaymentSessionResponse,
)
from com.alipay.ams.api.tools import signature_tool

from antom_payments.v1 import payment_service_pb2 as pb
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from bench.obedience import obey, say
from keys import golden_pair

CLIENT_ID = "SANDBOX_5X00000000000000"


class Servicer(pb_grpc.PaymentServiceServicer):
    """The contract's first method, and nothing but the SDK behind it: no database, no retries."""

    def __init__(self):
        self._client = DefaultAlipayClient(
            "https://localhost",
            CLIENT_ID,
            golden_pair("merchant").private,
            golden_pair("antom").public,
        )
        self._threads = ThreadPoolExecutor(int(threads))

    async def CreateSession(self, request, context):  # noqa: ARG002, N802 - the stub's
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, self._ask, request)
        response = pb.CreateSessionResponse()
        response.payment.payment_request_id = request.payment_request_id
        response.payment.amount.CopyFrom(request.payment_amount)
        response.session.payment_session_data = answer.payment_session_data
        response.session.payment_session_id = answer.payment_session_id
        return response

    def _ask(self, request):
        answer = AlipayPaymentSessionResponse(self._client.execute(_antom_request(request)))
        assert answer.result.result_code == "SUCCESS", answer.result.result_code
        return answer


def _antom_request(request):
    amount = Amount(request.payment_amount.currency_code, str(request.payment_amount.minor_units))
    buyer = Buyer()
    buyer.reference_buyer_id = request.order.buyer.reference_buyer_id
    buyer.buyer_email = request.order.buyer.buyer_email
    order = Order()
    order.reference_order_id = request.order.reference_order_id
    order.order_description = request.order.order_description
    order.order_amount = amount
    order.buyer = buyer
    method = PaymentMethod()
    method.payment_method_type = request.payment_method.payment_method_type
    factor = PaymentFactor()
    factor.is_authorization = request.payment_factor.is_authorization
    asked = AlipayPaymentSessionRequest()
    asked.product_code = ProductCodeType.CASHIER_PAYMENT
    asked.payment_request_id = request.payment_request_id
    asked.order = order
    asked.payment_amount = amount
    asked.payment_method = method
    asked.payment_factor = factor
    asked.payment_redirect_url = request.payment_redirect_url
    asked.payment_notify_url = "https://pay.example/antom/notify"
    return asked


async def sign(message, count):
    """Sign so many times; seconds, CPU seconds, and the signature."""
    key = golden_pair("merchant").private
    told = [message[name] for name in ("method", "uri", "client_id", "date", "body")]
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(count):
        signature = signature_tool.sign(*told, key)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "signature": signature,
    }


async def main():
    driver._lead_port_443_to(int(gateway_port))
    server = grpc.aio.server()
    pb_grpc.add_PaymentServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port)
    await obey({"sign": sign})
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main())
