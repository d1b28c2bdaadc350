"""What Antom makes up: ids, session data, card tokens."""

from __future__ import annotations

import base64
from datetime import datetime
from random import Random

# Between the date and the number, as in the ids of Antom's samples.
_MIDDLE = "194010890100188"


class Ids:
    """Draws ids, all different; a seed makes them repeatable."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._random = Random(seed)

    def reset(self) -> None:
        """Begin again: a seeded one repeats itself."""
        self._random.seed(self._seed)

    def number(self, now: datetime) -> str:
        """A `paymentId`, `captureId` or `captureRequestId`: 35 digits."""
        return f"{now:%Y%m%d}{_MIDDLE}{self._random.randrange(10**12):012}"

    def session_id(self) -> str:
        """A `paymentSessionId`: opaque, 64 characters."""
        return self._base64(48)

    def session_data(self) -> str:
        """A `paymentSessionData`: opaque, with the marks of Antom's (antom-api 3.2)."""
        return f"{self._base64(64)}&&SG&&111"

    def card_token(self) -> str:
        """A `cardToken`."""
        return f"card-token-{self._random.randbytes(12).hex()}"

    def _base64(self, size: int) -> str:
        return base64.b64encode(self._random.randbytes(size)).decode()
