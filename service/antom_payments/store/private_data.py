"""Encryption of what is personal or secret: session requests, sessions, raw notifications.

Fernet (AES-128-CBC + HMAC-SHA256 with a version byte and a time) from the cryptography package.
The key file holds one key per line, newest first: the first encrypts, all decrypt, so that keys
rotate without an outage.
"""

from __future__ import annotations

import json
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from antom_payments.errors import ConfigurationError, Undecipherable
from antom_payments.session import Session

_SETTING = "ANTOM_PAYMENTS_DATA_KEY_FILE"


def new_data_key() -> str:
    """A fresh key, as one line of the key file."""
    return Fernet.generate_key().decode()


class DataCipher:
    """Encrypts and decrypts with the keys of the key file.

    Raises ConfigurationError when ``key_file_text`` holds no usable key.
    """

    def __init__(self, key_file_text: str) -> None:
        lines = [line.strip() for line in key_file_text.splitlines() if line.strip()]
        if not lines:
            raise ConfigurationError(_SETTING, "expected at least one key, as `keygen` makes it")
        try:
            self._cipher = MultiFernet([Fernet(line) for line in lines])
        except ValueError as error:
            raise ConfigurationError(
                _SETTING, "expected one key per line, 32 bytes in URL-safe base64"
            ) from error

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt with the newest key."""
        return self._cipher.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        """Decrypt with whichever key fits.

        Raises Undecipherable when none does.
        """
        try:
            return self._cipher.decrypt(data)
        except InvalidToken as error:
            raise Undecipherable from error

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
