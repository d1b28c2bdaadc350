"""Cursors: only what was sealed opens, and the rest is `CursorInvalid` and nothing else."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from random import Random

from antom_payments.cursor import CursorSeal, Phase, Position, SnapshotPosition
from antom_payments.errors import CursorInvalid
from fuzz.mutation import ODD_TEXTS, mutated_bytes
from fuzz.target import Input, Kind, Target, must, nothing_more

_LENGTHS = (46, 67)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _sealed(seal: CursorSeal) -> dict[str, Position | SnapshotPosition]:
    """Places of every kind, by their cursor."""
    places: list[Position | SnapshotPosition] = []
    for sequence in (0, 1, 7, 2**32, 2**64 - 1):
        places += [Position(sequence, sequence.to_bytes(8), phase) for phase in Phase]
        head = Position(sequence, sequence.to_bytes(8))
        places.append(SnapshotPosition(sequence // 2, head, sequence.to_bytes(8)))
    return {seal.seal(place): place for place in places}


class _Cursors:
    """One log's seal, another's, and what they sealed."""

    def __init__(self) -> None:
        self._seal = CursorSeal(bytes(range(64)), "log-1")
        self._mine = _sealed(self._seal)
        others = (
            CursorSeal(bytes(range(64)), "log-2"),
            CursorSeal(bytes(range(1, 65)), "log-1"),
        )
        self._foreign = [text for seal in others for text in _sealed(seal)]

    def make(self, random: Random) -> Input:
        """A cursor that was changed, is foreign, or never was one."""
        text = random.choice(list(self._mine))
        match random.randrange(8):
            case 0:
                text = random.choice(self._foreign)
            case 1:
                text = "".join(random.choices(_ALPHABET, k=random.choice((*_LENGTHS, 45, 47))))
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
                other = random.choice(list(self._mine))
                cut = random.randrange(len(text))
                text = text[:cut] + other[cut:]
            case 6:
                at = random.randrange(len(text))
                odd = random.choice("\u00e9\u0660=+/ \n\x00\ud800\U0001f600")
                text = text[:at] + odd + text[at + 1 :]
            case _:
                text = mutated_bytes(random, text.encode()).decode("latin-1")
        return {"cursor": text}

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        text = given["cursor"]
        try:
            place = self._seal.open(text)
        except CursorInvalid:
            must(text not in self._mine, "a genuine cursor does not open")
            return "refused: CursorInvalid"
        must(self._mine.get(text) == place, "a cursor opens that was never sealed")
        return "accepted: a genuine one"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """A log's seal."""
    cursors = _Cursors()
    yield Target(cursors.make, cursors.check, nothing_more)


KIND = Kind("cursors", opened)
