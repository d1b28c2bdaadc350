"""Tools that `make` installs beside our packages, for tests that need them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


class NotMade(Exception):
    """A target failed; says why."""


def make(target: str) -> None:
    """Run a target of the Makefile, once for all test runs that share the virtual environment.

    Raises:
        NotMade: with what make said.
    """
    # Neither a make that runs the tests nor the environment that they run in is to be touched.
    inherited = {name: value for name, value in os.environ.items() if "FLAGS" not in name}
    ours = ("--old-file", f"{sys.prefix}/.ready", f"VENV={sys.prefix}")
    with (Path(sys.prefix) / "made.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            ["/usr/bin/env", "make", "--directory", str(ROOT), *ours, target],
            env=inherited,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise NotMade(f"`make {target}` failed:\n{done.stdout}{done.stderr}")
