"""The command line, as processes of its own and typed in this one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from antom_payments import __main__ as command_line
from antom_payments.settings import PREFIX, Settings, variable

PATIENCE = 100.0
"""Seconds after which a process is taken for stuck; a start compiles every module at worst."""


@dataclass
class Ended:
    """What a process left."""

    code: int
    out: str
    err: str


Typed = Callable[..., Ended]


def typing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command in this process; in a thread, where a loop runs."""

    def type_(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["antom-payments", *arguments])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        written = capsys.readouterr()
        return Ended(end.value.code or 0, written.out, written.err)  # type: ignore[arg-type]

    return type_


@dataclass
class Running:
    """A process that runs, and the lines that it has written so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def line_with(self, word: str) -> str:
        """Wait for the next line that holds ``word``."""
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                if word in line:
                    return line
        raise AssertionError(f"ended without {word!r}: {''.join(self.lines)}")

    async def end(self, signal_number: int) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(signal_number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the exit code, reading on to the last line."""
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
            return await self.process.wait()


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Ours without settings and telemetry of whoever runs the tests, and with these settings."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "OTEL_"))
    }
    return kept | {variable(name): str(value) for name, value in settings.items()}


def importing(folder: Path) -> dict[str, str]:
    """Our environment, in which Python finds what is in ``folder`` before what it finds anyway."""
    known = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), known]))}


def as_environment(chosen: Settings) -> dict[str, object]:
    """What was set in ``chosen``, for `environment`."""
    told = {name: getattr(chosen, name) for name in chosen.model_fields_set}
    told["database_url"] = chosen.database_url.get_secret_value()
    told["antom_public_key_files"] = ",".join(map(str, chosen.antom_public_key_files))
    return told


@contextlib.asynccontextmanager
async def running(
    *arguments: str, settings: Mapping[str, object] | None = None, **more: str
) -> AsyncIterator[Running]:
    """Run a command while the block runs; killed when it has not ended then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "antom_payments", *arguments),
        env=environment(settings or {}) | more,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(*arguments: str, settings: Mapping[str, object] | None = None, **more: str) -> Ended:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "antom_payments", *arguments),
        env=environment(settings or {}) | more,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"stuck: {out.decode()} {err.decode()}") from None
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@contextlib.contextmanager
def proof(name: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """One of our proofs (`python -m` ``name``), in a group of its own; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def processes_about(folder: Path) -> list[str]:
    """Command lines of the processes whose environment or arguments name ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = process.joinpath("environ").read_bytes()
            command = process.joinpath("cmdline").read_bytes()
            if str(folder).encode() in told + command:
                found.append(command.replace(b"\0", b" ").decode())
    return found


def left_in(folder: Path) -> list[str]:
    """Names of what is in ``folder``."""
    return sorted(path.name for path in folder.iterdir())
