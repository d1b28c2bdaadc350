"""`make chaos`: real processes under attack. `python -m chaos --help` tells more."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from signal import SIGINT, SIGTERM

import uvloop

from chaos import report
from chaos.campaign import Outcome, all_faults, run, schedule
from chaos.scene import Fault


def main() -> int:
    """Run, print the table; 0 when everything held and every fault was real.

    What a signal ends has the exit code 128 and its number.
    """
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=300, help="how many")
    parser.add_argument("--seed", type=int, help="repeats the choice of an earlier run")
    parser.add_argument("--only", default="", help="only faults whose names this expression finds")
    parser.add_argument("--per-second", type=float, default=15.0, help="new payments")
    parser.add_argument("--logs", type=Path, help="where the processes' logs are kept")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--docs", type=Path, help="the page to write the table to")
    wish = parser.parse_args()
    # That streams are cut and go on is what happens here all the time.
    logging.getLogger("antom_payments.client").setLevel(logging.ERROR)
    chosen = _chosen(parser, wish)
    forget_last(wish)
    seed = Random().getrandbits(32) if wish.seed is None else wish.seed
    faults = schedule(chosen, wish.faults, Random(seed))
    progress = Progress(len(faults), seed)
    try:
        say(f"{len(faults)} faults of {len(chosen)} kinds, seed {seed}")
        return _told(wish, _run(wish, faults, seed, progress))
    except (KeyboardInterrupt, asyncio.CancelledError) as stopped:
        say(f"interrupted after {progress}")
        return 128 + (SIGINT if isinstance(stopped, KeyboardInterrupt) else SIGTERM)


def _chosen(parser: argparse.ArgumentParser, wish: argparse.Namespace) -> list[Fault]:
    """The faults that were wished for; ends the program when the wish makes no sense."""
    if wish.faults < 1:
        parser.error("--faults must be at least 1")
    if not 0 < wish.per_second < math.inf:
        parser.error("--per-second must be a number above 0")
    try:
        only = re.compile(wish.only)
    except re.error as error:
        parser.error(f"--only {wish.only!r} is no expression: {error}")
    chosen = [fault for fault in all_faults() if only.search(f"{fault.group}: {fault.name}")]
    if not chosen:
        groups = ", ".join(sorted({fault.group for fault in all_faults()}))
        parser.error(f"no fault is called {wish.only!r}; their groups are: {groups}")
    return chosen


def forget_last(wish: argparse.Namespace) -> None:
    """Remove what the run before kept: nobody shall take it for this one's."""
    if wish.json:
        wish.json.unlink(missing_ok=True)
    if wish.logs:
        for log in wish.logs.glob("*.log"):
            log.unlink()


@dataclass
class Progress:
    """How far a run is, by what it says of its faults."""

    faults: int
    seed: int
    done: int = 0
    violations: int = 0
    not_injected: int = 0

    def say(self, text: str) -> None:
        if re.match(r" *\d+ ", text):
            self.done += 1
            if ": not injected: " in text:
                self.not_injected += 1
            elif ": held; " not in text:
                self.violations += 1
        say(text)

    def __str__(self) -> str:
        return (
            f"{self.done} of {self.faults} faults, {self.violations} violations, "
            f"{self.not_injected} not injected, seed {self.seed}"
        )


def _run(
    wish: argparse.Namespace, faults: Sequence[Fault], seed: int, progress: Progress
) -> Outcome:
    """The run, whose logs are kept however it ends. Raises CancelledError at SIGTERM."""

    async def until_told() -> Outcome:
        this = asyncio.current_task()
        assert this
        asyncio.get_running_loop().add_signal_handler(SIGTERM, this.cancel)
        return await run(
            Path(folder), faults=faults, seed=seed, per_second=wish.per_second, say=progress.say
        )

    with tempfile.TemporaryDirectory(prefix="antom-payments-chaos-") as folder:
        try:
            return uvloop.run(until_told())
        finally:
            if wish.logs:
                wish.logs.mkdir(parents=True, exist_ok=True)
                for log in Path(folder).glob("*.log"):
                    shutil.copy(log, wish.logs)


def _told(wish: argparse.Namespace, outcome: Outcome) -> int:
    """Tell a run's outcome wherever it was wished for; the exit code."""
    say(report.as_text(outcome))
    if wish.json:
        wish.json.write_text(json.dumps(report.as_json(outcome), indent=2) + "\n")
    if wish.docs:
        wish.docs.write_text(report.as_page(outcome, wish.docs.read_text()))
    return 1 if outcome.all_violations or outcome.not_injected else 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # A shell lets what it starts in the background ignore it.
    signal.signal(SIGINT, signal.default_int_handler)
    sys.exit(main())
