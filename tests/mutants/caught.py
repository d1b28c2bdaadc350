"""Runs the named tests on the unbroken package, and on each broken one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutants.broken import ROOT, Breakage, PatchRotten, broken_copy, environment_of, unbroken_copy
from mutants.witness import REPORT

LONGEST_SECONDS = 300
"""Of one mutant's tests, on a busy machine; a mutant that hangs is not caught by a name."""
_LONGEST_UNBROKEN_SECONDS = 1800
"""Of all named tests, which are seconds each, one after the other on the slowest machine."""
_FINDINGS = frozenset({"AssertionError", "Failed: DID NOT RAISE"})
"""How a test says what it has found out. All else may come from a patch that is broken itself, or
from a machine that is busy: the patch must name it where it is the finding."""

Told = Mapping[str, Mapping[str, Any]]


@dataclass
class Verdict:
    """What became of a mutant."""

    breakage: Breakage
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    """Why it does not count as caught; empty when it was."""


def unbroken(breakages: Sequence[Breakage], environ: Mapping[str, str], workers: int) -> list[str]:
    """Run every named test on an untouched copy; what is wrong with them."""
    named = sorted({test for breakage in breakages for test in breakage.tests})
    with tempfile.TemporaryDirectory(prefix="unbroken-") as folder:
        service = unbroken_copy(Path(folder))
        try:
            told, said = _run(
                *(named, service, environ), workers=workers, seconds=_LONGEST_UNBROKEN_SECONDS
            )
        except subprocess.TimeoutExpired:
            return [f"the named tests took longer than {_LONGEST_UNBROKEN_SECONDS} s, unbroken"]
    failed = [
        f"fails unbroken: {test} ({of['outcome']}: {of.get('raised', '')})"
        for test, of in told.items()
        if of["outcome"] != "passed"
    ]
    missing = [f"is not there: {test}" for test in named if not _items(test, told)]
    return failed + missing + ([said] if missing and not told else [])


def judge(breakage: Breakage, environ: Mapping[str, str]) -> Verdict:
    """Break a copy, and run the named tests on it."""
    verdict = Verdict(breakage)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{breakage.name}-") as folder:
        try:
            service = broken_copy(breakage, Path(folder))
            told, said = _run(breakage.tests, service, environ)
        except PatchRotten as rotten:
            verdict.faults.append(str(rotten))
        except subprocess.TimeoutExpired:
            verdict.faults.append(f"took longer than {LONGEST_SECONDS} s")
        else:
            verdict.faults += [
                fault
                for test in breakage.tests
                if (fault := fault_of(test, told, said, breakage.raises))
            ]
    verdict.seconds = time.monotonic() - began
    return verdict


def fault_of(test: str, told: Told, said: str, raises: frozenset[str] = frozenset()) -> str:
    """Why ``test`` has not caught the mutant, if so; ``raises`` are findings, too."""
    items = _items(test, told)
    if not items:
        return f"{test} did not run: {said}"
    failed = [of for of in items if of["outcome"] != "passed"]
    if not failed:
        return f"SURVIVES {test}"
    if not any(of["outcome"] == "call" and of["raised"] in _FINDINGS | raises for of in failed):
        how = sorted({f"{of['outcome']}: {of['raised']}" for of in failed})
        return f"{test} fails by accident ({', '.join(how)})"
    return ""


def _items(test: str, told: Told) -> list[Mapping[str, Any]]:
    """What is told of a node id, and of its parameters."""
    return [of for name, of in told.items() if name == test or name.startswith(f"{test}[")]


def _run(
    tests: Iterable[str],
    service: Path,
    environ: Mapping[str, str],
    *,
    workers: int = 0,
    seconds: float = LONGEST_SECONDS,
) -> tuple[Told, str]:
    """Run tests on the package of ``service``: what is told of each, and pytest's last words."""
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "mutants.witness"),
                *("-p", "no:cacheprovider", f"--numprocesses={workers}", *tests),
            ],
            cwd=ROOT,
            env={**environ, **environment_of(service), REPORT: folder},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        told: dict[str, Mapping[str, Any]] = {}
        for report in Path(folder).iterdir():
            told |= json.loads(report.read_text("utf-8"))
    return told, " ".join((done.stdout + done.stderr).split()[-40:])
