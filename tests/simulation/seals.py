"""Which of Antom's messages a process of ours may believe, looked at without the product's eyes."""

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

Keys = Sequence[RSAPublicKey]


def is_answer_sealed(request: httpx.Request, answer: HttpAnswer, keys: Keys) -> bool:
    """Whether one of ``keys`` signed ``answer``, for the asking client (antom-api 1.3 to 1.5)."""
    told = httpx.Headers(answer.headers)
    if told.get("client-id") != request.headers["client-id"]:
        return False
    return _is_sealed(request, told, told.get("response-time", ""), answer.body, keys)


def is_notification_sealed(request: httpx.Request, keys: Keys) -> bool:
    """Whether one of ``keys`` signed a notification (antom-api 1.9)."""
    told = request.headers
    return _is_sealed(request, told, told["request-time"], request.content, keys)


def _is_sealed(
    request: httpx.Request, told: httpx.Headers, time: str, body: bytes, keys: Keys
) -> bool:
    text = told.get("signature", "").partition("signature=")[2]
    head = f"{request.method} {request.url.raw_path.decode()}\n{told['client-id']}.{time}."
    signature, signed = base64.b64decode(unquote(text)), head.encode() + body
    return any(_has_signed(key, signature, signed) for key in keys)


def _has_signed(key: RSAPublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
