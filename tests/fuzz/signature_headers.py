"""The parser of the `Signature` header: it reads one spelling of one signature, or says why not."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import AsyncIterator
from random import Random
from urllib.parse import unquote_to_bytes

from antom_payments.antom.signing import SignatureFault, SignatureInvalid, signature_in
from fuzz.mutation import mutated_signature, mutated_text, neutral_signature
from fuzz.notifications import originals
from fuzz.target import Input, Kind, Target, must, nothing_more

_FIELD = re.compile(r" *([^=,]+?) *=([^,]*)")


def _strictly_read(header: str) -> bytes | None:
    """The oracle: every pair matched by one pattern, and the signature spelt as it would be."""
    fields: dict[str, str] = {}
    for pair in header.split(","):
        found = _FIELD.fullmatch(pair)
        if not found or found[1] in fields:
            return None
        fields[found[1]] = found[2].strip(" ")
    if fields.get("algorithm", "RSA256") != "RSA256":
        return None
    spelt = unquote_to_bytes(fields.get("signature", ""))
    if not re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", spelt) or len(spelt) % 4:
        return None
    signature = base64.b64decode(spelt)
    return signature if base64.b64encode(signature) == spelt else None


def _make(random: Random, headers: list[str]) -> Input:
    header = random.choice(headers)
    if random.random() < 0.1:
        header = neutral_signature(random, header)
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        header = mutated_signature(random, header)
    if random.random() < 0.2:
        header = mutated_text(random, header)
    return {"header": header}


async def _check(given: Input) -> str:
    expected = _strictly_read(given["header"])
    try:
        signature = signature_in(given["header"])
    except SignatureInvalid as invalid:
        must(invalid.reason in SignatureFault, "a reason that is none")
        return f"refused: {invalid.reason.value}"
    must(signature == expected, "read a signature where a strict reader finds none")
    return "accepted: as a strict reader reads it"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The parser."""
    headers = [one.signature_header for one in originals()]
    yield Target(lambda random: _make(random, headers), _check, nothing_more)


KIND = Kind("signature_headers", opened)
