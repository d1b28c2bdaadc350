"""Antom's results: a code, a status letter and a message (antom-api 5).

`S` worked, `F` failed for good, `U` is unknown or under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

_MESSAGE_LENGTH = 256
"""`resultMessage` is String(256)."""


@dataclass(frozen=True, slots=True)
class Result:
    """What Antom says about a call, a payment or a capture."""

    code: str
    status: str
    message: str

    def json(self) -> dict[str, str]:
        """As it stands in a message."""
        return {
            "resultCode": self.code,
            "resultStatus": self.status,
            "resultMessage": self.message,
        }

    def because(self, reason: str) -> Result:
        """The same result, saying what exactly is wrong."""
        text = f"{self.message} {reason}"
        return replace(self, message=text[:_MESSAGE_LENGTH])


class Refused(Exception):
    """An operation that Antom refuses; ``result`` is the whole answer."""

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(result.code)


SESSION_CREATED = Result("SUCCESS", "S", "success.")
INQUIRY_ANSWERED = Result("SUCCESS", "S", "Success")
PAID = Result("SUCCESS", "S", "success")
CANCELLED = Result("SUCCESS", "S", "Success")
"""The `paymentResultCode` of a cancelled payment, in the samples (antom-api 5.3)."""
CAPTURED = Result("SUCCESS", "S", "success.")
CAPTURE_IN_PROCESS = Result("PAYMENT_IN_PROCESS", "U", "payment in process")
PAYMENT_IN_PROCESS = Result("PAYMENT_IN_PROCESS", "U", "The payment is being processed.")

INVALID_SIGNATURE = Result("INVALID_SIGNATURE", "F", "The signature is invalid.")
CLIENT_INVALID = Result("CLIENT_INVALID", "F", "The client is invalid.")
METHOD_NOT_SUPPORTED = Result("METHOD_NOT_SUPPORTED", "F", "The method is not supported: use POST.")
NO_INTERFACE_DEF = Result("NO_INTERFACE_DEF", "F", "There is no such interface.")
MEDIA_TYPE_NOT_ACCEPTABLE = Result(
    "MEDIA_TYPE_NOT_ACCEPTABLE", "F", "The content type must be application/json."
)
PARAM_ILLEGAL = Result("PARAM_ILLEGAL", "F", "Illegal parameters.")
ORDER_NOT_EXIST = Result("ORDER_NOT_EXIST", "F", "The order does not exist.")
ORDER_IS_CLOSED = Result("ORDER_IS_CLOSED", "F", "The order is closed.")
ORDER_IS_CANCELED = Result("ORDER_IS_CANCELED", "F", "The order is cancelled.")
ORDER_STATUS_INVALID = Result("ORDER_STATUS_INVALID", "F", "The order's status is invalid.")
CANCEL_WINDOW_EXCEED = Result(
    "CANCEL_WINDOW_EXCEED", "F", "The cancellation date exceeds the cancellation period."
)
PAYMENT_METHOD_NOT_SUPPORTED = Result(
    "PAYMENT_METHOD_NOT_SUPPORTED", "F", "The payment method does not cancel what is paid."
)
UNKNOWN_EXCEPTION = Result("UNKNOWN_EXCEPTION", "U", "unknown exception")
REQUEST_TRAFFIC_EXCEED_LIMIT = Result(
    "REQUEST_TRAFFIC_EXCEED_LIMIT", "U", "The request traffic exceeds the limit."
)
REPEAT_REQ_INCONSISTENT = Result(
    "REPEAT_REQ_INCONSISTENT", "F", "Repeated requests are inconsistent."
)

PAYMENT_FAILURES: Mapping[str, Result] = MappingProxyType(
    {
        code: Result(code, "F", message)
        for code, message in {
            "ACCESS_DENIED": "Access is denied.",
            "AUTHENTICATION_REQUIRED": "Authentication of the buyer is required.",
            "CARD_NOT_SUPPORTED": "The card is not supported.",
            "CURRENCY_NOT_SUPPORT": "The currency is not supported.",
            "DO_NOT_HONOR": "The issuer declines the payment.",
            "EXPIRED_CODE": "The code is expired.",
            "FRAUD_REJECT": "The payment is rejected for fraud.",
            "INVALID_ACCESS_TOKEN": "The access token is invalid.",
            "INVALID_AMOUNT": "The amount is invalid.",
            "INVALID_API": "The API is not active for the merchant.",
            "INVALID_CARD_NUMBER": "The card number is invalid.",
            "INVALID_CONTRACT": "The contract is invalid.",
            "INVALID_EXPIRATION_DATE": "The expiry date is invalid.",
            "INVALID_MERCHANT_STATUS": "The merchant's status is abnormal.",
            "KEY_NOT_FOUND": "The key is not found.",
            "MERCHANT_BALANCE_NOT_ENOUGH": "The merchant's balance is insufficient.",
            "NO_INTERFACE_DEF": "There is no such interface.",
            "NO_PAY_OPTIONS": "No payment options are available.",
            "ORDER_IS_CLOSED": "The order is closed.",
            "ORDER_NOT_EXIST": "The order does not exist.",
            "PARAM_ILLEGAL": "Illegal parameters.",
            "PAYMENT_AMOUNT_EXCEED_LIMIT": "The payment amount exceeds the limit.",
            "PAYMENT_COUNT_EXCEED_LIMIT": "The number of payments exceeds the limit.",
            "PAYMENT_NOT_QUALIFIED": "The merchant is not qualified.",
            "PAYMENT_PROHIBITED": "The payment is prohibited.",
            "PROCESS_FAIL": "A general business failure occurred.",
            "RISK_REJECT": "The payment is rejected by risk control.",
            "SUSPECTED_RISK": "The payment is suspected to be risky.",
            "SYSTEM_ERROR": "A system error occurred.",
            "USER_AMOUNT_EXCEED_LIMIT": "The payment amount exceeds the user's limit.",
            "USER_BALANCE_NOT_ENOUGH": "The balance is insufficient.",
            "USER_KYC_NOT_QUALIFIED": "The user is not qualified.",
            "USER_NOT_EXIST": "The user does not exist.",
            "USER_PAYMENT_VERIFICATION_FAILED": "The user did not pass the verification.",
            "USER_STATUS_ABNORMAL": "The user's status is abnormal.",
            "VERIFY_TIMES_EXCEED_LIMIT": "The number of verifications exceeds the limit.",
            "VERIFY_UNMATCHED": "The verification does not match.",
        }.items()
    }
)
"""How a payment can fail in a PAYMENT_RESULT (antom-api 5.5)."""

CAPTURE_FAILURES: Mapping[str, Result] = MappingProxyType(
    {
        code: Result(code, "F", message)
        for code, message in {
            "ACCESS_DENIED": "Access is denied.",
            "AUTH_CANCELLED": "The payment authorization is cancelled.",
            "AUTH_EXPIRED": "The payment authorization is expired.",
            "AUTH_NOT_FOUND": "The payment authorization is not found.",
            "CAPTURE_AMOUNT_EXCEED_AUTH_LIMIT": (
                "The total capture amount exceeds the limit of the authorized payment amount."
            ),
            "CURRENCY_NOT_SUPPORT": "The currency is not supported.",
            "INVALID_CONTRACT": "The contract is invalid.",
            "MULTI_CAPTURE_NOT_SUPPORTED": "The transaction does not support multiple captures.",
            "NO_PAY_OPTIONS": "No payment options are available.",
            "ORDER_IS_CANCELED": "The order is cancelled.",
            "ORDER_STATUS_INVALID": "The order's status is invalid.",
            "PARAM_ILLEGAL": "Illegal parameters.",
            "PAYMENT_COUNT_EXCEED_LIMIT": "The number of payments exceeds the limit.",
            "PROCESS_FAIL": "General business failure. No retry.",
            "REPEAT_REQ_INCONSISTENT": "Repeated requests are inconsistent.",
            "RISK_REJECT": "The capture is rejected by risk control.",
            "USER_AMOUNT_EXCEED_LIMIT": "The amount exceeds the user's limit.",
            "USER_BALANCE_NOT_ENOUGH": "The balance is insufficient.",
            "USER_NOT_EXIST": "The user does not exist.",
            "USER_STATUS_ABNORMAL": "The user's status is abnormal.",
        }.items()
    }
)
"""How a capture can fail (antom-api 5.2)."""
