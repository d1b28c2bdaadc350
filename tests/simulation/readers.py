"""Subscribers: they drop, nap, resume from what they stored, and are held against the witness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import views
from antom_payments.errors import (
    CursorExpired,
    LogCorrupt,
    LogRewound,
    PaymentsError,
    StoreUnavailable,
)
from antom_payments.event_stream import (
    AfterCursor,
    AtTime,
    Batch,
    Earliest,
    Latest,
    Start,
    Subscription,
)
from antom_payments.payment_event import EventFilter
from antom_payments.v1.payment_service_pb2 import StreamPaymentEventsResponse
from invariants import Received
from simulation.history import History
from simulation.network import Cut, Network, Refused
from simulation.replicas import Server
from simulation.witness import Row, Witness

_CHECKPOINT_SECONDS = 25.0
_STALE = -1
"""The epoch of what a server tells that has not noticed a restore."""


@dataclass(frozen=True)
class Place:
    """Where a reader resumes: its cursor, and what the witness knows of the place."""

    cursor: str
    sequence: int
    event_id: str
    epoch: int
    """Of the log, when the cursor was given."""
    head: int | None = None
    """Of a place within a snapshot: the log's head that it is of."""


class Reader:
    """Reads the log through whichever server answers, for ever."""

    def __init__(
        self,
        words: dict[str, Any],
        event_filter: EventFilter,
        *,
        random: Random,
        network: Network,
        witness: Witness,
        history: History,
        servers: Callable[[], list[Server]],
        now: Callable[[], datetime],
    ) -> None:
        self.name: str = words["name"]
        self.event_filter = event_filter
        self.stored: Place | None = None
        self.received = bytearray()
        """Everything that it got."""
        self.chapters: list[Received] = []
        """Events whose effect is there; another chapter for each time that it began anew."""
        self.is_calm = False
        self._start: str = words["start"]
        self._ago = timedelta(seconds=words.get("ago", 0.0))
        self._wanted_time: datetime | None = None
        """Of a start at a time, while it is asked for."""
        self._drops: float = words["drops"]
        self._naps: float = words["naps"]
        self._unprocessed: list[str] = []
        self._connection = 0
        self._random = random
        self._network = network
        self._witness = witness
        self._history = history
        self._servers = servers
        self._now = now
        self._through = 0
        """Up to where the chapter is stored."""
        # Whatever is kept, should it never begin.
        self._begin_chapter(witness.pruned_through)

    async def run(self) -> None:
        """Follow, and come back after whatever happens."""
        while True:
            servers = self._servers()
            if servers:
                server = self._random.choice(servers)
                try:
                    await self._follow(server)
                except (Refused, Cut, StoreUnavailable, TimeoutError) as error:
                    self._history.count(f"reader {type(error).__name__}")
                except CursorExpired as error:
                    self._expired(error)
                except LogRewound:
                    self._rewound(server)
                except LogCorrupt as error:
                    self._history.violated("the log has no holes", f"{self.name}: {error!r}")
                except PaymentsError as error:
                    self._history.violated("a reader is refused for a reason", f"{error!r}")
            await asyncio.sleep(self._random.uniform(0.01, 12.0))

    async def _follow(self, server: Server) -> None:
        self._connection += 1
        start, before = self._chosen(), self._witness.head
        epoch = self._witness.epoch
        subscription = await self._network.call(
            server.process, lambda: server.stream.subscribe(start, self.event_filter)
        )
        here = self._begun(server, subscription, start, before, epoch)
        if here is None:
            return
        if self.stored:
            self._history.count("reader resumes")
        try:
            while True:
                batch = await self._next(server, subscription)
                if batch is None:
                    here = self._checkpoint(server, subscription, here)
                else:
                    here = self._got(batch, here)
                if not self._keeps(here):
                    return
                if self._naps and not self.is_calm:
                    await asyncio.sleep(self._random.uniform(0, self._naps))
        finally:
            if server.process.is_alive:
                subscription.close()

    def _chosen(self) -> Start:
        if self.stored is not None:
            return AfterCursor(self.stored.cursor)
        if self._start == "at time":
            self._wanted_time = self._now() - self._ago
            return AtTime(self._wanted_time)
        return Latest() if self._start == "latest" else Earliest()

    async def _next(self, server: Server, subscription: Subscription) -> Batch | None:
        return await self._network.call(
            server.process,
            lambda: subscription.next(self._patience),
        )

    @property
    def _patience(self) -> float:
        """How long it waits for a batch before it takes a checkpoint, in seconds."""
        return _CHECKPOINT_SECONDS * (40 if self.is_calm else 1)

    def _begun(
        self, server: Server, subscription: Subscription, start: Start, before: int, epoch: int
    ) -> Place | None:
        """Where the subscription starts, which must be where it should."""
        cursor, sequence = subscription._mark.cursor, subscription._mark.sequence
        self._wanted_time = None
        if epoch != self._witness.epoch or self._is_stale(server, cursor, sequence):
            return None
        if self.stored is None:
            self._history.count(f"reader starts {self._start}")
            if not self._is_there(start, sequence, before):
                self._history.violated("a start is where it says", f"{self.name} at #{sequence}")
            # Without a cursor it begins anew, wherever it had been.
            self._begin_chapter(sequence)
            return self._place(cursor, sequence)
        found = self._witness.event_id(self.stored.sequence)
        if self.stored.event_id and found and found != self.stored.event_id:
            self._history.violated("a rewound log is noticed", f"{self.name} after {self.stored}")
        if sequence < self.stored.sequence:
            # Not even when a restore brought back what was pruned before it.
            told = f"{self.name} at #{sequence}, after #{self.stored.sequence}"
            self._history.violated("a resume goes on where its cursor says", told)
        self._skips(self.stored.sequence, sequence, "resumed")
        return self._place(cursor, max(sequence, self.stored.sequence))

    def _is_there(self, start: Start, sequence: int, before: int) -> bool:
        """Whether it is where it should be; ``before`` was the log's head when it asked."""
        low, high = 0, self._witness.head
        if isinstance(start, Latest | AtTime):
            low = before
        if isinstance(start, AtTime):
            rows = (self._witness.rows[number] for number in range(1, before + 1))
            first = next((row for row in rows if _time(row) >= start.time), None)
            low, high = (first.sequence - 1,) * 2 if first else (low, high)
        return low <= sequence <= high

    def _got(self, batch: Batch, here: Place) -> Place:
        """Each event must be the next one that the filter admits."""
        self.received += batch.data
        position = here.sequence
        epoch = self._witness.epoch
        self._unprocessed = []
        for event in StreamPaymentEventsResponse.FromString(batch.data).events:
            self._history.counts["events read"] += 1
            if here.epoch != epoch or self._witness.has_lost(event.event_id):
                # What was restored beneath a running server is noticed at its next look.
                return Place(batch.cursor, position, "", _STALE)
            expected = next(self._witness.after(position, self.event_filter), None)
            if expected is None or expected.event_id != event.event_id:
                wanted = expected.told if expected else "nothing"
                self._history.violated(
                    "readers get the log, in order and whole",
                    f"{self.name} after #{position} got {event.event_id}, not {wanted}",
                )
                return here
            position = expected.sequence
            self._unprocessed.append(expected.event_id)
            self.chapters[-1].wire.append(views.of_event(event))
        return Place(batch.cursor, position, self._witness.event_id(position), here.epoch)

    def _checkpoint(self, server: Server, subscription: Subscription, here: Place) -> Place:
        """A checkpoint lies behind nothing that was wanted and not given."""
        if not self._is_same_log(here):
            return here
        cursor = subscription.checkpoint_cursor()
        sequence = subscription._mark.sequence
        if self._is_stale(server, cursor, sequence):
            return Place(cursor, sequence, "", _STALE)
        self._history.counts["checkpoints"] += 1
        self._skips(here.sequence, sequence, "was told a checkpoint")
        return self._place(cursor, sequence)

    def _skips(self, position: int, sequence: int, what: str) -> None:
        missed = next(self._witness.after(position, self.event_filter), None)
        if missed is not None and missed.sequence <= sequence:
            self._history.violated(
                "readers get the log, in order and whole",
                f"{self.name} {what} at #{sequence}, and never got {missed.told}",
            )

    def _keeps(self, here: Place) -> bool:
        """Process, then store the cursor; now and then something ends in between."""
        if not self.is_calm and self._random.random() < self._drops:
            self._history.count("reader drops what it got")
            return False
        self.chapters[-1].events += [(self._connection, one) for one in self._unprocessed]
        self._unprocessed = []
        if self._is_same_log(here):
            self.stored = here
            if here.head is None:
                self._through = here.sequence
        if not self.is_calm and self._random.random() < self._drops:
            self._history.count("reader drops")
            return False
        return True

    def _is_same_log(self, here: Place) -> bool:
        return here.epoch == self._witness.epoch

    def _place(self, cursor: str, sequence: int) -> Place:
        return Place(cursor, sequence, self._witness.event_id(sequence), self._witness.epoch)

    def _expired(self, error: CursorExpired) -> None:
        self._history.count("reader's cursor expired")
        pruned = self._witness.pruned_through
        first = self._witness.rows.get(pruned + 1)
        if self.stored is not None:
            place = self.stored.sequence if self.stored.head is None else self.stored.head
            is_true = place <= pruned
        else:
            wanted = self._wanted_time
            if wanted is not None:
                self._history.count("start at a time that was pruned")
            is_true = first is None or wanted is None or _time(first) >= wanted
        # Who naps hears late; what was pruned may have come back with a restore by then.
        is_late = self.stored is not None and self.stored.epoch != self._witness.epoch
        if not is_true and not is_late:
            self._history.violated("a cursor expires with its events", f"{self.name} {self.stored}")
        self._begin_chapter(pruned)
        self.stored = self._place(error.metadata["oldest_cursor"], pruned)

    def _rewound(self, server: Server) -> None:
        self._history.count("reader's log was rewound")
        known = self.stored.epoch if self.stored else self._witness.epoch
        if min(known, server.epoch) == self._witness.epoch:
            self._history.violated("only a restore rewinds the log", f"{self.name} {self.stored}")
        if self._start != "snapshot":
            self._start = "earliest"
        self._begin_chapter(self._witness.pruned_through)
        self.stored = None

    def restored(self) -> None:
        """The log may have lost the end of a chapter."""
        self._through = min(self._through, self._witness.kept_through)
        for one in self.chapters:
            if one.through is not None:
                one.through = min(one.through, self._witness.kept_through)

    def _begin_chapter(self, since: int) -> None:
        """Owed from here on: all after ``since``; of the chapter before, what it stored."""
        if self.chapters:
            self.chapters[-1].through = self._through
        self._through = since
        self.chapters.append(Received(self.name, self.event_filter.admits, since=since))

    def _is_stale(self, server: Server, cursor: str, sequence: int) -> bool:
        """Whether a running server has not noticed a restore yet: it tells of what was lost."""
        lost = self._witness.lost.get(sequence, ())
        return any(server.stream.cursor_at(sequence, event_id) == cursor for event_id in lost)


def _time(row: Row) -> datetime:
    return datetime.fromisoformat(row.append_time).replace(tzinfo=UTC)
