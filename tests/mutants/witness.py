"""A pytest plug-in for runs on a copy of the package: which one was tested, and what came of it.

The report is JSON: each test's outcome, the phase that it failed in and the kind of the exception.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from mutants.broken import SENTINEL

REPORT = "MUTANT_REPORT"
"""Variable that names the folder of the report: a file for each process that ran tests."""

_FAILED = {"DID NOT RAISE": "Failed: DID NOT RAISE", "Timeout (": "Failed: Timeout"}
"""The words by which pytest and pytest-timeout say it."""

_told: dict[str, dict[str, Any]] = {}


def pytest_sessionstart() -> None:
    """Refuse to test another package than the copy: its tests would prove nothing."""
    import antom_payments

    package = Path(antom_payments.__file__)
    wanted = Path(os.environ[SENTINEL])
    if not package.is_relative_to(wanted):
        pytest.exit(f"tested would be {package}, not what is below {wanted}", returncode=97)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the first phase in which a test failed, and else that it passed."""
    report = yield
    told = _told.setdefault(item.nodeid, {"outcome": "passed", "seconds": 0.0})
    told["seconds"] += report.duration
    if report.failed and told["outcome"] == "passed":
        raised = call.excinfo
        told |= {"outcome": report.when, "raised": kind_of(raised.value) if raised else ""}
    return report


def kind_of(raised: BaseException) -> str:
    """Its type; of what pytest itself raises, how its words begin, too."""
    words = str(raised)
    if isinstance(raised, pytest.fail.Exception):
        known = [kind for begin, kind in _FAILED.items() if words.startswith(begin)]
        return known[0] if known else "Failed"
    return type(raised).__name__


def pytest_sessionfinish() -> None:
    if _told:
        file = Path(os.environ[REPORT], f"{os.getpid()}.json")
        file.write_text(json.dumps(_told), "utf-8")
