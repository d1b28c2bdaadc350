r"""Antom's signatures: RSA, PKCS#1 v1.5, SHA-256, over method, path, client id, time and body.

    <METHOD> <uri>\n<client-id>.<time>.<body>

Every part is the exact text or bytes on the wire; nothing is ever normalised (antom-api 1.5, 1.6).
Keys are loaded once: loading costs a hundred times a signature. Verifying is stricter than the
official SDKs (antom-api 1.10): the digest is fixed, base64 is strict and canonical, the value is
percent-decoded and never form-decoded.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from antom_payments.errors import ConfigurationError

ALGORITHM = "RSA256"
MIN_KEY_BITS = 2048
MAX_KEY_BITS = 8192
"""Larger keys are no safer and make each verification expensive."""

_KEY_VERSION = re.compile(r"[0-9A-Za-z]{1,16}")
_CLIENT_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_METHOD = re.compile(r"[A-Z]{1,16}")
# The parts are joined by blanks, dots and one line feed. Keeping those out of the parts before the
# body keeps a signature from verifying with bytes moved from one part to the next.
_URI = re.compile(r"/[!-~]{0,2047}")
# Epoch milliseconds or any ISO 8601 form (antom-api 1.4). No brace: a body cannot begin in it.
_TIME = re.compile(r"[0-9A-Za-z:+.-]{1,40}")
_MAX_HEADER_CHARS = 8192
_PERCENT_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2}|[^%])*")


class SignatureFault(StrEnum):
    """Why a signature was not accepted; a label of metrics and logs, never told to the sender."""

    MISSING = "signature_missing"
    HEADER_MALFORMED = "signature_header_malformed"
    ALGORITHM = "signature_algorithm"
    ENCODING = "signature_encoding"
    PARTS_MALFORMED = "signed_parts_malformed"
    MISMATCH = "signature_mismatch"


class SignatureInvalid(Exception):
    """The message is not proven to be the sender's."""

    def __init__(self, reason: SignatureFault) -> None:
        self.reason = reason
        super().__init__(reason.value)


class Signer:
    """Signs as one client id with one private key."""

    def __init__(self, private_key: RSAPrivateKey, client_id: str, key_version: str = "1") -> None:
        """Take a key from `load_private_key`.

        Raises:
            ValueError: ``client_id`` or ``key_version`` could not be told from their neighbours in
                the signed text or the header.
        """
        if not _CLIENT_ID.fullmatch(client_id):
            raise ValueError("a client id has 1 to 64 letters, digits, '_' or '-'")
        if not _KEY_VERSION.fullmatch(key_version):
            raise ValueError("a key version has 1 to 16 letters or digits")
        self.client_id = client_id
        self._private_key = private_key
        self._prefix = f"algorithm={ALGORITHM},keyVersion={key_version},signature="

    def signature_header(self, method: str, uri: str, time: str, body: bytes) -> str:
        """The `Signature` header's value. The same input always gives the same text.

        Args:
            method: upper case, of the request, also when a response is signed.
            uri: path and query of the request, as sent, after the sandbox rewrite.
            time: text of the `Request-Time` or `response-time` header.
            body: the exact bytes that are sent.
        """
        signed = _text_to_sign(method, uri, self.client_id, time, body)
        signature = self._private_key.sign(signed, PKCS1v15(), hashes.SHA256())
        return self._prefix + quote(base64.b64encode(signature), safe="")

    def headers(self, method: str, uri: str, time: str, body: bytes) -> dict[str, str]:
        """The headers of a signed request or notification (antom-api 1.3)."""
        return {
            "Content-Type": "application/json; charset=UTF-8",
            "Client-Id": self.client_id,
            "Request-Time": time,
            "Signature": self.signature_header(method, uri, time, body),
        }


class Verifier:
    """Verifies what one party signed, with any of its public keys (the next one and the last)."""

    def __init__(self, public_keys: Sequence[RSAPublicKey]) -> None:
        """Take at least one key from `load_public_key`."""
        if not public_keys:
            raise ValueError("a verifier needs at least one public key")
        self._keys = tuple((key, fingerprint(key)) for key in public_keys)

    def verify(
        self,
        *,
        method: str,
        uri: str,
        client_id: str,
        time: str,
        body: bytes,
        signature_header: str,
    ) -> str:
        """The fingerprint of the key that made ``signature_header`` over the other arguments.

        Whose ``client_id`` it is remains the caller's question: compare it with the expected one.

        Raises:
            SignatureInvalid: the signature is missing, malformed or made by none of the keys.
        """
        signature = signature_in(signature_header)
        parts = ((_METHOD, method), (_URI, uri), (_CLIENT_ID, client_id), (_TIME, time))
        if not all(form.fullmatch(part) for form, part in parts):
            raise SignatureInvalid(SignatureFault.PARTS_MALFORMED)
        signed = _text_to_sign(method, uri, client_id, time, body)
        for key, key_fingerprint in self._keys:
            try:
                key.verify(signature, signed, PKCS1v15(), hashes.SHA256())
            except InvalidSignature:
                continue
            return key_fingerprint
        raise SignatureInvalid(SignatureFault.MISMATCH)


