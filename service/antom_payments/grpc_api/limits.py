"""Own admission control, per class of call: streams, streams of one peer, unary calls.

`maximum_concurrent_rpcs` of gRPC counts streams, unary calls and health probes together, so that
subscriptions would starve the probes and get the pod restarted under load (ops M12).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from antom_payments import telemetry
from antom_payments.errors import LimitReached

_active = telemetry.meter.create_up_down_counter(
    "antom_payments.grpc.calls", unit="{call}", description="Calls under way, by class."
)
_refused = telemetry.meter.create_counter(
    "antom_payments.grpc.refused", unit="{call}", description="Calls refused, by limit."
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
        self._count("unary", 1)
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
        self._count("stream", 1)
        return Slot(lambda: self._leave_stream(address))

    async def idle(self) -> None:
        """Return when no call is under way."""
        await self._idle.wait()

    def _leave_unary(self) -> None:
        self.unary -= 1
        self._count("unary", -1)

    def _leave_stream(self, address: str) -> None:
        self.streams -= 1
        self._streams_of[address] -= 1
        if not self._streams_of[address]:
            del self._streams_of[address]
        self._count("stream", -1)

    def _count(self, kind: str, change: int) -> None:
        _active.add(change, {"class": kind})
        if self.streams or self.unary:
            self._idle.clear()
        else:
            self._idle.set()


def address_of(peer: str) -> str:
    """The peer's address without its port: "ipv4:10.0.0.7:41234" is "ipv4:10.0.0.7"."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def _refusal(limit: str) -> LimitReached:
    _refused.add(1, {"limit": limit})
    return LimitReached(limit)
