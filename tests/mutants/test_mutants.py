"""The mutants themselves: patches that apply, tests that are there, a runner that is not fooled."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import pytest_timeout

import antom_payments
from mutants.__main__ import dotted, main
from mutants.broken import (
    PACKAGE,
    ROOT,
    Breakage,
    PatchRotten,
    breakages,
    broken_copy,
    environment_of,
    refuse_rotten,
)
from mutants.caught import fault_of
from mutants.mutation import TARGETS, equivalent, file_of
from mutants.operators import mutants_of
from mutants.witness import kind_of
from processes import proof

BREAKAGES = breakages()
names = pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)


@cache
def functions_in(file: Path) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def files_of(breakage: Breakage) -> list[str]:
    return re.findall(r"^\+\+\+ b/(\S+)", breakage.file.read_text("utf-8"), re.MULTILINE)


@names
def test_every_patch_applies_and_names_tests_that_are_there(breakage: Breakage) -> None:
    refuse_rotten(breakage)
    for test in breakage.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in functions_in(ROOT / file), test


@names
def test_every_patch_changes_the_package_and_nothing_else(breakage: Breakage) -> None:
    files = files_of(breakage)
    assert files
    assert all(Path(file).is_relative_to("service/antom_payments") for file in files)


def test_there_are_many_and_each_says_something_of_its_own() -> None:
    assert len(BREAKAGES) >= 40
    assert len({breakage.breaks for breakage in BREAKAGES}) == len(BREAKAGES)


def test_a_process_imports_the_broken_copy_and_the_package_stays_as_it_is(tmp_path: Path) -> None:
    breakage = next(one for one in BREAKAGES if one.name == "second-key-not-tried")
    file = Path("antom", "signing.py")
    before = (PACKAGE / file).read_text("utf-8")
    service = broken_copy(breakage, tmp_path)
    shown = subprocess.run(
        [sys.executable, "-c", "from antom_payments.antom import signing; print(signing.__file__)"],
        env=os.environ | environment_of(service),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(shown) == service / "antom_payments" / file
    assert "self._keys[:1]" in Path(shown).read_text("utf-8")
    assert (PACKAGE / file).read_text("utf-8") == before
    assert Path(antom_payments.__file__).parent == PACKAGE


def test_a_patch_that_does_not_apply_any_more_is_rotten(tmp_path: Path) -> None:
    with pytest.raises(PatchRotten, match="does not apply"):
        refuse_rotten(BREAKAGES[0], tmp_path)


def told(outcome: str, raised: str = "") -> dict[str, dict[str, object]]:
    return {"tests/test_x.py::test_it[postgres]": {"outcome": outcome, "raised": raised}}


@pytest.mark.parametrize(
    ("ran", "fault"),
    [
        (told("call", "AssertionError"), ""),
        (told("call", "Failed: DID NOT RAISE"), ""),
        (told("call", "LogCorrupt"), ""),
        (told("call", "OperationalError"), "by accident"),
        (told("call", "TimeoutError"), "by accident"),
        (told("call", "Failed: Timeout"), "by accident"),
        (told("call", "Failed"), "by accident"),
        (told("passed"), "SURVIVES"),
        (told("setup", "AssertionError"), "by accident"),
        (told("call", "NameError"), "by accident"),
        ({}, "did not run"),
        ({"tests/test_x.py::test_its_neighbour": told("call")}, "did not run"),
    ],
)
def test_caught_is_only_what_a_test_found_out(
    ran: dict[str, dict[str, object]], fault: str
) -> None:
    found = fault_of("tests/test_x.py::test_it", ran, "", frozenset({"LogCorrupt"}))
    assert fault in found
    assert bool(fault) == bool(found)


def raised_by(act: Callable[[], object]) -> str:
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - of any kind
        act()
    return kind_of(raised.value)


def test_a_test_that_hangs_is_told_from_one_that_misses_an_exception() -> None:
    def raise_nothing() -> None:
        with pytest.raises(ValueError, match="x"):
            pass

    def hang() -> None:
        pytest.fail(pytest_timeout.PYTEST_FAILURE_MESSAGE % 120)

    assert raised_by(raise_nothing) == "Failed: DID NOT RAISE"
    assert raised_by(hang) == "Failed: Timeout"
    assert raised_by(lambda: pytest.fail("Timeouts are odd")) == "Failed"
    assert raised_by(lambda: 1 // 0) == "ZeroDivisionError"


def test_every_broken_module_defines_the_names_that_it_uses(tmp_path: Path) -> None:
    changed = []
    for breakage in BREAKAGES:
        folder = tmp_path / breakage.name
        broken_copy(breakage, folder)
        changed += [str(folder / file) for file in files_of(breakage)]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=E9,F82"]
    done = subprocess.run([*ruff, *changed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_small_changes_are_made_also_outside_of_functions() -> None:
    source = "A = {1: _P.FAILED, 2: 3}\n\n\ndef f(a):\n    return a < 1 or not a\n"
    changed = {mutant.diff.split("\n+")[1] for mutant in mutants_of(source)}
    assert {"A = None", "A = {1: _P.SUCCEEDED, 2: 3}", "A = {2: 3}"} <= changed
    assert {"    return a <= 1 or not a", "    return a < 1 and not a"} <= changed
    assert {"    return a < 2 or not a", "    return a < 1 or a"} <= changed


def test_words_of_documentation_and_of_exceptions_are_left_alone() -> None:
    source = 'def f(a: "A") -> None:\n    "Does it."\n    raise ValueError("must not be")\n'
    assert [mutant.diff for mutant in mutants_of(source) if "XX" in mutant.diff] == []


def test_the_equivalent_ones_have_a_reason_and_are_still_in_the_code() -> None:
    for module, known in equivalent().items():
        assert module in TARGETS
        lines = file_of(module).read_text("utf-8").splitlines()
        for diff, reason in known.items():
            assert len(reason) > 20, diff
            gone = [line[1:] for line in diff.split("\n") if line.startswith("-")]
            assert set(gone) <= set(lines), diff


def test_a_module_is_named_by_its_path_too() -> None:
    for module in TARGETS:
        assert dotted(str(file_of(module).relative_to(ROOT))) == module
    assert dotted("amount-not") == "amount-not"


def test_a_name_that_is_nobodys_is_answered_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mutants", "--only=unheard-of"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "no patch and no module is called unheard-of" in told
    assert all(name in told for name in [*TARGETS, *(one.name for one in BREAKAGES)])


def test_ctrl_c_ends_a_run_with_one_line() -> None:
    with proof("mutants", "--only=service/antom_payments/cursor.py") as running:
        assert running.stdout
        assert running.stdout.readline() == "0 patches and 1 modules\n"
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == "interrupted after 0 of 1 patches and modules\n"
    assert "Traceback" not in err
