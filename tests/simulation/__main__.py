"""`make simulate SEEDS=2000`: run seeds, count what happened, tell each violation's story."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simulation.run import run
from simulation.story import Story, keep
from simulation.summary import summary
from simulation.workers import Told, outcomes

_REGRESSIONS = Path(__file__).parent / "regressions"
_MOST_STORIES = 5
_TELL_SECONDS = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; 1 when a rule was broken, 128 and its number when a signal ended it."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--history", action="store_true", help="print all that happened")
    wanted = parser.parse_args(arguments)
    if wanted.seeds < 1:
        parser.error("--seeds must be at least 1")
    if wanted.first < 0:
        parser.error("--first must be at least 0")
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    if wanted.history:
        return _print_histories(seeds)
    return _run_all(seeds, max(1, wanted.workers))


def _run_all(seeds: range, workers: int) -> int:
    began = time.monotonic()
    tally = Tally()
    try:
        _say(f"seeds {_named(seeds)}")
        with _folder() as folder, closing(outcomes(seeds, workers, folder)) as all_told:
            _count(all_told, tally, seeds)
    except KeyboardInterrupt as ended:
        _say(f"interrupted after {tally.done} of {len(seeds)} seeds: {tally.violations} violations")
        return _code(ended)
    for line in summary(tally.counts):
        _say(line)
    seconds = time.monotonic() - began
    told = f"{tally.done} seeds in {seconds:.0f} s: {tally.violations} violations"
    _say(f"{told} ({_named(seeds)})")
    return 1 if tally.violations else 0


@dataclass
class Tally:
    """What came of the seeds so far."""

    done: int = 0
    violations: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def _count(all_told: Iterable[Told], tally: Tally, seeds: range) -> None:
    began = told_at = time.monotonic()
    for told in all_told:
        tally.done += 1
        tally.counts += told.counts
        if told.story is not None:
            tally.violations += 1
            _tell(told.story, is_kept=tally.violations <= _MOST_STORIES)
        if time.monotonic() - told_at > _TELL_SECONDS:
            told_at = time.monotonic()
            rate = tally.done / (told_at - began)
            _say(f"{tally.done} of {len(seeds)} seeds, {rate:.1f}/s, {tally.violations} violations")


def _tell(story: Story, *, is_kept: bool) -> None:
    _say(str(story))
    if is_kept:
        file = keep(story, str(story.shortest.violations[0]), _REGRESSIONS)
        _say(f"kept in {file}: commit it with the mend")


def _print_histories(seeds: range) -> int:
    violations = 0
    try:
        with _folder() as folder:
            for seed in seeds:
                outcome = run(seed, folder)
                _say(f"seed {seed}, history {outcome.hash}")
                for line in (*map(str, outcome.plan), "", *outcome.lines):
                    _say(line)
                violations += len(outcome.violations)
    except KeyboardInterrupt as ended:
        _say(f"interrupted: {violations} violations in the seeds that ended")
        return _code(ended)
    return 1 if violations else 0


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory unless TMPDIR names another: what a power cut does is not simulated."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own below it
    place = memory if memory.is_dir() and "TMPDIR" not in os.environ else None
    with tempfile.TemporaryDirectory(prefix="antom-payments-simulation-", dir=place) as folder:
        yield Path(folder)


def _named(seeds: range) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def _say(words: str) -> None:
    print(words, flush=True)


def _code(ended: KeyboardInterrupt) -> int:
    """As shells tell that a signal ended a process."""
    return 128 + (ended.args[0] if ended.args else signal.SIGINT)


def _end(number: int, _: object) -> None:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    # Both, for a shell lets what it starts in the background ignore Ctrl-C.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _end)
    code = main()
    sys.stdout.flush()
    # At once: what was killed would be collected at the end of the process, and complain.
    os._exit(code)
