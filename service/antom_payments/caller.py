"""Who calls the service, and which merchants it may touch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and which merchants it may touch; None means all."""

    name: str
    merchant_accounts: frozenset[str] | None = None

    def may_touch(self, merchant_account: str) -> bool:
        """Whether the merchant is the caller's."""
        return self.merchant_accounts is None or merchant_account in self.merchant_accounts


EVERYONE = Caller("anyone")
"""The caller while there is no authentication: everything, on a network that is trusted."""
