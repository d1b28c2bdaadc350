"""Any history of appends, prunings and absences: a snapshot and what follows equal the log."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from antom_payments.errors import CursorExpired
from antom_payments.event_stream import BatchLimits, EventStream
from antom_payments.payment import Payment
from antom_payments.payment_event import EventFilter
from event_stream.memory_log import MemoryLog, event_of
from event_stream.replica import Replica, encode
from event_stream.test_snapshot import states
from event_stream.watching import PATIENCE, tail_is_at_head

merchants = st.sampled_from(["m-1", "m-2"])
ids = st.sampled_from(["p-1", "p-2", "p-3", "p-4", "p-5"])
filters = st.builds(
    EventFilter,
    merchant_accounts=st.none() | st.frozensets(merchants, max_size=2),
    payment_request_ids=st.none() | st.frozensets(ids, max_size=3),
)
steps = st.one_of(
    st.tuples(st.just("append"), merchants, ids),
    st.tuples(st.just("append"), merchants, ids),
    st.tuples(st.just("take"), st.integers(1, 3)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("come back"), st.just(0)),
    st.tuples(st.just("poll"), st.just(0)),
    st.tuples(st.just("prune"), st.integers(1, 6)),
)


class Away(Replica):
    """Comes and goes; begins anew when it was away for longer than the log keeps."""

    def __init__(self, log: MemoryLog, stream: EventStream, event_filter: EventFilter) -> None:
        super().__init__(event_filter)
        self.log = log
        self.stream = stream

    def due(self) -> dict[tuple[str, str], tuple[int, str]]:
        """The log replayed, as far as the filter admits."""
        return states([one for one in self.log.newest.values() if self._admits(one)])

    async def come_back(self) -> None:
        try:
            await self.join(self.stream)
        except CursorExpired:
            self.begin_anew()
            await self.join(self.stream)

    def begin_anew(self) -> None:
        self.leave()
        super().__init__(self.event_filter)

    async def do(self, step: str, words: list[Any]) -> None:
        match step:
            case "append":
                self.log.append(event_of(merchant_account=words[0], payment_request_id=words[1]))
            case "take":
                await self.take(PATIENCE if not self.caught_up else 0.0, most=words[0])
            case "look":
                await self.take(0.0)
            case "come back":
                await self.come_back()
            case "poll":
                await tail_is_at_head(self.stream)
            case "prune":
                # The tail of a real process is never that far behind.
                await tail_is_at_head(self.stream)
                self.log.prune(self.log.head - words[0])

    async def finish(self) -> None:
        await self.come_back()
        await self.until_caught_up()
        await tail_is_at_head(self.stream)
        for _ in range(100):
            if self.payments == self.due():
                break
            await self.take(0.1)
        self.leave()

    def _admits(self, payment: Payment) -> bool:
        merchants, wanted = (
            self.event_filter.merchant_accounts,
            self.event_filter.payment_request_ids,
        )
        return (merchants is None or payment.merchant_account in merchants) and (
            wanted is None or payment.payment_request_id in wanted
        )


@settings(max_examples=200)
@given(st.lists(steps, max_size=50), filters, st.integers(1, 4), st.integers(0, 3))
async def test_a_snapshot_and_what_follows_equal_the_log_replayed(
    history: list[Any], event_filter: EventFilter, page: int, turns: int
) -> None:
    log = MemoryLog(turns)
    stream = EventStream(
        log,  # type: ignore[arg-type]
        encode=encode,
        ring_events=3,
        page_events=1 + page,
        limits=BatchLimits(events=2),
    )
    replica = Away(log, stream, event_filter)
    await replica.come_back()
    for step, *words in history:
        ends = replica.snapshot_ends
        try:
            await replica.do(step, words)
        except CursorExpired:
            replica.begin_anew()
            await replica.come_back()
        if replica.snapshot_ends > ends:
            assert set(replica.payments) <= set(replica.due())
    await replica.finish()
    assert replica.payments == replica.due()
    assert replica.snapshot_ends == 1
