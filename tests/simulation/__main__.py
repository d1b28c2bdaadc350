"""`make simulate SEEDS=2000`: run seeds, count what happened, tell each violation's story."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from simulation.run import run
from simulation.story import Story, keep
from simulation.summary import summary
from simulation.workers import outcomes

_REGRESSIONS = Path(__file__).parent / "regressions"
_MOST_STORIES = 5
_TELL_SECONDS = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; 1 when a rule was broken."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--history", action="store_true", help="print all that happened")
    wanted = parser.parse_args(arguments)
    if wanted.seeds < 1:
        parser.error("--seeds must be at least 1")
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    if wanted.history:
        return _print_histories(seeds)
    return _run_all(seeds, wanted.workers)


def _run_all(seeds: range, workers: int) -> int:
    began = told_at = time.monotonic()
    counts: Counter[str] = Counter()
    violations = done = 0
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        for told in outcomes(seeds, workers, Path(folder)):
            done += 1
            counts += told.counts
            if told.story is not None:
                violations += 1
                _tell(told.story, is_kept=violations <= _MOST_STORIES)
            if time.monotonic() - told_at > _TELL_SECONDS:
                told_at = time.monotonic()
                rate = done / (told_at - began)
                print(f"{done} of {len(seeds)} seeds, {rate:.1f}/s, {violations} violations")
                sys.stdout.flush()
    for line in summary(counts):
        print(line)
    seconds = time.monotonic() - began
    print(f"{done} seeds in {seconds:.0f} s: {violations} violations")
    return 1 if violations else 0


def _tell(story: Story, *, is_kept: bool) -> None:
    print(story)
    if is_kept:
        file = keep(story, str(story.shortest.violations[0]), _REGRESSIONS)
        print(f"kept in {file}: commit it with the mend")
    sys.stdout.flush()


def _print_histories(seeds: range) -> int:
    violations = 0
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        for seed in seeds:
            outcome = run(seed, Path(folder))
            print(f"seed {seed}, history {outcome.hash}")
            for line in (*map(str, outcome.plan), "", *outcome.lines):
                print(line)
            violations += len(outcome.violations)
    return 1 if violations else 0


def _memory() -> str | None:
    """Where files are in memory: what a power cut does is not simulated."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of its own below it


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # At once: what was killed would be collected at the end of the process, and complain.
    os._exit(code)
