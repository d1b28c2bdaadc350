"""Cursors: a place in the event log, sealed. Pure.

A cursor is a position encrypted and authenticated with AES-SIV (RFC 5297) under a key that is kept
with the log. Callers can neither read it nor make one: no arithmetic on sequences, no guessing how
many events others have. AES-SIV needs no nonce, so one place has one text.

    base64url( version byte | AES-SIV( phase byte | sequence, 8 bytes | fingerprint, 8 bytes ) )

The fingerprint is that of an event beside the place, the witness: a log that was restored to an
older point, and went on differently, has another event there. The phase says which one it is.
A place in a snapshot has its own sequence between phase and witness, and last 8 bytes that tell the
filter: which payments lie behind it, nobody could say of another one.
The version byte and the log's id are associated data: a cursor of another log does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from antom_payments.errors import CursorInvalid

UNKNOWN_FINGERPRINT = bytes(8)
"""At the start of the log nothing lies behind: there is nothing that a restore could take back."""

_VERSION = b"\x01"
_POSITION = struct.Struct(">BQ8s")
_SNAPSHOT_POSITION = struct.Struct(">BQQ8s8s")
_SNAPSHOT = 16
"""The phase byte of a place in a snapshot."""
_TAG_BYTES = 16
_TEXT_LENGTHS = frozenset(
    -(-(len(_VERSION) + _TAG_BYTES + plain.size) * 4 // 3)
    for plain in (_POSITION, _SNAPSHOT_POSITION)
)


class Phase(IntEnum):
    """What a position's fingerprint is of. Numbers from 16 on are for other places than the log."""

    AFTER = 0
    """Of the event at `sequence`; unknown at the start of the log."""
    BEFORE = 1
    """Of the event at `sequence` + 1, because the one before it was pruned."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: everything up to `sequence` lies behind it.

    `sequence` is 0 to 2**64 - 1; 0 is the start of the log. `fingerprint` is 8 bytes of the event
    that `phase` names. `phase` is a byte; one that is no `Phase` is not a place in the log.
    """

    sequence: int
    fingerprint: bytes
    phase: int = Phase.AFTER

    @property
    def witness(self) -> int:
        """The sequence of the event whose fingerprint this is; 0 is none, at the log's start."""
        return self.sequence + 1 if self.phase == Phase.BEFORE else self.sequence


START = Position(0, UNKNOWN_FINGERPRINT)
"""Before the first event: of every log, whatever became of it."""


@dataclass(frozen=True, slots=True)
class SnapshotPosition:
    """A place in a snapshot: payments whose newest event is up to `sequence` lie behind it.

    `head` is the log's head (its phase is AFTER) when the snapshot began or, where it must keep up
    with the log, when it was last read: the witness. An old payment's own event may be pruned.
    `filter_id` is 8 bytes of the filter that chose the payments.
    """

    sequence: int
    head: Position
    filter_id: bytes


def fingerprint_of(event_id: str) -> bytes:
    """8 bytes that differ when two logs have different events at the same sequence."""
    return hashlib.sha256(event_id.encode()).digest()[:8]


class CursorSeal:
    """Seals positions of one log, and opens them again."""

    def __init__(self, key: bytes, log_id: str) -> None:
        """``key`` is 64 random bytes (AES-256-SIV), kept with the log that ``log_id`` names."""
        self._cipher = AESSIV(key)
        self._log_id = log_id.encode()

    def seal(self, position: Position | SnapshotPosition) -> str:
        """The position as a cursor: 46 characters of base64url, 67 of a place in a snapshot.

        Equal positions give equal text.
        """
        match position:
            case SnapshotPosition(sequence, head, filter_id):
                plain = _SNAPSHOT_POSITION.pack(
                    _SNAPSHOT, sequence, head.sequence, head.fingerprint, filter_id
                )
            case Position(sequence, fingerprint, phase):
                plain = _POSITION.pack(phase, sequence, fingerprint)
        return self.seal_bytes(_VERSION, plain)

    def open(self, text: str) -> Position | SnapshotPosition:
        """The position that a cursor seals.

        Raises CursorInvalid when it is garbled, of another log or of a newer version.
        """
        if len(text) not in _TEXT_LENGTHS:
            raise CursorInvalid
        plain = self.open_bytes(_VERSION, text)
        if len(plain) == _POSITION.size:
            phase, sequence, fingerprint = _POSITION.unpack(plain)
            return Position(sequence, fingerprint, phase)
        phase, sequence, head, fingerprint, filter_id = _SNAPSHOT_POSITION.unpack(plain)
        if phase != _SNAPSHOT:
            raise CursorInvalid
        return SnapshotPosition(sequence, Position(head, fingerprint), filter_id)

    def seal_bytes(self, version: bytes, plain: bytes) -> str:
        """Seal anything else that goes to callers and comes back; ``version``, a byte, tells it."""
        sealed = version + self._cipher.encrypt(plain, [version, self._log_id])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open_bytes(self, version: bytes, text: str) -> bytes:
        """What `seal_bytes` sealed with that version byte; raises CursorInvalid for all else."""
        sealed = _from_base64url(text)
        if sealed[:1] != version:
            raise CursorInvalid
        try:
            return self._cipher.decrypt(sealed[1:], [version, self._log_id])
        except InvalidTag:
            raise CursorInvalid from None


def _from_base64url(text: str) -> bytes:
    """Decode strictly: Python ignores foreign characters and the last character's spare bits."""
    try:
        # 46 characters lack two of the padding that Python wants.
        sealed = base64.urlsafe_b64decode(text + "==")
    except (binascii.Error, ValueError):
        raise CursorInvalid from None
    if base64.urlsafe_b64encode(sealed).rstrip(b"=") != text.encode():
        raise CursorInvalid
    return sealed
