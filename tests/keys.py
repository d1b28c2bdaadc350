"""The key pairs that the golden messages are signed with; test keys, of no use elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

GOLDEN_KEYS = Path(__file__).parent / "golden" / "antom" / "signing" / "keys.json"


@dataclass(frozen=True)
class KeyPair:
    """Both halves as bare base64: PKCS#8 and SubjectPublicKeyInfo, as Antom's portal gives them."""

    private: str = field(repr=False)
    public: str


def golden_pair(owner: str) -> KeyPair:
    """The pair of ``owner``: `merchant` or `antom`."""
    keys = json.loads(GOLDEN_KEYS.read_text())
    return KeyPair(private=keys[f"{owner}_private"], public=keys[f"{owner}_public"])
