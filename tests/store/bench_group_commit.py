"""Group commit against one transaction for each notification, in one run.

Run by hand: `python tests/store/bench_group_commit.py [DATABASE_URL]`; without the URL of a
migrated database on a new SQLite file and on a PostgreSQL of its own, as the tests start it. Signed
notifications go through the sidecar's application, 64 in flight, in rounds that alternate. Prints
notifications per second and their ratio, and what a lone notification takes; for SQLite also how
long the writes of another process take meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from antom_payments.antom.signing import Signer, Verifier, load_private_key, load_public_key
from antom_payments.notifications import NotificationApp, Sender, notification_app
from antom_payments.service import PaymentService
from antom_payments.store import (
    Applied,
    DataCipher,
    Member,
    PaymentStore,
    new_data_key,
    open_store,
)
from clock import FrozenClock
from databases import POSTGRES, SQLITE, Databases
from facts import a_payment
from keys import golden_pair
from notifications.sidecars import ACKNOWLEDGEMENT, CLIENT_ID, PATH, Antom, Metrics, message
from postgres_server import choose
from stored import REQUEST, confirmed

IN_FLIGHT = 64
PAYMENTS = 250
ROUNDS = 5
ALONE = 200
BESIDE_SECONDS = 3.0
Signed = tuple[bytes, list[tuple[bytes, bytes]]]

_numbers = itertools.count()


class OneTransactionEach(PaymentStore):
    """The store as it is without group commit."""

    async def apply(self, members: Sequence[Member]) -> list[Applied]:
        return await self._commit(members)


def antom() -> Antom:
    key = load_private_key(golden_pair("antom").private, setting="bench")
    return Antom(Signer(key, CLIENT_ID), FrozenClock().now)


def app_of(store: PaymentStore) -> NotificationApp:
    key = load_public_key(golden_pair("antom").public, setting="bench")
    now = FrozenClock().now
    return notification_app(
        PaymentService(store, {}, now=now),
        {CLIENT_ID: Sender("default", Verifier([key]))},
        path=PATH,
        clock=now,
        counts=Metrics().counts(),
        deadline_seconds=60,
    )


async def signed_news(store: PaymentStore, payments: int) -> list[Signed]:
    """What Antom sends about new payments: each is paid, and then captured."""
    numbers = [next(_numbers) for _ in range(payments)]
    for n in numbers:
        intent = a_payment(version=0, payment_request_id=f"order-{n}")
        await store.begin_session(intent, REQUEST, lease_seconds=10)
    amount = {"currency": "EUR", "value": "100"}
    bodies = [
        message("03", paymentRequestId=f"order-{n}", paymentId=f"P-{n}", paymentAmount=amount)
        for n in numbers
    ] + [
        message("06", captureId=f"C-{n}", paymentId=f"P-{n}", captureAmount=amount) for n in numbers
    ]
    sender = antom()
    return [
        (body, [(name.encode(), value.encode()) for name, value in sender.headers(body)])
        for body in bodies
    ]


async def notify(app: NotificationApp, signed: Signed) -> None:
    """One request, as an ASGI server makes it."""
    body, headers = signed
    answer = b""

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(told: Any) -> None:
        nonlocal answer
        answer += told.get("body", b"")

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive, send)
    assert answer == ACKNOWLEDGEMENT


async def notify_all(app: NotificationApp, news: Iterator[Signed]) -> None:
    for signed in news:
        await notify(app, signed)


async def rate(store: PaymentStore) -> float:
    """Notifications per second, `IN_FLIGHT` at a time."""
    app = app_of(store)
    news = await signed_news(store, PAYMENTS)
    left = iter(news)
    began = time.perf_counter()
    await asyncio.gather(*(notify_all(app, left) for _ in range(IN_FLIGHT)))
    return len(news) / (time.perf_counter() - began)


async def alone(store: PaymentStore) -> float:
    """Milliseconds that a notification takes when it is the only one: the median."""
    app = app_of(store)
    times = []
    for signed in await signed_news(store, ALONE // 2):
        began = time.perf_counter()
        await notify(app, signed)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


async def compare(url: str, cipher: DataCipher) -> None:
    now = FrozenClock().now
    async with open_store(url, cipher=cipher, now=now) as store:
        each = OneTransactionEach(store._database, store.log, store._hints, cipher=cipher, now=now)
        rates: dict[str, list[float]] = {"one each": [], "group commit": []}
        for _ in range(ROUNDS):
            rates["one each"].append(await rate(each))
            rates["group commit"].append(await rate(store))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        for name, found in rates.items():
            each_round = ", ".join(f"{one:.0f}" for one in found)
            say(f"  {name}: {medians[name]:.0f} notifications/s ({each_round})")
        say(
            f"  ratio at {IN_FLIGHT} in flight: {medians['group commit'] / medians['one each']:.2f}"
        )
        say(f"  alone: {await alone(each):.2f} ms one each, {await alone(store):.2f} ms in a group")


async def beside(url: str, cipher: DataCipher, data_key: str) -> None:
    """Another process writes to the same file, one by one, while this one is busy."""
    async with open_store(url, cipher=cipher, now=FrozenClock().now) as store:
        app = app_of(store)
        news = iter(await signed_news(store, 20 * PAYMENTS))
        busy = [asyncio.create_task(notify_all(app, news)) for _ in range(IN_FLIGHT)]
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--beside", url, data_key), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await other.communicate()
        idle = all(task.done() for task in busy)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        say("  " + said.decode().strip() + (" (the busy process had nothing left)" if idle else ""))


async def write_beside(url: str, data_key: str) -> None:
    """What the other process does: sessions, one by one; prints how long each took."""
    times = []
    async with open_store(url, cipher=DataCipher(data_key), now=lambda: datetime.now(UTC)) as store:
        until = time.monotonic() + BESIDE_SECONDS
        while time.monotonic() < until:
            began = time.perf_counter()
            await confirmed(store, payment_request_id=f"beside-{next(_numbers)}")
            times.append((time.perf_counter() - began) * 1e3)
    cuts = statistics.quantiles(times, n=100)
    say(
        f"two writes of another process: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, "
        f"longest {max(times):.1f} ms, of {len(times)}"
    )


@contextlib.asynccontextmanager
async def databases_of(given: str) -> AsyncIterator[dict[str, str]]:
    if given:
        yield {given.partition(":")[0]: given}
        return
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(choose(os.environ), os.environ, Path(folder))
        try:
            async with databases.fresh(SQLITE) as file, databases.fresh(POSTGRES) as server:
                yield {SQLITE: file, POSTGRES: server}
        finally:
            await databases.stop()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(given: str) -> None:
    data_key = new_data_key()
    cipher = DataCipher(data_key)
    async with databases_of(given) as urls:
        for name, url in urls.items():
            say(f"{name}:")
            await compare(url, cipher)
            if name.startswith(SQLITE):
                await beside(url, cipher, data_key)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--beside"]:
        asyncio.run(write_beside(*sys.argv[2:]))
    else:
        asyncio.run(main(*(sys.argv[1:] or [""])))
