"""I4, I8 and I9: who was shown what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from invariants.records import History, Received


def subscribers_have_the_log(history: History) -> Iterator[str]:
    """I4: each has what it asked for, in order, as it is in the log."""
    order = {event.event_id: event.sequence for event in history.log}
    end = max(order.values(), default=0)
    for one in history.subscribers:
        through = end if one.through is None else one.through
        owed = [event for event in history.log if one.since < event.sequence <= through]
        wanted = [event.event_id for event in owed if one.wants(event)]
        got = {event_id for _, event_id in one.events}
        yield from _some(f"{one.name} never got", [e for e in wanted if e not in got])
        strangers = [e for e in got if e not in order and e not in history.lost]
        yield from _some(f"{one.name} got what is not in the log:", sorted(strangers))
        connections: dict[int, list[int]] = defaultdict(list)
        for connection, event_id in one.events:
            if event_id not in history.lost:
                connections[connection].append(order.get(event_id, 0))
        for connection, sequences in connections.items():
            for before, after in pairwise(sequences):
                if after <= before:
                    yield f"{one.name} got {after} after {before} on connection {connection}"
        first = [e for e in dict.fromkeys(e for _, e in one.events) if e in order]
        if first != sorted(first, key=order.__getitem__):
            yield f"{one.name} got events for the first time in another order than the log's"
        yield from _shown_otherwise(one, history)


def _shown_otherwise(one: Received, history: History) -> Iterator[str]:
    logged = {event.event_id: event.content for event in history.log}
    wrong = [e.event_id for e in one.wire if logged.get(e.event_id, e.content) != e.content]
    yield from _some(f"{one.name} was shown events otherwise than the log has them:", wrong)
    shown = {event.event_id for event in one.wire}
    strangers = shown - logged.keys() - history.lost
    yield from _some(f"{one.name} was shown what is not in the log:", sorted(strangers))


def nobody_sees_what_is_not_asked_for(history: History) -> Iterator[str]:
    """I8: filters and merchants keep what is not wanted from a subscriber."""
    logged = {event.event_id: event for event in history.log}
    for one in history.subscribers:
        foreign = [e for _, e in one.events if e in logged and not one.wants(logged[e])]
        yield from _some(f"{one.name} was not to see", foreign)


def no_secret_is_shown(history: History) -> Iterator[str]:
    """I9: nothing that processes printed holds a key or a buyer's data."""
    for name, text in history.outputs.items():
        for what, secret in history.secrets.items():
            if secret in text:
                yield f"{name} shows {what}"


def _some(words: str, event_ids: Iterable[str]) -> Iterator[str]:
    """One line for many, with how many and the first."""
    found = list(event_ids)
    if found:
        yield f"{words} {len(found)}, as {found[0]}"
