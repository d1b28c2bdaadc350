"""The sandbox's cards: the number decides the outcome (antom-api 9.3).

A card's number is never kept with a payment, shown or logged: only its masked form is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Card:
    """A test card. Any CVC, postal code and future date go with it."""

    number: str = field(repr=False)
    brand: str
    region: str
    issuing_country: str
    approves: bool = True

    @property
    def masked(self) -> str:
        """As merchants see it."""
        return "*" * (len(self.number) - 4) + self.number[-4:]


_CARDS = (
    Card("4054695723100768", "VISA", "GLOBAL", "US"),
    Card("5162774114974622", "MASTERCARD", "GLOBAL", "US"),
    Card("9490220011669217", "HYUNDAI", "KR", "KR"),
    Card("4294097400915107", "VISA", "BR", "BR"),
    Card("4006055482525268", "VISA", "MX", "MX"),
    Card("4600729331819383", "VISA", "CL", "CL"),
    Card("4310377720003234", "VISA", "PE", "PE"),
    Card("4054692760174822", "VISA", "GLOBAL", "US", approves=False),
    Card("5162770472561357", "MASTERCARD", "GLOBAL", "US", approves=False),
)

SANDBOX_CARDS: Mapping[str, Card] = MappingProxyType({card.number: card for card in _CARDS})
"""By number."""

DEFAULT_CARD = _CARDS[0]
"""What a buyer pays with who names no card."""
