"""`make chaos`: real processes under attack. `python -m chaos --help` tells more."""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

import uvloop

from chaos import report
from chaos.campaign import all_faults, run, schedule


def main() -> int:
    """Run, print the table; 0 when everything held and every fault was real."""
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
    seed = Random().getrandbits(32) if wish.seed is None else wish.seed
    chosen = [
        fault for fault in all_faults() if re.search(wish.only, f"{fault.group}: {fault.name}")
    ]
    if not chosen:
        groups = ", ".join(sorted({fault.group for fault in all_faults()}))
        parser.error(f"no fault is called {wish.only!r}; their groups are: {groups}")
    if wish.faults < 1:
        parser.error("--faults must be at least 1")
    faults = schedule(chosen, wish.faults, Random(seed))
    say(f"{len(faults)} faults of {len(chosen)} kinds, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="antom-payments-chaos-") as folder:
        outcome = uvloop.run(
            run(Path(folder), faults=faults, seed=seed, per_second=wish.per_second, say=say)
        )
        if wish.logs:
            wish.logs.mkdir(parents=True, exist_ok=True)
            for log in Path(folder).glob("*.log"):
                shutil.copy(log, wish.logs)
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
    sys.exit(main())
