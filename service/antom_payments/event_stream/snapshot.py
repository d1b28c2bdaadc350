"""Reading the current state of payments, which a subscription may begin with.

A payment's row carries the sequence of its newest event: one that changes moves to the end. So
pages in that order, each read in a moment, miss nothing, however long the whole takes.

The snapshot ends at the log's head as of its beginning. What changed since then has left for behind
that place, and is told there by its event; so it ends also when payments change faster than it is
taken. With a filter that admits only some of a payment's events, that one may not be told: such a
snapshot goes on to the head of now, and what changed behind the reader comes again before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from antom_payments.cursor import START, Position, fingerprint_of
from antom_payments.errors import LogRewound
from antom_payments.event_stream.entry import Encoder, Mark, PaymentEntry, SnapshotMark
from antom_payments.event_stream.pages import Page
from antom_payments.payment import Payment
from antom_payments.payment_event import EventFilter
from antom_payments.store import EventLog, PaymentsPage

_ENCODED_AT_ONCE = 64


class Snapshots:
    """Reads pages of payments for all subscribers of the process, taking turns with `Pages`."""

    def __init__(
        self,
        log: EventLog,
        encoder: Encoder,
        *,
        reach: Callable[[int], Awaitable[bool]],
        page_payments: int,
        turns: asyncio.Semaphore,
    ) -> None:
        """``reach`` has the tail read the log up to a sequence, if the log still has it."""
        self._log = log
        self._encoder = encoder
        self._reach = reach
        self._page_payments = page_payments
        self._turns = turns

    async def read(self, after: SnapshotMark, event_filter: EventFilter) -> Page[PaymentEntry]:
        """The next payments; the page's end is a place in the log when that was the last of them.

        Raises:
            LogRewound: the log was restored since the payments before ``after`` were read.
            LogCorrupt: the log has a hole at its end.
            StoreUnavailable: the database cannot be used.
        """
        async with self._turns:
            page = await self._log.payments(
                after.sequence,
                witness=after.head.sequence,
                limit=self._page_payments,
                event_filter=event_filter,
                up_to=after.head.sequence if event_filter.admits_whole_payments else None,
            )
        if _is_of_another_log(page, after.head):
            raise LogRewound
        if event_filter.admits_whole_payments:
            # All that is told is no later than the first head: it is the better witness, too.
            head, time = after.head, page.witness_append_time
        else:
            head = Position(page.head, fingerprint_of(page.head_event_id)) if page.head else START
            time = page.head_append_time
        entries = await self._encoded(page.payments, head, after.filter_id)
        if page.through < head.sequence:
            through = self._encoder.snapshot_mark(page.through, head, after.filter_id)
            return Page(entries, through)
        return Page(entries, await self._end_at(head, time))

    async def _end_at(self, head: Position, time: datetime | None) -> Mark:
        """The place in the log at which the snapshot is over."""
        # Another process may have appended what this one's tail has not read yet.
        if not await self._reach(head.sequence):
            raise LogRewound
        return self._encoder.mark_at(head, time)

    async def _encoded(
        self, payments: tuple[Payment, ...], head: Position, filter_id: bytes
    ) -> tuple[PaymentEntry, ...]:
        """Serialise, giving way to others in between."""
        entries: list[PaymentEntry] = []
        for start in range(0, len(payments), _ENCODED_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            some = payments[start : start + _ENCODED_AT_ONCE]
            entries += [self._encoder.payment_entry(payment, head, filter_id) for payment in some]
        return tuple(entries)


def _is_of_another_log(page: PaymentsPage, head: Position) -> bool:
    """Whether the log lost what was its head when the page before was read.

    Not to be told where that event was pruned since: the subscription was refused then, or it is
    open and the tail sees to it.
    """
    if page.head < head.sequence:
        return True
    witness = page.witness_event_id
    return bool(witness) and fingerprint_of(witness) != head.fingerprint
