"""What metrics tell of the log's end, and of those who follow it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from antom_payments import instruments
from antom_payments.event_stream.pages import Pages
from antom_payments.event_stream.ring import Ring
from antom_payments.event_stream.subscription import Subscription
from antom_payments.event_stream.tail import Tail
from antom_payments.event_stream.wake_ups import WakeUps
from antom_payments.instruments import Reading

_head = instruments.observed_gauge(
    "antom_payments.log.head_sequence",
    "",
    "Sequence of the newest event that this server has read.",
    alert="LogStalled",
)
_unread = instruments.observed_gauge(
    "antom_payments.log.unread",
    "{event}",
    "Events of the log that this server has yet to read, when it last looked.",
    alert="LogStalled",
)
_tail_lag = instruments.observed_gauge(
    "antom_payments.log.tail_lag",
    "s",
    "How long this server has not been at the log's end: 0 while it keeps up.",
    alert="LogStalled",
)
_page_reads = instruments.observed_counter(
    "antom_payments.stream.page_reads",
    "{read}",
    "Reads of the database for subscribers who were behind what is kept in memory.",
    alert="SubscriberLagging",
)
_wake_ups = instruments.observed_counter(
    "antom_payments.stream.wake_ups", "{wake_up}", "Subscribers woken by events."
)
_longest_lag = instruments.observed_gauge(
    "antom_payments.stream.longest_lag",
    "s",
    "The lag of the subscriber who is furthest behind.",
    alert="SubscriberLagging",
)
_most_behind = instruments.observed_gauge(
    "antom_payments.stream.most_events_behind",
    "{event}",
    "Events between the subscriber who is furthest behind and the newest; 0 within a snapshot.",
    alert="SubscriberLagging",
)


class StreamMeasures:
    """Reads what the stream's parts know; `look` is called from the event loop now and then."""

    def __init__(self, tail: Tail, ring: Ring, pages: Pages, wake_ups: WakeUps) -> None:
        self._tail = tail
        self._ring = ring
        self._pages = pages
        self._wake_ups = wake_ups
        self._lag_seconds = 0.0
        self._events_behind = 0

    def look(self) -> None:
        """Find who is furthest behind: here, because a subscriber's place moves as it is read."""
        self._events_behind, self._lag_seconds = 0, 0.0
        for follower in self._wake_ups.sleepers():
            if isinstance(follower, Subscription) and (behind := follower.lag_events()):
                self._events_behind = max(self._events_behind, behind)
                self._lag_seconds = max(self._lag_seconds, follower.lag_seconds() or 0.0)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Let the metrics tell of it, while the block runs."""
        readings: list[tuple[instruments.Observed, Callable[[], float]]] = [
            (_head, lambda: self._ring.head.sequence),
            (_unread, lambda: self._tail.unread),
            (_tail_lag, lambda: self._tail.lag_seconds(time.monotonic())),
            (_page_reads, lambda: self._pages.reads),
            (_wake_ups, lambda: self._wake_ups.count),
            (_longest_lag, lambda: self._lag_seconds),
            (_most_behind, lambda: self._events_behind),
        ]
        with ExitStack() as reading:
            for observed, read in readings:
                reading.enter_context(observed.read_from(_one(read)))
            yield


def _one(read: Callable[[], float]) -> Callable[[], Iterable[Reading]]:
    return lambda: [(read(), {})]
