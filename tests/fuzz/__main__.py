"""`make fuzz`: every target in a process of its own, two at a time; exit code 1 on a finding."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from fuzz.campaign import CORPUS, Report, run
from fuzz.target import Kind

Reports = dict[str, Report]
"""The newest of each target."""

SHARES = {
    "signed_bodies": 30,
    "notifications": 1_000,
    "http_requests": 20,
    "grpc_edge": 100,
    "siege": 0,
    "antom_answers": 30,
    "signature_headers": 1_000,
    "cursors": 1_000,
    "page_tokens": 1_000,
}
"""Inputs of each target for 1,000 notifications, at least one; the longest first."""
RUNS = 105_000
"""Of these some 3,000 are changed where nobody signed, and are accepted."""
SILENCE_SECONDS = 120.0
"""A target that says nothing for so long hangs, and is a finding."""
PATIENCE_SECONDS = 5.0
"""For a child that is told to end, and takes its sidecar and its files with it."""


def inputs_of(name: str, runs: int) -> int:
    """How many inputs a target gets when notifications get ``runs``."""
    return max(1, runs * SHARES[name] // 1_000)


def kind_of(name: str) -> Kind:
    """The target; its module is loaded only now, for it may load half of the product."""
    kind: Kind = importlib.import_module(f"fuzz.{name}").KIND
    return kind


def say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - for whoever runs `make fuzz`


async def one(name: str, options: argparse.Namespace) -> None:
    """In the child: run one target, and report in lines of JSON."""
    kind = kind_of(name)

    def tell(report: Report) -> None:
        say(json.dumps(vars(report)))

    report = await run(
        kind,
        inputs=inputs_of(name, options.runs),
        seed=options.seed,
        corpus=options.corpus,
        examples=options.examples,
        tell=tell,
    )
    tell(report)


async def in_a_process(name: str, options: argparse.Namespace, reports: Reports) -> Report:
    """Run one target in a child; whatever ends it before its report is a finding."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fuzz", "--target", name, "--runs", str(options.runs)),
        *("--seed", str(options.seed), "--corpus", str(options.corpus)),
        *(["--examples"] if options.examples else []),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
        start_new_session=True,
    )
    report, fault, goal = Report(name), "", inputs_of(name, options.runs)
    try:
        async for report in reported(process):
            if is_news(report, reports.get(name)):
                say(
                    f"fuzz: {name}: {report.inputs:,} of {goal:,}, "
                    f"{len(report.findings)} findings, {report.seconds:.0f} s"
                )
            reports[name] = report
    except TimeoutError:
        await end(process)
        fault = f"it hangs: silent for {SILENCE_SECONDS:.0f} s after input {report.inputs}"
    finally:
        await end(process)
    if process.returncode:
        report.findings.append(f"{name}: {fault or f'ended with code {process.returncode}'}")
    reports[name] = with_its_shortfall(report, goal)
    return report


async def reported(process: asyncio.subprocess.Process) -> AsyncIterator[Report]:
    """What a child reports, until it has ended. Raises TimeoutError when it says nothing."""
    assert process.stdout
    while line := await asyncio.wait_for(process.stdout.readline(), SILENCE_SECONDS):
        told = json.loads(line)
        yield Report(**told | {"verdicts": Counter(told["verdicts"])})
    await process.wait()


def is_news(report: Report, last: Report | None) -> bool:
    """Whether more is told than before."""
    return last is None or (report.inputs, report.findings) != (last.inputs, last.findings)


async def end(process: asyncio.subprocess.Process) -> None:
    """End a child that has not ended, its sidecar and their files.

    Told once it stops where it waits, told again where it computes.
    """
    try:
        for _ in range(2):
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
    finally:
        if process.returncode != 0:
            with contextlib.suppress(ProcessLookupError):  # the sidecar of one that died, too
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def with_its_shortfall(report: Report, goal: int) -> Report:
    """The report; that inputs were left out is a finding, however the process ended."""
    if report.inputs < goal:
        report.findings.append(f"{report.target}: only {report.inputs:,} of {goal:,} inputs")
    return report


async def all_of(names: list[str], options: argparse.Namespace, reports: Reports) -> list[Report]:
    """Run targets, as many at a time as wanted; ``reports`` are kept up to date meanwhile.

    Raises CancelledError at SIGTERM, once all children have ended.
    """
    this = asyncio.current_task()
    assert this
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    room = asyncio.Semaphore(max(1, options.workers))

    async def next_one(name: str) -> Report:
        async with room:
            return await in_a_process(name, options, reports)

    return list(await asyncio.gather(*map(next_one, names)))


def summary(reports: list[Report]) -> str:
    """The table, and what became of the inputs by reason."""
    widths = {"inputs": 9, "accepted": 10, "refused": 9, "findings": 10, "growth MB": 11}
    heads = "".join(f"{head:>{width}}" for head, width in (widths | {"inputs/s": 10}).items())
    lines = [f"{'target':<18}{heads}"]
    for report in reports:
        accepted = sum(n for name, n in report.verdicts.items() if name.startswith("accepted"))
        refused = sum(report.verdicts.values()) - accepted
        rate = report.inputs / report.seconds if report.seconds else 0
        lines.append(
            f"{report.target:<18}{report.inputs:>9,}{accepted:>10,}{refused:>9,}"
            f"{len(report.findings):>10}{report.growth_mb:>11.1f}{rate:>10,.0f}"
        )
    for report in reports:
        lines += ["", report.target]
        lines += [f"  {count:>9,}  {name}" for name, count in report.verdicts.most_common()]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="notifications; others in proportion"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", nargs="*", choices=SHARES, default=list(SHARES))
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--examples", action="store_true", help="keep one input of each verdict")
    parser.add_argument("--target", choices=SHARES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def main() -> int:
    """The number of findings decides the exit code; a signal's is 128 and its number."""
    options = arguments()
    if options.target:
        return in_the_child(options)
    began, ended, reports = time.monotonic(), "", Reports()
    code = 0
    try:
        say(f"fuzz: seed {options.seed}; again with: {again(options)}")
        done = asyncio.run(all_of(options.only or list(SHARES), options, reports))
        say(f"\n{summary(done)}\n")
    except (KeyboardInterrupt, asyncio.CancelledError) as stopped:
        is_ctrl_c = isinstance(stopped, KeyboardInterrupt)
        code, ended = 128 + (signal.SIGINT if is_ctrl_c else signal.SIGTERM), "interrupted after "
    findings = [finding for report in reports.values() for finding in report.findings]
    for finding in findings:
        say(f"FINDING {finding}")
    inputs = sum(report.inputs for report in reports.values())
    say(
        f"fuzz: {ended}{inputs:,} inputs, {len(findings)} findings, seed {options.seed}, "
        f"{time.monotonic() - began:.0f} s"
    )
    return code or (1 if findings else 0)


def again(options: argparse.Namespace) -> str:
    """What to type for the same inputs."""
    only = (
        f" ONLY='{' '.join(options.only)}'"
        if options.only and set(options.only) != set(SHARES)
        else ""
    )
    return f"make fuzz RUNS={options.runs} SEED={options.seed}{only}"


def in_the_child(options: argparse.Namespace) -> int:
    """Run one target; SIGTERM ends it as Ctrl-C does, which is not for it to hear."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        asyncio.run(one(options.target, options))
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM
    return 0


if __name__ == "__main__":
    # A shell lets what it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
