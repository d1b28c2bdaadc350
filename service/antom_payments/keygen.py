"""Makes key files: the merchant's RSA pair for Antom's dashboard, and the data key."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from antom_payments.errors import ConfigurationError
from antom_payments.store import DataCipher, new_data_key

_BITS = 2048
"""Antom's key length (antom-api 1.6)."""
_HALVES = ("private", "public")


def write_key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write `NAME_private_key.txt` and `NAME_public_key.txt`, as Antom's dashboard has them.

    Bare base64 on one line: PKCS#8 for the private key, SubjectPublicKeyInfo for the public one
    (antom-api 1.7). Raises ConfigurationError when a file is there already: keys are never
    overwritten.
    """
    private_file, public_file = (folder / f"{name}_{half}_key.txt" for half in _HALVES)
    # Before either is written: a new half beside an old one is worse than none.
    for path in (private_file, public_file):
        _refuse_existing(path)
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    private_text = base64.b64encode(
        private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ).decode()
    public_text = base64.b64encode(
        private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    return _write(private_file, private_text), _write(public_file, public_text)


def write_data_key(folder: Path) -> Path:
    """Write `data_key.txt`, the key that encrypts sessions and raw notifications.

    Raises ConfigurationError when the file is there already.
    """
    return _write(folder / "data_key.txt", new_data_key())


def add_data_key(path: Path) -> int:
    """Put a new key before those of the key file; how many it holds then.

    The old keys stay: they decrypt what they encrypted. The file is replaced at once, by one that
    only its owner can read; two commands at a time take turns. Raises ConfigurationError when the
    file is missing or holds anything but keys.
    """
    # What is replaced is the file, not a link to it: a link is how others name it.
    path = path.resolve()
    with _turn_at(path.parent, path):
        try:
            old = path.read_text(encoding="ascii")
            owner = path.stat()
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(str(path), "expected a readable key file") from None
        DataCipher(old)
        lines = [new_data_key(), *(line.strip() for line in old.splitlines() if line.strip())]
        _replace(path, "\n".join(lines) + "\n", owner)
    return len(lines)


@contextlib.contextmanager
def _turn_at(folder: Path, path: Path) -> Iterator[None]:
    """Hold the folder's lock: of the folder, since the file is another one afterwards."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise ConfigurationError(str(path), "expected a readable key file") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str, owner: os.stat_result) -> None:
    """Replace a file whole, durably, keeping its owner; a crash leaves the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigurationError(str(path), "is there already, and keys are never overwritten")


def _write(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, never over another one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_existing(path)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text + "\n", encoding="ascii")
    return path
