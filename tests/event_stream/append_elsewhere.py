"""Another process that appends: `python append_elsewhere.py URL COUNT`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from news import News

from antom_payments.store import DataCipher, new_data_key, open_store


async def main(database_url: str, count: int) -> None:
    cipher = DataCipher(new_data_key())
    async with open_store(database_url, cipher=cipher, now=lambda: datetime.now(UTC)) as store:
        news = News(store)
        for number in range(count):
            await news.about(f"elsewhere-{number % 3}")
    sys.stdout.write(f"appended {count}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
