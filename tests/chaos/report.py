"""A run's outcome, for people, for machines and for the documentation."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

from chaos.campaign import Outcome, table

_HEAD = ("fault", "how often", "what held", "went on after, median s", "longest, s")
_SHOWN = 40
"""Violations of each kind that are printed; the JSON holds all."""


def as_text(outcome: Outcome) -> str:
    """The table, the figures, and whatever did not hold."""
    rows = [_HEAD, *table(outcome)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEAD))]
    lines = ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows), ""]
    lines += [f"{name}: {value}" for name, value in outcome.figures.items()]
    lines += [f"NOT INJECTED {why}" for why in outcome.not_injected[:_SHOWN]]
    lines += [f"VIOLATION {what}" for what in outcome.all_violations[:_SHOWN]]
    return "\n".join([*lines, _summary(outcome)])


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "seed": outcome.seed,
        "faults": outcome.injected,
        "violations": outcome.all_violations,
        "not_injected": outcome.not_injected,
        "recovery_seconds": {n: t.recoveries for n, t in sorted(outcome.tallies.items())},
        "figures": outcome.figures,
    }


def as_page(outcome: Outcome) -> str:
    """The last table, for docs/chaos.md."""
    rows = "\n".join(f"| {' | '.join(row)} |" for row in (_HEAD, ("---",) * 5, *table(outcome)))
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    figures = "\n".join(f"- {name}: {value}" for name, value in outcome.figures.items())
    return _PAGE.format(
        when=when, machine=machine, summary=_summary(outcome), rows=rows, figures=figures
    )


def _summary(outcome: Outcome) -> str:
    return (
        f"{outcome.injected} faults, {len(outcome.all_violations)} violations, "
        f"{len(outcome.not_injected)} not injected, seed {outcome.seed}"
    )


_PAGE = """\
# What real processes were put through

`make chaos` starts PostgreSQL with fsync on, two servers, two sidecars and a local Antom, each a process, with a TCP proxy on every way between them.
Callers create and read payments, buyers pay, fail and leave, and subscribers follow with stored cursors, all the time.
Then things go wrong, one after the other, in an order that a seed decides; each time a new payment must go all its way within 45 seconds of the mending.
At the end the database, Antom's books, everything that was acknowledged and everything that each subscriber got are compared: `tests/invariants.py` says what must hold, I1 to I9.
It ends with exit code 1 when anything does not hold, and when a fault was not really injected.
`FAULTS=n`, `SEED=n` and `ONLY='^network'` choose; about 2.4 seconds a fault on two idle cores.

## The last run

Made by `make chaos DOCS=1` on {when}, on {machine}.

**{summary}.**

{rows}

{figures}

## What it does not show

- A power cut: processes and PostgreSQL die by kill -9 and SIGQUIT, but the operating system lives, and with it what it had not written to the disk.
- A full disk below PostgreSQL's tables: without the right to mount one, only the write-ahead log meets an end, which PostgreSQL answers with a crash and a recovery.
- Keys and certificates exchanged in a process at work: processes read them at their start, so that a rotation is a restart; Antom's next key is accepted beside the present one, and that is shown.
- PostgreSQL's own clock, a leap second, and more than one machine.
- Two merchants: a process has one.
"""
