"""Processes that run seeds, each with a folder of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from simulation.run import run
from simulation.story import Story, shortened

_STORY_SECONDS = 60.0
_SEEDS_OF_A_POOL = 1000
"""Then its processes are new: what is killed in a run stays in their memory, to be quiet."""


@dataclass(frozen=True)
class Told:
    """What a worker tells of a seed."""

    seed: int
    hash: str
    counts: Counter[str]
    story: Story | None = None


def outcomes(seeds: range, workers: int, folder: Path) -> Iterator[Told]:
    """Run ``seeds`` in so many processes; as they end."""
    context = multiprocessing.get_context("spawn")
    for first in range(0, len(seeds), _SEEDS_OF_A_POOL):
        part = seeds[first : first + _SEEDS_OF_A_POOL]
        with ProcessPoolExecutor(workers, context, _begin, (folder,)) as pool:
            for future in as_completed([pool.submit(_one, seed) for seed in part]):
                yield future.result()


def _begin(folder: Path) -> None:
    global _folder  # noqa: PLW0603 - a worker's own
    _folder = Path(tempfile.mkdtemp(dir=folder))


_folder = Path()


def _one(seed: int) -> Told:
    outcome = run(seed, _folder)
    story = None
    if outcome.violations:
        story = shortened(outcome, _folder, seconds=_STORY_SECONDS)
    return Told(seed, outcome.hash, outcome.counts, story)
