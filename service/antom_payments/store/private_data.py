"""Encryption of what is personal or secret: session requests, sessions, raw notifications.

Fernet (AES-128-CBC + HMAC-SHA256 with a version byte and a time) from the cryptography package.
The key file holds one key per line, newest first: the first encrypts, all decrypt, so that keys
rotate without an outage: a process that meets what none of its keys opens reads the file again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from antom_payments.errors import ConfigurationError, Undecipherable
from antom_payments.session import Session

ERASED = b""
"""Stands for a stored body that was erased; no encrypted one is empty."""

_SETTING = "ANTOM_PAYMENTS_DATA_KEY_FILE"


def new_data_key() -> str:
    """A fresh key, as one line of the key file."""
    return Fernet.generate_key().decode()


def foreign_key_file() -> ConfigurationError:
    """The key file is not the one that what is stored was encrypted with."""
    return ConfigurationError(
        _SETTING,
        "expected the key that the newest stored data was encrypted with; no key of the file opens"
        " it (another process may have a newer file)",
    )


class DataCipher:
    """Encrypts and decrypts with the keys of the key file.

    ``read_again`` gives the file's text as it is now, for a process that outlives a rotation.
    Raises ConfigurationError when ``key_file_text`` holds no usable key.
    """

    def __init__(self, key_file_text: str, *, read_again: Callable[[], str] | None = None) -> None:
        self._text = key_file_text
        self._read_again = read_again
        self._newest, self._all = _ciphers(key_file_text)

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt with the newest key."""
        return self._newest.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        """Decrypt with whichever key fits; what was erased is empty.

        Raises Undecipherable when none does.
        """
        if data == ERASED:
            return b""
        try:
            return self._all.decrypt(data)
        except InvalidToken:
            self._reload()
        try:
            return self._all.decrypt(data)
        except InvalidToken as error:
            raise Undecipherable from error

    def is_newest(self, data: bytes) -> bool:
        """Whether the newest key encrypted it; what was erased needs no key."""
        if data == ERASED:
            return True
        try:
            self._newest.decrypt(data)
        except InvalidToken:
            return False
        return True

    def renew(self, data: bytes) -> bytes:
        """The same, encrypted with the newest key. Raises Undecipherable when no key fits."""
        return self.encrypt(self.decrypt(data))

    def _reload(self) -> None:
        """Take over the file's keys when it changed, its newest for encryption too."""
        if self._read_again is None:
            return
        # A file that is just being changed, or is gone, changes nothing here.
        with contextlib.suppress(ConfigurationError):
            text = self._read_again()
            if text != self._text:
                self._newest, self._all = _ciphers(text)
                self._text = text

    def encrypt_session(self, session: Session) -> bytes:
        """A session as stored."""
        expiry = session.payment_session_expiry_time
        body = [
            session.payment_session_data,
            session.payment_session_id,
            expiry.isoformat() if expiry else None,
            session.normal_url,
        ]
        return self.encrypt(json.dumps(body).encode())

    def decrypt_session(self, data: bytes) -> Session:
        """A stored session."""
        session_data, session_id, expiry, normal_url = json.loads(self.decrypt(data))
        return Session(
            payment_session_data=session_data,
            payment_session_id=session_id,
            payment_session_expiry_time=datetime.fromisoformat(expiry) if expiry else None,
            normal_url=normal_url,
        )


def _ciphers(key_file_text: str) -> tuple[Fernet, MultiFernet]:
    """What the first key encrypts with, and what decrypts with any of them."""
    lines = [line.strip() for line in key_file_text.splitlines() if line.strip()]
    if not lines:
        raise ConfigurationError(_SETTING, "expected at least one key, as `keygen` makes it")
    try:
        keys = [Fernet(line) for line in lines]
    except ValueError as error:
        raise ConfigurationError(
            _SETTING, "expected one key per line, 32 bytes in URL-safe base64"
        ) from error
    return keys[0], MultiFernet(keys)
