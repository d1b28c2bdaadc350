"""A process that appends events one by one: `appending_process.py URL DATA_KEY NAME COUNT`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from antom_payments.store import DataCipher, open_store
from stored import confirmed


async def main(url: str, data_key: str, name: str, count: int) -> None:
    def now() -> datetime:
        return datetime.now(UTC)

    async with open_store(url, cipher=DataCipher(data_key), now=now) as store:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        for n in range(count):
            await confirmed(store, payment_request_id=f"{name}-{n}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
