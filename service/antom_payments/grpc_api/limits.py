"""Own admission control, per class of call: streams, streams of one peer, unary calls.

`maximum_concurrent_rpcs` of gRPC counts streams, unary calls and health probes together, so that
subscriptions would starve the probes and get the pod restarted under load (ops M12).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from antom_payments import instruments
from antom_payments.errors import LimitReached
from antom_payments.instruments import Reading

_active = instruments.observed_gauge(
    "antom_payments.grpc.calls",
    "{call}",
    "Calls under way, by class.",
    labels={"class": ("unary", "stream")},
    alert="CallsNearLimit",
)
_refused = instruments.counter(
    "antom_payments.grpc.refused",
    "{call}",
    "Calls refused at once, by the limit that was reached.",
    labels={"limit": ("unary_in_flight", "streams", "streams_per_peer")},
    alert="CallsRefused",
)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How many calls may be under way at once."""

    streams: int = 2_000
    streams_per_peer: int = 50
    """Of one address: everything behind one proxy or mesh sidecar counts as one peer."""
    unary: int = 256


class Slot:
    """A place among the calls under way."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def release(self) -> None:
        """Give the place back; harmless when repeated."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Admission:
    """Counts the calls under way, and refuses those beyond the limits.

    A call keeps its slot until it is really gone: also when its handler was let go because the peer
    does not read.
    """

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._streams_of: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self.streams = 0
        """Streams under way."""
        self.unary = 0
        """Unary calls under way."""

    def enter_unary(self) -> Slot:
        """Take a slot of a unary call; raises LimitReached."""
        if self.unary >= self._limits.unary:
            raise _refusal("unary_in_flight")
        self.unary += 1
        self._idle.clear()
        return Slot(self._leave_unary)

    def enter_stream(self, peer: str) -> Slot:
        """Take a slot of a stream; ``peer`` is gRPC's text. Raises LimitReached."""
        address = address_of(peer)
        if self.streams >= self._limits.streams:
            raise _refusal("streams")
        if self._streams_of[address] >= self._limits.streams_per_peer:
            raise _refusal("streams_per_peer")
        self.streams += 1
        self._streams_of[address] += 1
        self._idle.clear()
        return Slot(lambda: self._leave_stream(address))

    def measured(self) -> AbstractContextManager[None]:
        """Let the metrics tell of the calls under way, while the block runs."""
        return _active.read_from(self._read)

    async def idle(self) -> None:
        """Return when no call is under way."""
        await self._idle.wait()

    def _leave_unary(self) -> None:
        self.unary -= 1
        self._note_idle()

    def _leave_stream(self, address: str) -> None:
        self.streams -= 1
        self._streams_of[address] -= 1
        if not self._streams_of[address]:
            del self._streams_of[address]
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.streams and not self.unary:
            self._idle.set()

    def _read(self) -> Iterable[Reading]:
        yield self.unary, {"class": "unary"}
        yield self.streams, {"class": "stream"}


def address_of(peer: str) -> str:
    """The peer's address without its port: "ipv4:10.0.0.7:41234" is "ipv4:10.0.0.7"."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def _refusal(limit: str) -> LimitReached:
    _refused.add(1, {"limit": limit})
    return LimitReached(limit)
