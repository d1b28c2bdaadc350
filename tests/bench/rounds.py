"""Figures of a measurement: two sides in turns, their medians, and the ratio of each round."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one side did in one round."""

    value: float
    """In the line's unit."""
    cpu_us: float | None = None
    """CPU time of the server process for one operation, in microseconds; None is not measured."""

    @classmethod
    def rate(cls, operations: int, seconds: float, cpu_seconds: float) -> Sample:
        """So many operations took so long."""
        return cls(operations / seconds, cpu_seconds / operations * 1e6)


Turn = Callable[[], Awaitable[Sample]]
"""One side's part of a round."""


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Line:
    """One comparison. Its ratio says how many times better ours is, in whatever unit."""

    key: str
    title: str
    unit: str
    ours: str
    """What ours is, in words."""
    peer: str
    less_is_better: bool = False
    floor: float | None = None
    """Least median of the ratio; None is not judged."""
    samples: list[tuple[Sample, Sample]] = field(default_factory=list)
    """Ours and the peer's, of each round."""
    more: dict[str, float] = field(default_factory=dict)
    """Further figures, by name."""

    @property
    def ratio(self) -> Spread:
        """Of each round, so that a slow minute slows both of its sides."""
        return Spread.of(
            [
                peer.value / ours.value if self.less_is_better else ours.value / peer.value
                for ours, peer in self.samples
            ]
        )

    @property
    def is_reached(self) -> bool:
        """Whether the median is at the floor."""
        return self.floor is None or self.ratio.median >= self.floor

    def to_json(self) -> dict[str, Any]:
        """As the results' file keeps it."""
        sides = {"ours": [pair[0] for pair in self.samples], "peer": [p[1] for p in self.samples]}
        told: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("key", "title", "unit", "less_is_better", "floor", "more")
        }
        for side, samples in sides.items():
            cpu = [sample.cpu_us for sample in samples if sample.cpu_us is not None]
            told[side] = {
                "is": getattr(self, side),
                "value": _rounded(Spread.of([sample.value for sample in samples])),
                "cpu_us": _significant(statistics.median(cpu)) if cpu else None,
            }
        return told | {"ratio": _rounded(self.ratio), "reached": self.is_reached}


async def interleave(line: Line, rounds: int, ours: Turn, peer: Turn) -> Line:
    """Play so many rounds; each other one begins with the peer, so that neither always follows."""
    for number in range(rounds):
        if number % 2:
            theirs = await peer()
            line.samples.append((await ours(), theirs))
        else:
            mine = await ours()
            line.samples.append((mine, await peer()))
    return line


def _rounded(spread: Spread) -> dict[str, float]:
    return {
        "median": _significant(spread.median),
        "min": _significant(spread.least),
        "max": _significant(spread.greatest),
    }


def _significant(value: float) -> float:
    """Three significant digits: more would be noise."""
    return float(f"{value:.3g}")
