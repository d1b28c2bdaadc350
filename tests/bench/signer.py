"""Signs one request again and again, as ours does: `python -m bench.signer`."""

from __future__ import annotations

import asyncio
import time

from antom_payments.antom.signing import Signer, load_private_key
from bench.obedience import obey
from keys import golden_pair


async def sign(message: dict[str, str], count: int) -> dict[str, object]:
    """Sign so many times; seconds, CPU seconds, and the signature."""
    key = load_private_key(golden_pair("merchant").private, setting="bench")
    signer = Signer(key, message["client_id"])
    told = (message["method"], message["uri"], message["date"], message["body"].encode())
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(count):
        header = signer.signature_header(*told)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "signature": header.partition("signature=")[2],
    }


if __name__ == "__main__":
    asyncio.run(obey({"sign": sign}))
