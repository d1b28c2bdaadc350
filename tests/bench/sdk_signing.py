"""Signs one request again and again, as the official SDK does. Runs where the SDK is.

python -I sdk_signing.py TESTS PACKAGES
"""

import asyncio
import sys
import time

sys.path += sys.argv[1:]

from com.alipay.ams.api.tools import signature_tool

from bench.obedience import obey
from keys import golden_pair


async def sign(message, count):
    """Sign so many times; seconds, CPU seconds, and the signature."""
    key = golden_pair("merchant").private
    told = [message[name] for name in ("method", "uri", "client_id", "date", "body")]
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(count):
        signature = signature_tool.sign(*told, key)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "signature": signature,
    }


if __name__ == "__main__":
    asyncio.run(obey({"sign": sign}))
