"""What a payment of our runs is worth: by its id, lest one be taken for another unnoticed."""

from __future__ import annotations

import hashlib

from antom_payments.money import Money

_CURRENCIES = ("SGD", "JPY", "HKD", "KWD")
"""Of two, none and three decimals; of two once more."""


def worth(payment_request_id: str) -> Money:
    """The amount of the payment with that id: from 1000 to 9999 minor units."""
    digest = hashlib.sha256(payment_request_id.encode()).digest()
    minor_units = 1000 + int.from_bytes(digest[:4], "big") % 9000
    return Money(_CURRENCIES[digest[4] % len(_CURRENCIES)], minor_units)
