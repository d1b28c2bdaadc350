"""The example client for Node, with its packages: installed once from its lock file."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "docs" / "clients" / "node"
LOCK = CLIENT / "package-lock.json"
OLDEST_NODE = 18


class NoNode(Exception):
    """The Node client cannot be run; says why, and what to install."""


@dataclass(frozen=True)
class NodeClient:
    """A client that is ready to be run."""

    node: str
    """The program."""


def installed() -> NodeClient:
    """Node, and the client's packages beside the client.

    Raises:
        NoNode: node or npm is missing or too old, or npm could not install the packages.
    """
    programs = [shutil.which(name) for name in ("node", "npm")]
    missing = [name for name, at in zip(("node", "npm"), programs, strict=True) if not at]
    if missing:
        raise NoNode(_needed(f"{' and '.join(missing)} cannot be found on PATH"))
    node, npm = (str(program) for program in programs)
    version = _output(node, "--version").strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise NoNode(_needed(f"this node is {version}"))
    stamp = CLIENT / "node_modules" / ".installed-from"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    # Several test runs, and both workers of this one, may share the folder.
    with (Path(sys.prefix) / "node-client.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _output(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
            stamp.write_text(wanted)
    return NodeClient(node)


def _needed(why: str) -> str:
    return (
        f"the tests of the Node client need Node.js {OLDEST_NODE} or newer, with npm: {why}. "
        "On Debian and Ubuntu: apt-get install nodejs npm"
    )


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNode(
            f"`{' '.join(command)}` failed; the first run needs a package registry that npm can "
            f"reach.\n{done.stderr}"
        )
    return done.stdout
