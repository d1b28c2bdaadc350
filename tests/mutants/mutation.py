"""Mutation testing of what money depends on: proofs, facts, decisions, the table, cursors, pages.

Each mutant is run in a process that was forked from one that has imported all libraries, and none
of our own modules: the mutated source is found in place of the module, nothing is written. A mutant
that cannot be imported is counted apart, and so is one that uses up its processor time: that is
measured in seconds of its own work, so that a busy machine kills nobody.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from mutants.broken import HERE, PACKAGE, ROOT
from mutants.operators import Mutant, mutants_of

LEAST_KILLED = 0.9
_NOT_OF_MUTANTS = (
    # It reads the text of the package, which no mutant changes.
    "test_no_other_module_than_expiry_makes_a_fact_of_that_outcome",
    # It needs the fixtures of databases; without them a mutant costs half.
    "test_the_last_second_in_the_store_the_conclusion_first_and_the_buyer_late",
)
MOST_CPU_SECONDS = 60
"""Of one mutant's tests; unbroken they take a few."""
MOST_SECONDS = 900.0
"""By the clock on the wall, for a mutant that waits for good."""

TARGETS: Mapping[str, Sequence[str]] = {
    "antom_payments.antom.signing": ["tests/antom/test_signing.py"],
    "antom_payments.notifications.verification": ["tests/notifications/test_verification.py"],
    "antom_payments.cursor": ["tests/test_cursor.py", "tests/test_page_token.py"],
    "antom_payments.page_token": ["tests/test_page_token.py"],
    "antom_payments.payment": ["tests/test_payment.py", "tests/test_fact.py"],
    "antom_payments.fact": ["tests/test_fact.py", "tests/test_expiry.py"],
    "antom_payments.decision": [
        "tests/test_fact.py",
        "tests/test_contradictions.py",
        "tests/test_expiry.py",
        "tests/test_fact_in_any_order.py",
        "tests/test_laws.py",
    ],
}
"""Modules, and the fast tests that are about them, the fastest first."""


class End(StrEnum):
    """How a mutant ended."""

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"
    NOT_IMPORTED = "not imported"
    ENDLESS = "endless"


@dataclass
class Score:
    """What became of a module's mutants."""

    module: str
    seconds: float = 0.0
    ends: Counter[End] = field(default_factory=Counter)
    alive: list[Mutant] = field(default_factory=list)
    """Those that survived or did not end, and are not known to be equivalent."""
    stale: list[str] = field(default_factory=list)
    """Entries of the list of equivalent ones that name no mutant, or one that is killed."""

    @property
    def killed(self) -> float:
        """The share of those that count: neither equivalent nor impossible to import."""
        counted = self.ends[End.KILLED] + len(self.alive)
        return self.ends[End.KILLED] / counted if counted else 0.0


def equivalent() -> Mapping[str, Mapping[str, str]]:
    """Mutants that change nothing which could be told, by module: diff and reason."""
    listed = tomllib.loads((HERE / "equivalent.toml").read_text("utf-8"))
    return {
        module: {one["diff"].strip(): one["reason"] for one in ones}
        for module, ones in listed.items()
    }


def file_of(module: str) -> Path:
    """Where a module's source is."""
    return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def score(module: str, workers: int, said: Callable[[str], None]) -> Score:
    """Run every mutant of a module."""
    _preload()
    began = time.monotonic()
    source = file_of(module).read_text("utf-8")
    if _end_of(_fork(module, source), MOST_SECONDS) is not End.SURVIVED:
        raise SystemExit(f"the tests of {module} fail on the unbroken code")
    known = dict(equivalent().get(module, {}))
    result = Score(module)
    for mutant, end in _ends(module, mutants_of(source), workers):
        if end in {End.SURVIVED, End.ENDLESS}:
            if known.pop(mutant.diff.strip(), None) is not None:
                result.ends[End.EQUIVALENT] += 1
                continue
            result.alive.append(mutant)
            said(f"{end} in {module}:\n{mutant.diff}")
        result.ends[end] += 1
    result.stale = list(known)
    result.seconds = time.monotonic() - began
    return result


def _ends(module: str, mutants: Sequence[Mutant], workers: int) -> Iterator[tuple[Mutant, End]]:
    """What became of each, a few at a time."""
    waiting = list(reversed(mutants))
    running: dict[int, tuple[Mutant, float]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            running[_fork(module, mutant.source)] = (mutant, time.monotonic())
        for pid, (mutant, since) in list(running.items()):
            end = _end_of(pid, MOST_SECONDS - (time.monotonic() - since), waits=False)
            if end is not None:
                del running[pid]
                yield mutant, end
        time.sleep(0.01)


def _end_of(pid: int, seconds: float, *, waits: bool = True) -> End | None:
    """How a process ended; None while it runs."""
    if seconds <= 0:
        os.kill(pid, signal.SIGKILL)
    ended, status = os.waitpid(pid, 0 if waits or seconds <= 0 else os.WNOHANG)
    if not ended:
        return None
    if os.WIFSIGNALED(status):
        return End.ENDLESS
    match os.WEXITSTATUS(status):
        case pytest.ExitCode.OK:
            return End.SURVIVED
        case pytest.ExitCode.TESTS_FAILED:
            return End.KILLED
        case _:
            return End.NOT_IMPORTED


@cache
def _preload() -> None:
    """Import what takes long, and forget our own modules again."""
    os.chdir(ROOT)
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants",
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    importlib.import_module("antom_payments.store")
    importlib.import_module("antom_payments.antom")
    for name in [name for name in sys.modules if name.startswith("antom_payments")]:
        del sys.modules[name]


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the mutated source in place of a module."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._code: CodeType = compile(source, f"mutant of {module}", "exec")

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == self._module else None

    def create_module(self, _: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 that is what a mutant is for


class _Reading:
    """A plug-in that notes when a file of tests could not be imported."""

    failed = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed |= report.failed


def _fork(module: str, source: str) -> int:
    """Start the tests of a module on ``source``; the pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status: int = pytest.ExitCode.INTERNAL_ERROR
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
        sys.meta_path.insert(0, _Mutated(module, source))
        reading = _Reading()
        status = pytest.main(
            [
                *("-x", "-q", "--assert=plain", "--import-mode=importlib", "--noconftest"),
                *("-c", os.devnull, f"--rootdir={ROOT}", "-p", "no:cacheprovider"),
                *("-p", "_hypothesis_pytestplugin", "--hypothesis-profile=mutants"),
                *(f"--deselect=tests/test_expiry.py::{test}" for test in _NOT_OF_MUTANTS),
                *TARGETS[module],
            ],
            plugins=[reading],
        )
        if reading.failed:  # pytest itself tells it from a failed test when there is one file only
            status = pytest.ExitCode.INTERRUPTED
    finally:
        os._exit(status)
