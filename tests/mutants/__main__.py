"""Break the core on purpose, and see every breakage caught.

First the patches of `patches/`, each by the test that it names and by no accident; then mutation
testing of a few modules. Exit code 1 when a mutant of a patch survives, when a patch no longer
applies, when a named test fails on the unbroken code, and when too many small changes survive.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import postgres_server
from mutants import mutation
from mutants.broken import Breakage, breakages
from mutants.caught import Verdict, judge, unbroken


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="patches and modules whose names hold this")
    parser.add_argument("--workers", type=int, default=2, help="how many at once")
    arguments = parser.parse_args()
    workers = max(1, arguments.workers)
    wanted = [one for one in breakages() if arguments.only in one.name]
    modules = [module for module in mutation.TARGETS if arguments.only in module]
    if not wanted and not modules:
        parser.error(f"no patch and no module is called {arguments.only}")
    patches_hold = not wanted or judged(wanted, workers)
    return 0 if scored(modules, workers) and patches_hold else 1


def judged(wanted: Sequence[Breakage], workers: int) -> bool:
    """Whether every patch of ``wanted`` is caught; says by which test."""
    began = time.monotonic()
    server = postgres_server.start(postgres_server.choose(os.environ), os.environ)
    try:
        url = server.url.render_as_string(hide_password=False)
        faults = broken(wanted, {**os.environ, "TEST_DATABASE_URL": url}, workers)
    finally:
        server.stop()
    say(f"{len(wanted) - faults} of {len(wanted)} breakages caught, {seconds_since(began)}")
    return not faults


def scored(modules: Sequence[str], workers: int) -> bool:
    """Whether enough of the small changes of each module are killed; says how many."""
    scores = [mutation.score(module, workers, say) for module in modules]
    ends = list(mutation.End)
    for score in scores:
        counts = ", ".join(f"{score.ends[end]} {end}" for end in ends if score.ends[end])
        say(f"{score.killed:.1%} killed: {score.module} ({counts}), {score.seconds:.0f} s")
        for diff in score.stale:
            say(f"no such survivor any more, take it off the list of equivalent ones:\n{diff}")
    return all(score.killed >= mutation.LEAST_KILLED and not score.stale for score in scores)


def broken(wanted: Sequence[Breakage], environ: Mapping[str, str], workers: int) -> int:
    """Judge ``wanted``, and say what became of each; how many do not count as caught."""
    began = time.monotonic()
    faults = unbroken(wanted, environ, workers)
    for fault in faults:
        say(fault)
    if faults:
        return len(wanted)
    say(f"unbroken: every named test passes, {seconds_since(began)}")
    with ThreadPoolExecutor(workers) as pool:
        verdicts = []
        for verdict in pool.map(lambda one: judge(one, environ), wanted):
            tell(verdict)
            verdicts.append(verdict)
    return sum(bool(verdict.faults) for verdict in verdicts)


def tell(verdict: Verdict) -> None:
    """One mutant: what it breaks, and who caught it."""
    breakage = verdict.breakage
    say(f"{'NOT CAUGHT' if verdict.faults else 'caught':<10} {breakage.name}: {breakage.breaks}")
    for line in verdict.faults or [f"by {test}" for test in breakage.tests]:
        say(f"{'':<11}{line}")
    say(f"{'':<11}{verdict.seconds:.1f} s")


def seconds_since(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


def say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    sys.exit(main())
