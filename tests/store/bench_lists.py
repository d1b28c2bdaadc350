"""What a page of a list takes among many payments, and what its indexes cost.

Run by hand: `python tests/store/bench_lists.py [PAYMENTS]`, 600,000 unless told otherwise; on a new
SQLite file and on a PostgreSQL of its own, as the tests start it. Prints how long the migration
builds the indexes; then, for each list, the milliseconds of a page of 50: the first one, one in the
middle and one near the end, and of the first page of 200 (median, and the longest, of rounds).
Rows are read and decoded, not yet put into messages.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from antom_payments.payment import PaymentState
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, Place, TimeRange
from antom_payments.store import DataCipher, PaymentStore, migrate, new_data_key, open_store
from antom_payments.store.database import Database
from databases import POSTGRES, SQLITE, Databases
from facts import NOW
from listed import analyze, fill_many
from postgres_server import choose
from store.test_migration import to

ROUNDS = 30
CREATED, UPDATED = PaymentOrder.CREATE_TIME_DESC, PaymentOrder.UPDATE_TIME_ASC
MINE = PaymentFilter(merchant_accounts=frozenset({"default"}))
MANY = replace(MINE, merchant_accounts=frozenset({"default", *(f"m-{n}" for n in range(99))}))
RARE = frozenset({PaymentState.FAILED})
NEVER = frozenset({PaymentState.PROCESSING})
LISTS = {
    "everything": (MINE, CREATED),
    "of 100 merchants": (MANY, CREATED),
    "in a rare state": (replace(MINE, states=RARE), CREATED),
    "in a state of none": (replace(MINE, states=NEVER), CREATED),
    "in all eight states": (replace(MINE, states=frozenset(PaymentState)), CREATED),
    "of an order": (replace(MINE, reference_order_id="order-77"), CREATED),
    "by change": (MINE, UPDATED),
    "rare, by change": (replace(MINE, states=RARE), UPDATED),
    "none, by change": (replace(MINE, states=NEVER), UPDATED),
    "newest first, changed in a day": (
        replace(MINE, update_time=TimeRange(NOW - timedelta(days=3), NOW - timedelta(days=2))),
        CREATED,
    ),
}


async def milliseconds(
    store: PaymentStore,
    wanted: PaymentFilter,
    order: PaymentOrder,
    *,
    after: Place | None = None,
    size: int = 50,
) -> str:
    """Median and longest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await store.listing.page(wanted, order, after=after, limit=size + 1)
        times.append((time.perf_counter() - began) * 1e3)
        if sum(times) > 5_000:
            break
    return f"{statistics.median(times):7.1f} {max(times):7.1f}"


async def measure(store: PaymentStore, count: int) -> None:
    say(f"{'':32}" + "".join(f"{head:>17}" for head in ("first", "middle", "near the end", "200")))
    for name, (wanted, order) in LISTS.items():
        columns = [await milliseconds(store, wanted, order)]
        for passed in (count // 2, count - count // 100):
            seconds = passed if order is CREATED else count - passed
            place = Place(NOW - timedelta(seconds=seconds), "default", "pay-0")
            columns.append(await milliseconds(store, wanted, order, after=place))
        columns.append(await milliseconds(store, wanted, order, size=200))
        say(f"{name:32}" + "".join(f"{column:>17}" for column in columns))


async def measure_on(url: str, count: int) -> None:
    database = Database(url)
    async with database.writer.begin() as connection:
        await connection.run_sync(partial(to, "0002"))
    await fill_many(database, count)
    began = time.perf_counter()
    await migrate(url)
    say(f"migrated to lists in {time.perf_counter() - began:.1f} s")
    await analyze(database)
    await database.dispose()
    cipher = DataCipher(new_data_key())
    async with open_store(url, cipher=cipher, now=lambda: datetime.now(UTC)) as store:
        await measure(store, count)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(choose(os.environ), os.environ, Path(folder))
        try:
            for kind in (SQLITE, POSTGRES):
                say(f"{kind}, {count:,} payments:")
                async with databases.fresh(kind, migrated=False) as url:
                    await measure_on(url, count)
        finally:
            await databases.stop()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:] or ["600000"])))
