"""The official SDK's own environment: beside ours it would lower our cryptography."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LOCK = FOLDER / "requirements.lock"
ENVIRONMENT = Path(sys.prefix) / "official-sdk"
UV = Path(sys.executable).parent / "uv"
_CALL_SECONDS = 60


class NoOfficialSdk(Exception):
    """Its environment could not be made; says why."""


@dataclass(frozen=True)
class OfficialSdk:
    """The SDK in a process of its own."""

    python: Path

    async def do(self, job: str, *, ca_file: Path | None = None, **fields: Any) -> Any:
        """What driver.py answers to a job."""
        environment = {"PATH": os.environ["PATH"]}
        if ca_file:
            environment["SSL_CERT_FILE"] = str(ca_file)
        process = await asyncio.create_subprocess_exec(
            *(self.python, "-W", "ignore", "-I", FOLDER / "driver.py"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        told = json.dumps({"job": job} | fields).encode()
        async with asyncio.timeout(_CALL_SECONDS):
            answer, complaint = await process.communicate(told)
        assert process.returncode == 0, complaint.decode()
        return json.loads(answer)


def official_sdk() -> OfficialSdk:
    """The SDK, installed once from requirements.lock.

    Raises:
        NoOfficialSdk: uv could not install it.
    """
    stamp = ENVIRONMENT / "installed-from"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    # Several test runs may share the environment.
    with (ENVIRONMENT.parent / "official-sdk.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            python = ENVIRONMENT / "bin" / "python"
            _uv("venv", "--allow-existing", "--python", sys.executable, str(ENVIRONMENT))
            _uv("pip", "sync", "--require-hashes", "--python", str(python), str(LOCK))
            stamp.write_text(wanted)
    return OfficialSdk(ENVIRONMENT / "bin" / "python")


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [str(UV), "--quiet", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoOfficialSdk(
            f"`uv {' '.join(arguments)}` failed; the official SDK's tests need a package index.\n"
            f"{done.stderr}"
        )
