"""Break the core on purpose, and see every breakage caught.

First the patches of `patches/`, each by the test that it names and by no accident; then mutation
testing of a few modules. Exit code 1 when a mutant of a patch survives, when a patch no longer
applies, when a named test fails on the unbroken code, and when too many small changes survive;
128 and the signal's number when one ended the run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import postgres_server
from mutants import mutation
from mutants.broken import Breakage, breakages
from mutants.caught import Verdict, judge, unbroken


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument(
        "--only", default="", help="patches and modules whose names hold this; or a module's path"
    )
    parser.add_argument("--workers", type=int, default=2, help="how many at once")
    arguments = parser.parse_args()
    workers = max(1, arguments.workers)
    only = dotted(arguments.only)
    wanted = [one for one in breakages() if only in one.name]
    modules = [module for module in mutation.TARGETS if only in module]
    if not wanted and not modules:
        names = "\n  ".join([*(one.name for one in breakages()), *mutation.TARGETS])
        parser.error(f"no patch and no module is called {arguments.only}; there are\n  {names}")
    done: list[str] = []
    try:
        say(f"{len(wanted)} patches and {len(modules)} modules")
        patches_hold = not wanted or judged(wanted, workers, done)
        return 0 if scored(modules, workers, done) and patches_hold else 1
    except KeyboardInterrupt as ended:
        for pid in children():  # of mutation, which clean up nothing
            os.kill(pid, signal.SIGKILL)
        of = len(wanted) + len(modules)
        say(f"interrupted after {len(done)} of {of} patches and modules")
        return 128 + (ended.args[0] if ended.args else signal.SIGINT)


def dotted(name: str) -> str:
    """A module's name, of its path as docs/mutants.md tells it; another name as it is."""
    if not name.endswith(".py"):
        return name
    return name.removesuffix(".py").removeprefix("service/").replace("/", ".")


def children() -> list[int]:
    """Our child processes, but for a database, which goes when we have gone."""
    files = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    return [pid for pid in pids if os.getsid(pid) == os.getsid(0)]


def end(number: int, _: object) -> None:
    """SIGTERM ends a run as Ctrl-C does, which a terminal tells the tests that run, too."""
    if number == signal.SIGTERM:
        for pid in children():
            os.kill(pid, signal.SIGINT)
    raise KeyboardInterrupt(number)


def judged(wanted: Sequence[Breakage], workers: int, done: list[str]) -> bool:
    """Whether every patch of ``wanted`` is caught; says by which test."""
    began = time.monotonic()
    server = postgres_server.start(postgres_server.choose(os.environ), os.environ)
    try:
        url = server.url.render_as_string(hide_password=False)
        faults = broken(wanted, {**os.environ, "TEST_DATABASE_URL": url}, workers, done)
    finally:
        server.stop()
    say(f"{len(wanted) - faults} of {len(wanted)} breakages caught, {seconds_since(began)}")
    return not faults


def scored(modules: Sequence[str], workers: int, done: list[str]) -> bool:
    """Whether enough of the small changes of each module are killed; says how many."""
    scores = []
    for module in modules:
        scores.append(mutation.score(module, workers, say))
        done.append(module)
    ends = list(mutation.End)
    for score in scores:
        counts = ", ".join(f"{score.ends[end]} {end}" for end in ends if score.ends[end])
        say(f"{score.killed:.1%} killed: {score.module} ({counts}), {score.seconds:.0f} s")
        for diff in score.stale:
            say(f"no such survivor any more, take it off the list of equivalent ones:\n{diff}")
    return all(score.killed >= mutation.LEAST_KILLED and not score.stale for score in scores)


def broken(
    wanted: Sequence[Breakage], environ: Mapping[str, str], workers: int, done: list[str]
) -> int:
    """Judge ``wanted``, and say what became of each; how many do not count as caught."""
    began = time.monotonic()
    faults = unbroken(wanted, environ, workers)
    for fault in faults:
        say(fault)
    if faults:
        return len(wanted)
    say(f"unbroken: every named test passes, {seconds_since(began)}")
    pool = ThreadPoolExecutor(workers)
    try:
        verdicts = []
        for verdict in pool.map(lambda one: judge(one, environ), wanted):
            tell(verdict)
            verdicts.append(verdict)
            done.append(verdict.breakage.name)
    finally:
        pool.shutdown(cancel_futures=True)
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
    # Both, for a shell lets what it starts in the background ignore Ctrl-C.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, end)
    sys.exit(main())
