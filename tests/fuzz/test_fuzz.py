"""`make fuzz` in short: kept inputs, a few new ones, and that it finds what it must."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest

from antom_payments.antom.signing import Verifier
from antom_payments.notifications import app as app_module
from fuzz.__main__ import (
    RUNS,
    SHARES,
    Report,
    inputs_of,
    is_news,
    kind_of,
    main,
    summary,
    with_its_shortfall,
)
from fuzz.campaign import CORPUS, MEMORY_COUNTS_FROM, kept, run
from fuzz.grpc_edge import methods
from fuzz.target import Finding, Input, Kind, Target, must, nothing_more
from processes import proof

SEED = 20261127
SHORT = {"notifications": 200, "signed_bodies": 12, "antom_answers": 30, "grpc_edge": 100}
SHORT |= {"signature_headers": 1_000, "cursors": 5_000, "page_tokens": 2_000, "http_requests": 10}
KEPT = sorted(folder.name for folder in CORPUS.iterdir())


@pytest.mark.parametrize("name", KEPT)
async def test_what_becomes_of_kept_inputs_is_what_did(name: str) -> None:
    kind = kind_of(name)
    async with kind.opened() as target:
        for file, given, verdict in kept(name):
            found = await target.check(given)
            assert verdict is None or kind.is_timed or found == verdict, file
        await target.end()


@pytest.mark.parametrize("name", sorted(SHORT))
async def test_a_few_new_inputs_find_nothing(name: str, tmp_path: Path) -> None:
    report = await run(kind_of(name), inputs=SHORT[name], seed=SEED, corpus=tmp_path)
    assert report.findings == []
    assert report.inputs == SHORT[name]
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - quick


async def test_a_small_crowd_that_asks_for_nothing_keeps_nobody_out() -> None:
    async with kind_of("siege").opened() as target:
        # In time is a question to `make fuzz`: other tests run beside this one.
        await target.check({"connections": 600, "in_time_seconds": 60})


def verify_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(self: Verifier, **_: object) -> str:
        return self._keys[0][1]

    monkeypatch.setattr(Verifier, "verify", verify)


def look_before_verifying(monkeypatch: pytest.MonkeyPatch) -> None:
    prove = app_module.prove

    def proven(headers, body, **more):  # type: ignore[no-untyped-def] # as `prove`
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(body)
        return prove(headers, body, **more)

    monkeypatch.setattr(app_module, "prove", proven)


def tell_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app_module._STATUS, app_module.Outcome.BAD_SIGNATURE, 400)


async def all_of(target: Target, inputs: int) -> None:
    for number in range(inputs):
        await target.check(target.make(Random(number)))


async def test_bugs_that_are_planted_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async with kind_of("notifications").opened() as target:
        for bug in (verify_nothing, look_before_verifying, tell_the_reason):
            with monkeypatch.context() as planted:
                bug(planted)
                with pytest.raises(Finding):
                    await all_of(target, 100)


def a_kind(check: Callable[[Input], str]) -> Kind:
    """A target of numbers."""

    async def checked(given: Input) -> str:
        return check(given)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Target]:
        yield Target(lambda random: {"number": random.random()}, checked, nothing_more)

    return Kind("numbers", opened)


async def test_a_finding_is_kept_and_can_be_made_again(tmp_path: Path) -> None:
    seen: list[list[float]] = [[], []]

    def check(given: Input, numbers: list[float]) -> str:
        numbers.append(given["number"])
        must(given["number"] < 0.9, "a large number")
        return "accepted"

    for numbers in seen:
        kind = a_kind(lambda given, numbers=numbers: check(given, numbers))  # type: ignore[misc] # bound now
        report = await run(kind, inputs=30, seed=7, corpus=tmp_path)
    assert seen[0] == seen[1]
    found = [number for number in seen[0] if number >= 0.9]
    assert sorted(given["number"] for _, given, _ in kept("numbers", tmp_path)) == sorted(found)
    assert len(report.findings) == len(found) > 0
    assert "of seed 7: a large number; kept as numbers/" in report.findings[0]


async def test_what_the_product_lets_out_is_a_finding(tmp_path: Path) -> None:
    report = await run(a_kind(lambda _: str(1 // 0)), inputs=99, seed=7, corpus=tmp_path)
    assert "ZeroDivisionError" in report.findings[0]
    assert len(report.findings) == report.inputs == 10


_GREEDY = "import sys\nfor line in sys.stdin: kept = b'x' * 64_000_000; print(flush=True)"


async def test_memory_of_the_process_that_the_product_runs_in_must_not_grow(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _GREEDY), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin
    assert process.stdout
    numbers = itertools.count()

    async def check(_: Input) -> str:
        if next(numbers) == MEMORY_COUNTS_FROM // 2:
            process.stdin.write(b"\n")
            await process.stdout.readline()
        return "accepted"

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Target]:
        yield Target(lambda _: {}, check, nothing_more, process.pid)

    kind = Kind("greedy", opened)
    report = await run(kind, inputs=MEMORY_COUNTS_FROM, seed=7, corpus=tmp_path)
    process.kill()
    await process.wait()
    assert [finding.partition(" by ")[0] for finding in report.findings] == ["greedy: memory grew"]


def test_memory_is_judged_of_every_target_of_many_inputs() -> None:
    judged = {name for name in SHARES if inputs_of(name, RUNS) >= MEMORY_COUNTS_FROM}
    assert judged == set(SHARES) - {"siege"}


def test_inputs_that_were_left_out_are_a_finding() -> None:
    assert with_its_shortfall(Report("cursors", inputs=500), 500).findings == []
    short = with_its_shortfall(Report("cursors", inputs=499), 500)
    assert short.findings == ["cursors: only 499 of 500 inputs"]


def test_make_fuzz_ends_with_0_or_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))

    def fuzz(corpus: Path) -> tuple[int, str]:
        usual = ["fuzz", "--runs", "500", "--seed", "7", "--only", "cursors", "--examples"]
        monkeypatch.setattr(sys, "argv", [*usual, "--corpus", str(corpus)])
        return main(), capsys.readouterr().out

    code, told = fuzz(tmp_path)
    assert code == 0
    assert "500 inputs, 0 findings, seed 7" in told
    # What cannot be written ends a target's process: that is a finding, too.
    code, told = fuzz(Path("/proc/none"))
    assert code == 1
    assert "FINDING cursors: ended with code 1" in told


def test_ctrl_c_ends_the_children_and_their_files(tmp_path: Path) -> None:
    chosen = ("--seed=7", f"--corpus={tmp_path}", "--only", "grpc_edge")
    with proof("fuzz", *chosen) as running:
        assert running.stdout
        assert "ONLY='grpc_edge'" in running.stdout.readline()
        assert "fuzz: grpc_edge: " in running.stdout.readline()  # its files are there
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        opened = [
            file.readlink() for child in children for file in Path(f"/proc/{child}/fd").iterdir()
        ]
        folders = {
            file.parent for file in opened if file.parent.name.startswith("antom-payments-fuzz")
        }
        assert len(folders) == 1
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "fuzz: interrupted after " in out
    assert " 0 findings, seed 7" in out
    assert "Traceback" not in err
    assert not any(path.exists() for path in [*folders, *(Path("/proc", pid) for pid in children)])


def test_a_report_that_tells_nothing_new_is_not_said_again() -> None:
    assert is_news(Report("siege", inputs=1), None)
    assert not is_news(Report("siege", inputs=1, seconds=9), Report("siege", inputs=1, seconds=8))
    assert is_news(Report("siege", inputs=1, findings=["one"]), Report("siege", inputs=1))


def test_the_summary_names_each_target_and_its_reasons() -> None:
    report = Report("cursors", inputs=3, seconds=1.5)
    report.verdicts.update({"refused: CursorInvalid": 2, "accepted: a genuine one": 1})
    lines = summary([report]).split("\n")
    assert lines[1].split() == ["cursors", "3", "1", "2", "0", "0.0", "2"]
    assert lines[-2].split() == ["2", "refused:", "CursorInvalid"]
    assert inputs_of("notifications", 100_000) == 100_000
    assert inputs_of("siege", 100_000) == 1


def test_every_target_is_fuzzed_in_short_and_every_method_of_the_contract_called() -> None:
    assert {*SHORT, "siege"} == set(SHARES) >= set(KEPT)
    called = {path.rpartition("/")[2] for path in methods()}
    assert called >= {"CreateSession", "GetPayment", "StreamPaymentEvents", "ReportSdkEvent"}
