"""Which of the merchant's keys Antom accepts: a file, so that it changes while Antom is at work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from antom_payments.antom.signing import Verifier

BOTH = (0, 1)


class Accepted:
    """The numbers of the keys that are accepted, kept in the town's folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "accepted_merchant_keys"

    def put(self, numbers: Sequence[int]) -> None:
        """Accept these from now on."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(" ".join(map(str, numbers)))
        fresh.replace(self._file)

    def numbers(self) -> Sequence[int]:
        """What was put last; both at first."""
        try:
            return tuple(int(word) for word in self._file.read_text().split())
        except FileNotFoundError:
            return BOTH


class ChangingVerifier(Verifier):
    """Verifies with whichever keys are accepted when it is asked."""

    def __init__(self, public_keys: Sequence[RSAPublicKey], accepted: Accepted) -> None:
        super().__init__(public_keys)
        self._accepted = accepted
        self._all = self._keys

    def verify(self, **told: Any) -> str:
        """As `Verifier`, with today's keys."""
        self._keys = tuple(self._all[number] for number in self._accepted.numbers())
        return super().verify(**told)
