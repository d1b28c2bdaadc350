"""The golden vectors and samples, as the tests of this folder read them."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from antom_payments.antom.signing import load_private_key, load_public_key

FOLDER = Path(__file__).parent.parent / "golden" / "antom"
SEED, MODELLED = FOLDER / "samples" / "seed", FOLDER / "samples" / "modelled"
SANDBOX_CLIENT_ID = "SANDBOX_5X00000000000000"


def keys() -> dict[str, str]:
    return dict(json.loads((FOLDER / "signing" / "keys.json").read_text()))


@cache
def private_key(name: str) -> RSAPrivateKey:
    return load_private_key(keys()[name], setting=name)


@cache
def public_key(name: str) -> RSAPublicKey:
    return load_public_key(keys()[name], setting=name)


def vectors(kind: str) -> list[dict[str, Any]]:
    """The vectors of `requests`, `responses` or `notifications`, with their bodies as bytes."""
    found = json.loads((FOLDER / "signing" / f"{kind}.json").read_text())["vectors"]
    return [vector | {"body": base64.b64decode(vector["body_base64"])} for vector in found]


def all_vectors(*, only_valid: bool = False) -> list[Any]:
    return [
        pytest.param(vector, id=f"{kind}-{vector['name']}")
        for kind in ("requests", "responses", "notifications")
        for vector in vectors(kind)
        if vector["expected_valid"] or not only_valid
    ]


def captures() -> list[Any]:
    """Requests that the official SDK put on the wire."""
    found = json.loads((FOLDER / "wire" / "official_python_sdk_1.7.1.json").read_text())
    return [
        pytest.param(capture, id=f"{capture['api']}-{index}")
        for index, capture in enumerate(found["captures"])
    ]


def sample(path: Path) -> Any:
    return json.loads(path.read_text())


def compact(message: object) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
