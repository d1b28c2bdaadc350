"""Subscribers that keep a table of payments: a snapshot first, then whatever happens.

They resume in the middle of a snapshot, too, and are held to what docs/streaming.md promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import views
from antom_payments.cursor import fingerprint_of
from antom_payments.errors import CursorExpired
from antom_payments.event_stream import AfterCursor, Batch, Snapshot, Start, Subscription
from antom_payments.event_stream.entry import Mark, SnapshotMark
from antom_payments.v1.payment_service_pb2 import StreamPaymentEventsResponse
from invariants import PaymentKey
from simulation.readers import Place, Reader
from simulation.replicas import Server
from simulation.witness import Row

_RULE = "a snapshot has every payment"


class Keeper(Reader):
    """Keeps the newest version of every payment that it wants."""

    def __init__(self, words: dict[str, Any], *others: Any, **parts: Any) -> None:
        super().__init__(words, *others, **parts)
        self._kept: dict[PaymentKey, int] = {}
        """Versions, as far as they are stored."""
        self._told: dict[PaymentKey, int] = {}
        """What the last batch brought."""
        self._mark: Mark
        """Where the subscription stands."""
        self._ends = False
        self._server = ""
        """Where it was last."""
        self._wants_payment = replace(self.event_filter, final_states_only=False).admits

    def _chosen(self) -> Start:
        return AfterCursor(self.stored.cursor) if self.stored else Snapshot()

    async def _next(self, server: Server, subscription: Subscription) -> Batch | None:
        """One payment at a time, so that there is a middle."""
        most = 1 if isinstance(subscription._mark, SnapshotMark) else None
        batch = await self._network.call(
            server.process, lambda: subscription.next(self._patience, most=most)
        )
        self._mark = subscription._mark
        return batch

    def _begun(
        self, server: Server, subscription: Subscription, start: Start, before: int, epoch: int
    ) -> Place | None:
        mark = subscription._mark
        if not isinstance(mark, SnapshotMark):
            return super()._begun(server, subscription, start, before, epoch)
        head = mark.head.sequence
        if epoch != self._witness.epoch or self._is_of_lost_log(mark):
            return None
        self._history.count(f"snapshot {'resumes' if self.stored else 'starts'}")
        if self.stored is None:
            self._kept = {}
            is_there = mark.sequence == 0 and before <= head <= self._witness.head
        else:
            is_there = (mark.sequence, head) == (self.stored.sequence, self.stored.head)
        if not is_there:
            self._history.violated("a start is where it says", f"{self.name} at {mark.sequence}")
        return Place(mark.cursor, mark.sequence, "", epoch, head)

    def _is_of_lost_log(self, mark: SnapshotMark) -> bool:
        """Whether a running server has not noticed a restore yet."""
        lost = self._witness.lost.get(mark.head.sequence, ())
        return any(fingerprint_of(event_id) == mark.head.fingerprint for event_id in lost)

    async def _follow(self, server: Server) -> None:
        name = server.process.name.partition(".")[0]
        if self.stored is not None and self.stored.head is not None and name != self._server:
            self._history.count("snapshot moves to another server")
        self._server = name
        await super()._follow(server)

    def _checkpoint(self, server: Server, subscription: Subscription, here: Place) -> Place:
        self._told, self._ends = {}, False
        return here if here.head is not None else super()._checkpoint(server, subscription, here)

    def _got(self, batch: Batch, here: Place) -> Place:
        self._told, self._ends = {}, False
        if here.head is None:
            return self._got_events(batch, here)
        self.received += batch.data
        self._unprocessed = []
        if not self._is_same_log(here):
            return here
        position = here.sequence
        for payment in StreamPaymentEventsResponse.FromString(batch.data).payments:
            key = (payment.merchant_account, payment.payment_request_id)
            row = self._witness.version(key, payment.version)
            if row is None or row.sequence <= position or not self._wants(row):
                self._history.violated(_RULE, f"{self.name} got {key} {payment.version}")
                continue
            if views.of_message(payment) != row.shown:
                self._history.violated(_RULE, f"{self.name} got {key} otherwise than {row.shown}")
            self._history.count("snapshot tells a payment")
            position = row.sequence
            self._told[key] = payment.version
        if batch.snapshot_end:
            self._judge_end(self._mark.sequence)
            self._ends = True
            return self._place(batch.cursor, self._mark.sequence)
        head = self._mark.head.sequence if isinstance(self._mark, SnapshotMark) else here.head
        return Place(batch.cursor, position, "", here.epoch, head)

    def _got_events(self, batch: Batch, here: Place) -> Place:
        """A payment's next event has its version plus one."""
        there = super()._got(batch, here)
        if not self._is_same_log(there) or not self.event_filter.admits_whole_payments:
            return there
        for event in StreamPaymentEventsResponse.FromString(batch.data).events:
            key = (event.merchant_account, event.payment_request_id)
            known = self._told.get(key) or self._kept.get(key, 0)
            # One that was left to its events is told by the first of them, whatever its version.
            if known and event.payment_version != known + 1:
                what = f"{self.name} had {key[1]} {known}, got {event.payment_version}"
                self._history.violated("an event follows its payment", what)
            self._told[key] = event.payment_version
        return there

    def _judge_end(self, head: int) -> None:
        """Everything as it was at ``head``; what changed since is told by its events."""
        for row in self._newest(head):
            told = self._kept.get(row.key)
            is_to_come = (
                told is None
                and self.event_filter.admits_whole_payments
                and self._witness.version(row.key, row.version + 1) is not None
            )
            if is_to_come:
                self._history.count("snapshot leaves a payment to its events")
            elif told != row.version:
                self._history.violated(_RULE, f"{self.name} has {told} of {row.told}, at #{head}")

    def _newest(self, head: int) -> Iterator[Row]:
        """The payments that it wants, each by its newest event up to ``head``."""
        newest = {
            row.key: row for _, row in sorted(self._witness.rows.items()) if row.sequence <= head
        }
        return (row for row in newest.values() if self._wants(row))

    def _wants(self, row: Row) -> bool:
        is_wanted = row.state.is_final or not self.event_filter.final_states_only
        return is_wanted and self._wants_payment(row)

    def _keeps(self, here: Place) -> bool:
        if here.head is not None and not self._is_same_log(here):
            return False
        goes_on = super()._keeps(here)
        if self.stored is here:
            self._kept |= self._told
            if self._ends:
                self._history.count("snapshot ends")
                self.chapters[-1].since = here.sequence
        return goes_on

    def _expired(self, error: CursorExpired) -> None:
        """A new snapshot is the way on."""
        if self.stored is not None and self.stored.head is not None:
            self._history.count("snapshot expires in its middle")
        super()._expired(error)
        self.stored = None

    def _rewound(self, server: Server) -> None:
        if self.stored is not None and self.stored.head is not None:
            self._history.count("snapshot is rewound in its middle")
        super()._rewound(server)
