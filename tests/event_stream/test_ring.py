"""The ring: a bounded stretch of the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antom_payments.event_stream.entry import Entry, Mark
from antom_payments.event_stream.ring import Ring
from antom_payments.payment import EventType, PaymentState


def entry(sequence: int, size: int = 0) -> Entry:
    return Entry(
        sequence=sequence,
        cursor=f"cursor-{sequence}",
        append_time=None,
        data=bytes(size),
        merchant_account="default",
        payment_request_id="payment",
        type=EventType.PAYMENT_PENDING,
        state=PaymentState.PROCESSING,
    )


def ring_of(count: int, *, events: int = 100, size_bytes: int = 10**9, start: int = 0) -> Ring:
    ring = Ring(Mark(start, f"cursor-{start}", None), events=events, size_bytes=size_bytes)
    for sequence in range(start + 1, start + count + 1):
        ring.append(entry(sequence))
    return ring


def sequences(ring: Ring, after: int, count: int = 100) -> list[int]:
    return [found.sequence for found in ring.after(after, count)]


@given(st.integers(0, 1000), st.integers(0, 30), st.integers(1, 10))
def test_the_newest_are_kept_and_each_place_from_base_to_head_has_its_mark(
    start: int, count: int, events: int
) -> None:
    ring = ring_of(count, events=events, start=start)
    kept = min(count, events)
    assert ring.head.sequence == start + count
    assert ring.base.sequence == start + count - kept
    for place in range(ring.base.sequence, ring.head.sequence + 1):
        assert ring.covers(place)
        assert ring.mark(place).cursor == f"cursor-{place}"
        assert sequences(ring, place) == list(range(place + 1, ring.head.sequence + 1))
        assert sequences(ring, place, 2) == list(range(place + 1, ring.head.sequence + 1))[:2]
    assert not ring.covers(ring.base.sequence - 1)
    assert not ring.covers(ring.head.sequence + 1)


def test_it_is_bounded_by_size() -> None:
    ring = Ring(Mark(0, "", None), events=100, size_bytes=10_000)
    for sequence in range(1, 51):
        ring.append(entry(sequence, size=1_500))
    assert sequences(ring, ring.base.sequence) == [46, 47, 48, 49, 50]


def test_an_entry_that_is_too_large_is_not_kept_and_the_next_one_is() -> None:
    ring = Ring(Mark(0, "", None), events=100, size_bytes=10_000)
    ring.append(entry(1))
    ring.append(entry(2, size=20_000))
    assert ring.base.sequence == ring.head.sequence == 2
    assert not isinstance(ring.head, Entry)
    ring.append(entry(3))
    assert sequences(ring, 2) == [3]


def test_places_that_were_left_keep_no_data() -> None:
    ring = ring_of(5, events=2)
    assert not isinstance(ring.base, Entry)


def test_starting_anew_forgets_everything_and_says_so() -> None:
    ring = ring_of(5)
    epoch = ring.epoch
    ring.start(Mark(2, "cursor-2", None))
    assert ring.epoch != epoch
    assert ring.base == ring.head == Mark(2, "cursor-2", None)
    ring.append(entry(3))
    assert sequences(ring, 2) == [3]
