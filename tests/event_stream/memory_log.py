"""A log in memory, for properties that need thousands of logs; `EventLog` in what it promises."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from antom_payments.errors import LogCorrupt
from antom_payments.money import Money
from antom_payments.payment import EventType, Payment, PaymentState, Source
from antom_payments.payment_event import EventFilter, PaymentEvent
from antom_payments.store import LogPage, PaymentsPage

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def event_of(
    *,
    like: PaymentEvent | None = None,
    sequence: int = 0,
    merchant_account: str = "default",
    payment_request_id: str = "payment",
    type: EventType = EventType.PAYMENT_PENDING,  # noqa: A002
    state: PaymentState = PaymentState.PROCESSING,
) -> PaymentEvent:
    """An event as the log would give it."""
    append_time = START + timedelta(seconds=sequence)
    if like is not None:
        return replace(like, sequence=sequence, append_time=append_time)
    payment = Payment(
        merchant_account=merchant_account,
        payment_request_id=payment_request_id,
        amount=Money("USD", 12_50),
        reference_order_id="order",
        payment_method_type="CARD",
        capture_mode="",
        capture_expected=None,
        create_time=START,
        update_time=START,
        state=state,
    )
    return PaymentEvent(
        event_id=str(uuid.uuid4()),
        type=type,
        payment=payment,
        state_before=PaymentState.CREATING,
        source=Source.INQUIRY,
        sequence=sequence,
        append_time=append_time,
    )


class MemoryLog:
    """Appends, prunes, and answers after some turns of the event loop, as a database does."""

    def __init__(self, turns: int = 1) -> None:
        self.log_id = str(uuid.uuid4())
        self.cursor_key = bytes(range(64))
        self.events: dict[int, PaymentEvent] = {}
        self.head = 0
        self.newest: dict[tuple[str, str], Payment] = {}
        """Payments after their newest events."""
        self.turns = turns
        self._appended = asyncio.Event()

    @property
    def _oldest(self) -> int:
        return min(self.events, default=0)

    def append(self, draft: PaymentEvent) -> PaymentEvent:
        self.head += 1
        key = (draft.merchant_account, draft.payment_request_id)
        version = self.newest[key].version + 1 if key in self.newest else 1
        payment = replace(draft.payment, version=version, last_sequence=self.head)
        self.newest[key] = payment
        self.events[self.head] = event_of(like=replace(draft, payment=payment), sequence=self.head)
        self._appended.set()
        return self.events[self.head]

    def prune(self, before: int) -> None:
        """Forget what is older, but never the newest."""
        for sequence in range(self._oldest, min(before, self.head)):
            self.events.pop(sequence, None)

    async def page(
        self,
        after: int,
        *,
        window: int = 5000,
        limit: int = 256,
        event_filter: EventFilter | None = None,
    ) -> LogPage:
        await self._take_time()
        wanted = event_filter or EventFilter()
        stretch = range(after + 1, min(after + window, self.head) + 1)
        kept = [self.events[n] for n in stretch if n in self.events]
        found = tuple(event for event in kept if wanted.admits(event))[:limit]
        through = found[-1].sequence if len(found) == limit else max(after, stretch.stop - 1)
        complete = len(found) == through - after
        if event_filter is None and after >= self._oldest - 1 and not complete:
            raise LogCorrupt(after)
        before = self.events.get(after)
        return LogPage(found, through, self._oldest, self.head, before.event_id if before else "")

    async def payments(
        self,
        after: int,
        *,
        witness: int,
        limit: int,
        event_filter: EventFilter,
        up_to: int | None = None,
    ) -> PaymentsPage:
        await self._take_time()
        wanted = replace(event_filter, types=None)
        end = self.head if up_to is None else up_to
        rows = sorted(self.newest.values(), key=lambda payment: payment.last_sequence)
        found = tuple(
            payment
            for payment in rows
            if after < payment.last_sequence <= end
            and wanted.admits(replace(self.events[self.head], payment=payment))
        )[:limit]
        through = found[-1].last_sequence if len(found) == limit else max(after, end)
        newest, kept = self.events.get(self.head), self.events.get(witness)
        return PaymentsPage(
            found,
            through,
            self.head,
            newest.event_id if newest else "",
            newest.append_time if newest else None,
            kept.event_id if kept else "",
            kept.append_time if kept else None,
        )

    async def first_since(self, time: datetime) -> int:
        await self._take_time()
        times = {n: event.append_time for n, event in self.events.items()}
        return min((n for n, found in times.items() if found and found >= time), default=0)

    async def event(self, sequence: int) -> PaymentEvent | None:
        await self._take_time()
        return self.events.get(sequence)

    async def oldest(self) -> PaymentEvent | None:
        await self._take_time()
        return self.events.get(self._oldest)

    async def bounds(self) -> tuple[int, int]:
        await self._take_time()
        return self._oldest, self.head

    async def wait(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._appended.wait()
        except TimeoutError:
            return
        self._appended.clear()

    async def _take_time(self) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
