"""Magic amounts: the value decides the outcome of an approved payment, in any currency.

Antom's sandbox has one that is documented. The others are our own, in no sandbox: large enough to
be nobody's by chance, and ending in the response codes of ISO 8583 where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from antom_payments.emulator.results import CAPTURE_FAILURES, PAYMENT_FAILURES, Result

PAYMENTS_THAT_FAIL: Mapping[str, Result] = MappingProxyType(
    {
        "11": PAYMENT_FAILURES["RISK_REJECT"],  # Antom's own (antom-api 7, 9.3)
        "660005": PAYMENT_FAILURES["DO_NOT_HONOR"],
        "660051": PAYMENT_FAILURES["USER_BALANCE_NOT_ENOUGH"],
    }
)
"""By `paymentAmount.value`."""

CAPTURES_THAT_FAIL: Mapping[str, Result] = MappingProxyType(
    {"660061": CAPTURE_FAILURES["PROCESS_FAIL"]}
)
"""By the payment's `paymentAmount.value`: how its automatic capture fails."""