def signature_in(header: str) -> bytes:
    """The signature in a `Signature` header: comma-separated ``key=value``, in any order.

    `keyVersion` is not used to choose a key: which one Antom names after a replacement is not
    documented (antom-api 1.7), so the verifier tries them all.

    Raises:
        SignatureInvalid: the header is missing or malformed, names another algorithm, or its value
            is not canonical base64, percent-encoded or not.
    """
    if not header.strip():
        raise SignatureInvalid(SignatureFault.MISSING)
    fields = _header_fields(header)
    if fields.get("algorithm", ALGORITHM) != ALGORITHM:
        raise SignatureInvalid(SignatureFault.ALGORITHM)
    value = fields.get("signature")
    if not value:
        raise SignatureInvalid(SignatureFault.MISSING)
    if not _PERCENT_ENCODED.fullmatch(value):
        raise SignatureInvalid(SignatureFault.ENCODING)
    encoded = unquote_to_bytes(value)
    try:
        signature = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise SignatureInvalid(SignatureFault.ENCODING) from None
    # The last character may carry unused bits: one signature shall have one spelling.
    if base64.b64encode(signature) != encoded:
        raise SignatureInvalid(SignatureFault.ENCODING)
    return signature


def load_private_key(text: str, *, setting: str) -> RSAPrivateKey:
    """The RSA key in ``text``: bare base64 of DER, or PEM; PKCS#8 or PKCS#1; not encrypted.

    Raises:
        ConfigurationError: it is none; names ``setting`` and never quotes the key.
    """
    key = _loaded(text, private=True)
    if isinstance(key, RSAPrivateKey):
        _refuse_unusable_size(key.key_size, setting)
        return key
    if _loaded(text, private=False) is not None:
        raise ConfigurationError(setting, "expected a private key, found a public one")
    raise ConfigurationError(
        setting,
        "expected an unencrypted RSA private key, as bare base64 or PEM, PKCS#8 or PKCS#1",
    )


def load_public_key(text: str, *, setting: str) -> RSAPublicKey:
    """The RSA key in ``text``: bare base64 of DER, or PEM; SubjectPublicKeyInfo or PKCS#1.

    Raises:
        ConfigurationError: it is none; names ``setting`` and never quotes the key.
    """
    key = _loaded(text, private=False)
    if isinstance(key, RSAPublicKey):
        _refuse_unusable_size(key.key_size, setting)
        return key
    if _loaded(text, private=True) is not None:
        raise ConfigurationError(setting, "expected a public key, found a private one")
    raise ConfigurationError(
        setting, "expected an RSA public key, as bare base64 or PEM, X.509 or PKCS#1"
    )


def refuse_own_key(
    private_key: RSAPrivateKey, public_keys: Sequence[RSAPublicKey], *, setting: str
) -> None:
    """Refuse the mistake reported most often (antom-api 1.7): our public key in Antom's place.

    Raises:
        ConfigurationError: one of ``public_keys`` belongs to ``private_key``.
    """
    own = private_key.public_key().public_numbers()
    if any(key.public_numbers() == own for key in public_keys):
        raise ConfigurationError(
            setting,
            "expected Antom's public key, found the merchant's own; Antom shows its key in the "
            "dashboard after the merchant's was uploaded",
        )


def fingerprint(public_key: RSAPublicKey) -> str:
    """A public key's name in logs and metrics: the first 16 hex digits of its SHA-256."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()[:16]


def _text_to_sign(method: str, uri: str, client_id: str, time: str, body: bytes) -> bytes:
    return f"{method} {uri}\n{client_id}.{time}.".encode() + body


def _header_fields(header: str) -> dict[str, str]:
    """The header's pairs, each split at its first `=`; a name that comes twice is refused."""
    if len(header) > _MAX_HEADER_CHARS:
        raise SignatureInvalid(SignatureFault.HEADER_MALFORMED)
    fields: dict[str, str] = {}
    for pair in header.split(","):
        name, equals, value = (part.strip(" ") for part in pair.partition("="))
        if not equals or not name or name in fields:
            raise SignatureInvalid(SignatureFault.HEADER_MALFORMED)
        fields[name] = value
    return fields


def _loaded(text: str, *, private: bool) -> object | None:
    """The key of any kind that ``text`` holds, or None when it holds no such key."""
    stripped = text.strip("\ufeff \t\r\n")
    try:
        if stripped.startswith("-----BEGIN "):
            pem = stripped.encode("ascii")
            return load_pem_private_key(pem, None) if private else load_pem_public_key(pem)
        der = base64.b64decode("".join(stripped.split()), validate=True)
        return load_der_private_key(der, None) if private else load_der_public_key(der)
    # An encrypted key is a TypeError. None of these texts may reach a log: they may quote the key.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _refuse_unusable_size(bits: int, setting: str) -> None:
    if not MIN_KEY_BITS <= bits <= MAX_KEY_BITS:
        raise ConfigurationError(
            setting, f"expected an RSA key of {MIN_KEY_BITS} to {MAX_KEY_BITS} bits, found {bits}"
        )
