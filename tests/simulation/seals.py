"""Which of Antom's answers a process of ours may believe, looked at without the product's eyes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from urllib.parse import unquote

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from simulation.network import HttpAnswer


def is_sealed(request: httpx.Request, answer: HttpAnswer, keys: Sequence[RSAPublicKey]) -> bool:
    """Whether one of ``keys`` signed ``answer``, for the asking client (antom-api 1.3 to 1.5)."""
    told = {name.decode().lower(): value.decode() for name, value in answer.headers}
    client_id = request.headers["client-id"]
    text = told.get("signature", "").partition("signature=")[2]
    if not text or told.get("client-id") != client_id:
        return False
    head = f"{request.method} {request.url.raw_path.decode()}\n{client_id}.{told['response-time']}."
    signature, signed = base64.b64decode(unquote(text)), head.encode() + answer.body
    return any(_has_signed(key, signature, signed) for key in keys)


def _has_signed(key: RSAPublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
