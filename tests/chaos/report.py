"""A run's outcome, for people, for machines and for the documentation."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

from chaos.campaign import Outcome, table

_HEAD = ("fault", "how often", "what held", "went on after, median s", "longest, s")
_BEGIN, _END = "<!-- the last run -->", "<!-- its end -->"
_SHOWN = 40
"""Violations of each kind that are printed; the JSON holds all."""


def as_text(outcome: Outcome) -> str:
    """The table, the figures, and whatever did not hold."""
    rows = [_HEAD, *table(outcome)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEAD))]
    lines = ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows), ""]
    lines += [f"{name}: {_told(value)}" for name, value in outcome.figures.items()]
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


def as_page(outcome: Outcome, page: str) -> str:
    """The documentation's page, with this run in place of the last one."""
    rows = "\n".join(f"| {' | '.join(row)} |" for row in (_HEAD, ("---",) * 5, *table(outcome)))
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    figures = "\n".join(f"- {name}: {_told(value)}" for name, value in outcome.figures.items())
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    told = f"Made by `make chaos DOCS=1` on {when}, on {machine}.\n\n**{_summary(outcome)}.**"
    return f"{before}{_BEGIN}\n\n{told}\n\n{rows}\n\n{figures}\n\n{_END}{after}"


def _told(value: object) -> str:
    """A figure, or several by their names."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {one}" for name, one in value.items()) or "none"


def _summary(outcome: Outcome) -> str:
    return (
        f"{outcome.injected} faults, {len(outcome.all_violations)} violations, "
        f"{len(outcome.not_injected)} not injected, seed {outcome.seed}"
    )
