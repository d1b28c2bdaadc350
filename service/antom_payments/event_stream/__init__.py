"""Follow the event log from a cursor.

    stream.py        EventStream: what subscribers need, put together
    starts.py        where subscribers start, what cursors mean
    tail.py          the process's one reader of the log's end
    ring.py          the newest events, in memory
    pages.py         older ones, from the database
    snapshot.py      the current state of payments, from the database
    subscription.py  a subscriber: a place in the log, not a queue
    wake_ups.py      who may want an event
    measures.py      what metrics tell of all that
    entry.py         an event as it is sent

Promised, one test each (`tests/event_stream/test_promises.py`): ordered, unique, reliable, atomic,
resumable, bookmarkable, scoped, expiring loudly, live.
"""

from antom_payments.event_stream.starts import (
    AfterCursor,
    AtTime,
    Earliest,
    Latest,
    Snapshot,
    Start,
)
from antom_payments.event_stream.stream import EventStream
from antom_payments.event_stream.subscription import Batch, BatchLimits, Subscription
from antom_payments.event_stream.tail import Pace

__all__ = [
    "AfterCursor",
    "AtTime",
    "Batch",
    "BatchLimits",
    "Earliest",
    "EventStream",
    "Latest",
    "Pace",
    "Snapshot",
    "Start",
    "Subscription",
]
