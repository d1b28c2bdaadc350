"""Texts that a log's seal makes: only what was sealed opens, and the rest is `CursorInvalid`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from random import Random

from antom_payments.cursor import CursorSeal
from antom_payments.errors import CursorInvalid
from fuzz.mutation import ODD_TEXTS, mutated_bytes
from fuzz.target import Input, must

OURS = CursorSeal(bytes(range(64)), "log-1")
OTHERS = (CursorSeal(bytes(range(64)), "log-2"), CursorSeal(bytes(range(1, 65)), "log-1"))
"""Of another log with the same key, and of the same log with another key."""
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class SealedTexts:
    """What one seal made, what it did not, and what opens it."""

    def __init__(
        self, mine: Mapping[str, object], foreign: Sequence[str], opens: Callable[[str], object]
    ) -> None:
        self._mine = mine
        self._texts = list(mine)
        self._lengths = sorted({len(text) for text in mine})
        self._foreign = foreign
        self._opens = opens

    def make(self, random: Random) -> Input:
        """A text that was changed, is foreign, or never was one."""
        text = random.choice(self._texts)
        match random.randrange(8):
            case 0:
                text = random.choice(self._foreign)
            case 1:
                length = random.choice(self._lengths) + random.choice((0, 0, -1, 1))
                text = "".join(random.choices(_ALPHABET, k=length))
            case 2:
                text = random.choice(ODD_TEXTS) or "="
            case 3:
                sealed = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
                sealed[random.randrange(len(sealed))] ^= 1 << random.randrange(8)
                text = base64.urlsafe_b64encode(bytes(sealed)).rstrip(b"=").decode()
            case 4:
                # The last letter's spare bits.
                text = text[:-1] + random.choice(_ALPHABET)
            case 5:
                other = random.choice(self._texts)
                cut = random.randrange(len(text))
                text = text[:cut] + other[cut:]
            case 6:
                at = random.randrange(len(text))
                odd = random.choice("\u00e9\u0660=+/ \n\x00\ud800\U0001f600")
                text = text[:at] + odd + text[at + 1 :]
            case _:
                text = mutated_bytes(random, text.encode()).decode("latin-1")
        return {"text": text}

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        text = given["text"]
        try:
            opened = self._opens(text)
        except CursorInvalid:
            must(text not in self._mine, "a genuine one does not open")
            return "refused: CursorInvalid"
        must(self._mine.get(text) == opened, "one opens that was never sealed")
        return "accepted: a genuine one"
