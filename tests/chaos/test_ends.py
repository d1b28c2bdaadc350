"""Processes that end by themselves are noticed, whenever they do; none outlives a killed run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.board import Board
from chaos.campaign import run
from chaos.failpoints import KEYS_READ, NUMBERS
from chaos.process import NotInjected, Process
from chaos.scene import Fault, Scene
from chaos.town import FORKER, kept_port
from keys import golden_pair
from whole import CLIENT_ID


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


async def test_a_start_is_armed_before_it_is_ordered(tmp_path: Path) -> None:
    """It may come to its kill point before whoever ordered it goes on."""
    board = Board(tmp_path / "board")
    armed: list[int] = []

    def send(_: object) -> None:
        armed.append(board.armed(1))

    one = Process("one", {"log": str(tmp_path / "log")}, 1, board, send)
    await one.launch(point=KEYS_READ)
    await one.launch()
    assert armed == [NUMBERS[KEYS_READ], 0]


async def until_gone(pidfd: int) -> None:
    """Wait for the end of a process that is nobody's child here."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    try:
        async with asyncio.timeout(30):
            await gone.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


@pytest.mark.parametrize("end", ["the forker is killed", "the run is gone"])
async def test_what_was_forked_goes_with_its_forker(tmp_path: Path, end: str) -> None:
    forker = await subprocess.create_subprocess_exec(
        *(sys.executable, str(FORKER)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert forker.stdin
    assert forker.stdout
    order = {
        "name": "emulator",
        "kind": "emulator",
        "slot": 1,
        "board": str(tmp_path / "board"),
        "log": str(tmp_path / "log"),
        "emulator": {
            "antom_private_key": golden_pair("antom").private,
            "next_private_key": golden_pair("merchant").private,
            "merchant_public_keys": [golden_pair("merchant").public],
            "client_id": CLIENT_ID,
            "seed": 1,
            "timeout_seconds": 1,
            "port": kept_port(),
        },
    }
    forker.stdin.write(json.dumps(order).encode() + b"\n")
    forked, ready = [json.loads(await forker.stdout.readline()) for _ in range(2)]
    assert (forked["what"], ready["what"]) == ("forked", "ready")
    pidfd = os.pidfd_open(forked["pid"])
    if end == "the forker is killed":
        forker.kill()
    else:
        os.kill(forked["pid"], signal.SIGSTOP)
        forker.stdin.close()
    try:
        await until_gone(pidfd)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(forked["pid"], signal.SIGKILL)
    await forker.communicate()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_run_notices_ends_and_errors_whenever_they_come(tmp_path: Path) -> None:
    """After a fault that failed, and while all becomes quiet."""
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
                with sidecar.log.open("a") as log:
                    log.write('{"event": "group_commit_broken", "level": "error"}\n')
                os.kill(sidecar.pid, signal.SIGKILL)

    outcome = await run(
        tmp_path, faults=[Fault("test", "fails", fails)], seed=1, per_second=8.0, say=say
    )
    assert outcome.not_injected == ["test: fails: it ended before"]
    found = [what.partition(", -9")[0] for what in outcome.all_violations]
    assert "after test: fails: server-0 ended by itself" in found
    assert "sidecar-1 ended by itself" in found
    assert any(what.startswith("sidecar-1 said ") for what in found)
    assert len({*found}) == 3, found
    assert scenes[0].town.servers[0].starts == 2
