"""Deliberate breakages of the core: patches, each with the tests that must catch it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGE = ROOT / "service" / "antom_payments"
SENTINEL = "MUTANT_PACKAGE"
"""Variable that names the folder which `antom_payments` must come from; see `witness.py`."""


class PatchRotten(Exception):
    """A patch that is not what it should be; the message says how."""


@dataclass(frozen=True)
class Breakage:
    """A patch, and what its header says."""

    file: Path
    breaks: str
    promise: str
    """Which promise it breaks."""
    tests: tuple[str, ...]
    """Node ids; each must pass unbroken and fail broken. Without parameters: one of them must."""
    raises: frozenset[str]
    """What the tests may fail with, besides an assertion: see `witness.kind_of`."""

    @property
    def name(self) -> str:
        return self.file.stem


def breakages() -> list[Breakage]:
    """Every patch, by name. Raises PatchRotten for a header that lacks something."""
    return [_read(file) for file in sorted((HERE / "patches").glob("*.patch"))]


def _read(file: Path) -> Breakage:
    header = file.read_text("utf-8").partition("\n--- ")[0]
    fields = re.findall(r"^(Breaks|Promise|Caught-by|Raises): (\S.*)$", header, re.MULTILINE)
    told = dict(fields)
    tests = tuple(value for name, value in fields if name == "Caught-by")
    if not {"Breaks", "Promise"} <= set(told) or not tests:
        raise PatchRotten(f"{file.name}: the header needs Breaks, Promise and Caught-by")
    raises = frozenset(value for name, value in fields if name == "Raises")
    return Breakage(file, told["Breaks"], told["Promise"], tests, raises)


def refuse_rotten(breakage: Breakage, folder: Path = ROOT) -> None:
    """Return when the patch applies in ``folder``; else raise PatchRotten."""
    _git_apply(breakage, folder, "--check")


def unbroken_copy(folder: Path) -> Path:
    """Copy the package below ``folder``; what to put on PYTHONPATH."""
    service = folder / "service"
    kept_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, service / PACKAGE.name, ignore=kept_out)
    return service


def broken_copy(breakage: Breakage, folder: Path) -> Path:
    """Copy the package below ``folder``, broken; what to put on PYTHONPATH. Raises PatchRotten."""
    service = unbroken_copy(folder)
    _git_apply(breakage, folder)
    return service


def environment_of(service: Path) -> dict[str, str]:
    """Variables by which Python finds the package of ``service`` before the installed one."""
    path = os.pathsep.join([str(service), str(HERE.parent)])
    return {"PYTHONPATH": path, SENTINEL: str(service), "PYTHONDONTWRITEBYTECODE": "1"}


def _git_apply(breakage: Breakage, folder: Path, *options: str) -> None:
    # Below a repository, git would skip what lies outside of the folder, and say nothing.
    environ = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(
        ["git", "apply", *options, str(breakage.file)],  # noqa: S607 git is found on PATH
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PatchRotten(f"{breakage.file.name} does not apply: {done.stderr.strip()}")
