"""Antom's official Python SDK, driven from outside: a JSON job on stdin, its answer on stdout.

Runs in the SDK's own environment (requirements.lock here) and imports nothing of ours. Jobs:

    {"job": "sign", "key", "messages": [{"method", "uri", "client_id", "time", "body"}]}
    {"job": "verify", "messages": [... and "signature_header", "key"]}
    {"job": "call", "operation", "port", "client_id", "private_key", "public_key",
     "payment_request_id", "notify_url"}

A call goes to https://localhost. The SDK always connects to port 443, whatever the URL says, so its
connection is led to ``port``; SSL_CERT_FILE names the authority that it trusts.
"""

import json
import socket
import sys

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
from com.alipay.ams.api.tools.signature_tool import sign
from com.alipay.ams.api.tools.webhook_tool import check_signature


def signatures(job):
    return [
        sign(
            message["method"],
            message["uri"],
            message["client_id"],
            message["time"],
            message["body"],
            job["key"],
        )
        for message in job["messages"]
    ]


def verdicts(job):
    return [_verdict(message) for message in job["messages"]]


def _verdict(message):
    try:
        return check_signature(
            message["method"],
            message["uri"],
            message["client_id"],
            message["time"],
            message["body"],
            message["signature_header"],
            message["key"],
        )
    except Exception as error:  # noqa: BLE001 - the SDK raises whatever its libraries do
        return type(error).__name__


def call(job):
    _lead_port_443_to(job["port"])
    client = DefaultAlipayClient(
        "https://localhost", job["client_id"], job["private_key"], job["public_key"]
    )
    return json.loads(client.execute(REQUESTS[job["operation"]](job)))


def _session_request(job):
    """The seed's card session."""
    amount = Amount("SGD", "4200")
    buyer = Buyer()
    buyer.reference_buyer_id = "yourBuyerId"
    order = Order()
    order.reference_order_id = "referenceOrderId01"
    order.order_description = "antom sdk test order"
    order.order_amount = amount
    order.buyer = buyer
    method = PaymentMethod()
    method.payment_method_type = "CARD"
    factor = PaymentFactor()
    factor.is_authorization = True
    request = AlipayPaymentSessionRequest()
    request.product_code = ProductCodeType.CASHIER_PAYMENT
    request.payment_request_id = job["payment_request_id"]
    request.order = order
    request.payment_amount = amount
    request.payment_method = method
    request.payment_factor = factor
    request.payment_redirect_url = "https://www.yourMerchantWeb.com"
    request.payment_notify_url = job["notify_url"]
    return request


def _inquiry_request(job):
    request = AlipayPayQueryRequest()
    request.payment_request_id = job["payment_request_id"]
    return request


def _lead_port_443_to(port):
    connect = socket.create_connection

    def create_connection(address, *args, **more):
        assert address[1] == 443, address
        return connect(("127.0.0.1", port), *args, **more)

    socket.create_connection = create_connection


REQUESTS = {"createPaymentSession": _session_request, "inquiryPayment": _inquiry_request}
JOBS = {"sign": signatures, "verify": verdicts, "call": call}


if __name__ == "__main__":
    job = json.load(sys.stdin)
    json.dump(JOBS[job["job"]](job), sys.stdout)
