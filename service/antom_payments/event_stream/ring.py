"""The newest entries, in memory, shared by all subscribers of the process."""

from __future__ import annotations

from collections.abc import Iterator

from antom_payments.event_stream.entry import Entry, Mark

_ENTRY_BYTES = 500
"""What an entry takes beside its data: object, cursor, ids (measured, CPython 3.11)."""


class Ring:
    """A stretch of the log without holes, from `base` (exclusive) to `head` (inclusive).

    Holds at most ``events`` entries and about ``size_bytes`` of memory: the oldest give way. An
    entry larger than that is not kept; readers find it in the database.
    """

    def __init__(self, base: Mark, *, events: int, size_bytes: int) -> None:
        self.base = base
        """The oldest place that reading can start from."""
        self.head = base
        """The newest place; everything up to it was read from the log."""
        self.epoch = 0
        """Changes when the ring starts anew: what was known of the log is void then."""
        self._entries: dict[int, Entry] = {}
        self._events_limit = events
        self._size_limit = size_bytes
        self._size = 0

    def start(self, base: Mark) -> None:
        """Forget everything and go on after ``base``."""
        self._entries.clear()
        self._size = 0
        self.base = self.head = base
        self.epoch += 1

    def append(self, entry: Entry) -> None:
        """Add the entry that follows `head`."""
        self._entries[entry.sequence] = entry
        self._size += _size_of(entry)
        self.head = entry
        while len(self._entries) > self._events_limit or self._size > self._size_limit:
            self._drop_oldest()

    def covers(self, sequence: int) -> bool:
        """Whether reading can start after ``sequence``."""
        return self.base.sequence <= sequence <= self.head.sequence

    def mark(self, sequence: int) -> Mark:
        """The place at ``sequence``, which must be covered."""
        return self.base if sequence == self.base.sequence else self._entries[sequence]

    def after(self, sequence: int, count: int) -> Iterator[Entry]:
        """The entries after ``sequence``, which must be covered; at most ``count``."""
        end = min(sequence + count, self.head.sequence)
        return map(self._entries.__getitem__, range(sequence + 1, end + 1))

    def _drop_oldest(self) -> None:
        oldest = self._entries.pop(self.base.sequence + 1)
        self._size -= _size_of(oldest)
        # Only the place stays: keeping the entry would keep its data.
        self.base = oldest.place()
        if not self._entries:
            self.head = self.base


def _size_of(entry: Entry) -> int:
    return len(entry.data) + _ENTRY_BYTES
