"""What a foreign event costs when 1,000 subscribers follow one payment each.

Run by hand: `python tests/event_stream/bench_wake_ups.py`. Prints the process's CPU time per
foreign event, without and with the subscribers, and their ratio; for comparison, subscribers of
everything. The log is in memory, so that the stream is what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from antom_payments.event_stream import AfterCursor, EventStream, Subscription
from antom_payments.payment_event import EventFilter
from event_stream.memory_log import MemoryLog, event_of
from event_stream.watching import EVERYTHING, encode, tail_is_at_head

FOREIGN_EVENTS = 2_000
PER_TRANSACTION = 4
SUBSCRIBERS = 1_000
ROUNDS = 5


async def follow(subscription: Subscription) -> None:
    while True:
        await subscription.next(15)


async def cost_of_a_foreign_event(filters: list[EventFilter]) -> tuple[float, int]:
    """Microseconds of CPU per event, and how many wake-ups there were."""
    log = MemoryLog(turns=0)
    stream = EventStream(log, encode=encode)  # type: ignore[arg-type]
    start = AfterCursor(await stream.cursor_after(0))
    subscriptions = [await stream.subscribe(start, wanted) for wanted in filters]
    followers = [asyncio.create_task(follow(subscription)) for subscription in subscriptions]
    await asyncio.sleep(0)
    drafts = [event_of(payment_request_id=f"other-{n % 50}") for n in range(FOREIGN_EVENTS)]
    began = time.process_time()
    for number in range(0, FOREIGN_EVENTS, PER_TRANSACTION):
        for draft in drafts[number : number + PER_TRANSACTION]:
            log.append(draft)
        await tail_is_at_head(stream)
        await asyncio.sleep(0)
    spent = time.process_time() - began
    for follower in followers:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
    return spent / FOREIGN_EVENTS * 1e6, stream.woken


async def main() -> None:
    keyed = [EventFilter(payment_request_ids=frozenset({f"mine-{n}"})) for n in range(SUBSCRIBERS)]
    cases = {
        "no subscriber": [],
        "1,000 subscribers of one payment each": keyed,
        "1,000 subscribers of everything": [EVERYTHING] * SUBSCRIBERS,
    }
    costs: dict[str, float] = {}
    for name, filters in cases.items():
        runs = [await cost_of_a_foreign_event(filters) for _ in range(ROUNDS)]
        costs[name] = statistics.median(cost for cost, _ in runs)
        sys.stdout.write(f"{name}: {costs[name]:.1f} us per event, {runs[0][1]} wake-ups\n")
    nobody, followers, _ = costs.values()
    sys.stdout.write(f"ratio with 1,000 keyed subscribers: {followers / nobody:.2f}\n")


if __name__ == "__main__":
    asyncio.run(main())
