"""Cursors: places in a log, and within a snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from antom_payments.cursor import CursorSeal, Phase, Position, SnapshotPosition
from fuzz.sealed_texts import OTHERS, OURS, SealedTexts
from fuzz.target import Kind, Target, nothing_more


def sealed(seal: CursorSeal) -> dict[str, Position | SnapshotPosition]:
    """Places of every kind, by their cursor."""
    places: list[Position | SnapshotPosition] = []
    for sequence in (0, 1, 7, 2**32, 2**64 - 1):
        places += [Position(sequence, sequence.to_bytes(8), phase) for phase in Phase]
        head = Position(sequence, sequence.to_bytes(8))
        places.append(SnapshotPosition(sequence // 2, head, sequence.to_bytes(8)))
    return {seal.seal(place): place for place in places}


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """A log's seal."""
    foreign = [text for seal in OTHERS for text in sealed(seal)]
    cursors = SealedTexts(sealed(OURS), foreign, OURS.open)
    yield Target(cursors.make, cursors.check, nothing_more)


KIND = Kind("cursors", opened)
