"""The shortest story of a violation: steps are left out while it still happens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simulation.plan import Plan, Step
from simulation.run import Outcome, run

_CONTEXT = 25
"""Lines of history before a violation that a story shows."""


@dataclass(frozen=True)
class Story:
    """A run that breaks a rule, and what is left of it when all else is left out."""

    first: Outcome
    shortest: Outcome

    def __str__(self) -> str:
        short = self.shortest
        lines = [f"seed {short.seed} violates:"]
        lines += [f"  {violation}" for violation in short.violations[:5]]
        lines.append(f"with {len(short.plan)} of its {len(self.first.plan)} steps:")
        lines += [f"  {step}" for step in short.plan]
        lines.append("what happened up to it:")
        lines += [f"  {line}" for line in _up_to_violation(short.lines)]
        return "\n".join(lines)


def shortened(
    outcome: Outcome,
    folder: Path,
    *,
    seconds: float,
    run_plan: Callable[[int, Path, Plan], Outcome] = run,
) -> Story:
    """Leave out steps, more at once first, for at most ``seconds``."""
    shortest = outcome
    deadline = time.perf_counter() + seconds
    size = max(1, len(outcome.plan) // 2)
    while size and time.perf_counter() < deadline:
        start, has_shrunk = 0, False
        while start < len(shortest.plan) and time.perf_counter() < deadline:
            plan = [*shortest.plan[:start], *shortest.plan[start + size :]]
            tried = run_plan(outcome.seed, folder, plan)
            if tried.invariants & outcome.invariants:
                shortest, has_shrunk = tried, True
            else:
                start += size
        if not has_shrunk or size > 1:
            size //= 2
    return Story(outcome, shortest)


def keep(story: Story, reason: str, folder: Path) -> Path:
    """Write a story down as a regression: its seed and its steps, whatever plans become.

    A seed may have several; one that is there already is left as it is, its reason, too.
    """
    steps = ",\n    ".join(json.dumps(step.json()) for step in story.shortest.plan)
    digest = hashlib.sha256(steps.encode()).hexdigest()[:8]
    file = folder / f"{story.shortest.seed}-{digest}.json"
    head = json.dumps({"seed": story.shortest.seed, "reason": reason}, indent=2)
    with contextlib.suppress(FileExistsError), file.open("x") as there:
        there.write(f'{head[:-2]},\n  "plan": [\n    {steps}\n  ]\n}}\n')
    return file


def kept(file: Path) -> tuple[int, Plan, str]:
    """A regression: its seed, its steps, and what once went wrong."""
    told = json.loads(file.read_text())
    plan = [Step(at, kind, words) for at, kind, words in told["plan"]]
    return told["seed"], plan, told["reason"]


def _up_to_violation(lines: tuple[str, ...]) -> tuple[str, ...]:
    ends = [n for n, line in enumerate(lines) if "  VIOLATED " in line]
    end = ends[0] + 1 if ends else len(lines)
    return lines[max(0, end - _CONTEXT) : end]
