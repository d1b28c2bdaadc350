"""Processes that end by themselves are noticed, whenever they do; none outlives a killed run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.board import Board
from chaos.campaign import run
from chaos.process import NotInjected, Process
from chaos.scene import Fault, Scene


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    """A process that waits, started."""
    one = Process("one", {"log": str(tmp_path / "log")}, 1, Board(tmp_path / "board"), print)
    waiting = await subprocess.create_subprocess_exec(
        *(sys.executable, "-c", "input()"), stdin=subprocess.PIPE
    )
    await one.launch()
    one.pid = waiting.pid
    yield one
    if waiting.returncode is None:
        waiting.kill()
    await waiting.communicate()


@pytest.mark.parametrize("code", [0, 1, -signal.SIGKILL])
async def test_an_end_that_nobody_asked_for_is_told(process: Process, code: int) -> None:
    process.log.write_text("its last words")
    process.note_end(code)
    assert process.unasked == [f"one ended by itself, {code}: its last words"]
    assert not process.is_there


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_end_that_was_asked_for_is_told_to_nobody(process: Process, number: int) -> None:
    process.signal(number)
    process.note_end(-number)
    assert process.unasked == []


async def test_who_was_frozen_is_not_to_end(process: Process) -> None:
    process.signal(signal.SIGSTOP)
    process.signal(signal.SIGCONT)
    process.note_end(1)
    assert process.unasked


async def test_a_kill_point_is_of_one_start(process: Process) -> None:
    process.arm("before commit")
    process.board.note_dying(process.slot)
    process.note_end(-signal.SIGKILL)
    assert process.unasked == []
    await process.launch()
    process.note_end(-signal.SIGKILL)
    assert process.unasked


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_ends_are_noticed_after_a_fault_that_failed_and_while_all_becomes_quiet(
    tmp_path: Path,
) -> None:
    scenes: list[Scene] = []

    @contextlib.asynccontextmanager
    async def fails(scene: Scene) -> AsyncIterator[None]:
        scenes.append(scene)
        victim = scene.town.servers[0]
        os.kill(victim.pid, signal.SIGKILL)
        await victim.ended()
        raise NotInjected("it ended before")
        yield

    def say(text: str) -> None:
        if "becoming quiet" in text:
            sidecar = scenes[0].town.sidecars[1]
            if sidecar.is_there:
                os.kill(sidecar.pid, signal.SIGKILL)

    outcome = await run(
        tmp_path, faults=[Fault("test", "fails", fails)], seed=1, per_second=8.0, say=say
    )
    assert outcome.not_injected == ["test: fails: it ended before"]
    [after, quiet] = [what.partition(", -9")[0] for what in outcome.all_violations]
    assert after == "after test: fails: server-0 ended by itself"
    assert quiet == "sidecar-1 ended by itself"
    assert scenes[0].town.servers[0].starts == 2
