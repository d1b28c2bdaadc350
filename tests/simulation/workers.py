"""Processes that run seeds, each with a folder of its own."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections import Counter
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from simulation.run import run
from simulation.story import Story, shortened

_STORY_SECONDS = 60.0
_SEEDS_OF_A_POOL = 1000
"""Then its processes are new: what is killed in a run stays in their memory, to be quiet."""
_FOR_US = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C reaches every process of a terminal: a worker would take it for its seed's failure."""


@dataclass(frozen=True)
class Told:
    """What a worker tells of a seed."""

    seed: int
    hash: str
    counts: Counter[str]
    story: Story | None = None


def outcomes(seeds: range, workers: int, folder: Path) -> Generator[Told]:
    """Run ``seeds`` in so many processes; as they end.

    Whoever listens no more closes it, and the processes end at once.
    """
    context = multiprocessing.get_context("spawn")
    for first in range(0, len(seeds), _SEEDS_OF_A_POOL):
        part = seeds[first : first + _SEEDS_OF_A_POOL]
        pool = ProcessPoolExecutor(workers, context, _begin, (folder,))
        try:
            for future in as_completed(_submitted(pool, part)):
                yield future.result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, seeds: range) -> list[Future[Told]]:
    """All of ``seeds``; in the processes what is for us to hear is blocked from their start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_US)
    try:
        return [pool.submit(_one, seed) for seed in seeds]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(folder: Path) -> None:
    for number in _FOR_US:
        signal.signal(number, signal.SIG_IGN)
    global _folder  # noqa: PLW0603 - a worker's own
    _folder = Path(tempfile.mkdtemp(dir=folder))


_folder = Path()


def _one(seed: int) -> Told:
    outcome = run(seed, _folder)
    story = None
    if outcome.violations:
        story = shortened(outcome, _folder, seconds=_STORY_SECONDS)
    return Told(seed, outcome.hash, outcome.counts, story)
