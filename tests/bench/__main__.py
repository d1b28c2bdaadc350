"""How fast it is: `make bench`.

All measurements in one run, or those named with `--only`. Each plays ours against its peer in turns
and judges the median of their ratio; a floor that is missed makes the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import postgres_server
from bench import acknowledgements, fan_out, latency, memory, reads, report, sessions, signing
from bench.circumstances import circumstances
from bench.rig import Rig
from bench.rounds import Line
from databases import Databases
from postgres_server import Choice

MEASUREMENTS: Mapping[str, Callable[[Rig], Awaitable[list[Line]]]] = {
    "signing": signing.measure,
    "create_session": sessions.measure,
    "get_payment": reads.measure,
    "notifications": acknowledgements.measure,
    "latency": latency.measure,
    "fan_out": fan_out.measure,
    "memory": memory.measure,
    "telemetry": reads.measure_telemetry,
}


async def run(rig: Rig, names: list[str]) -> list[Line]:
    """The named measurements, one after the other."""
    lines: list[Line] = []
    for name in names:
        began = time.monotonic()
        found = await MEASUREMENTS[name](rig)
        for line in found:
            rig.progress(report.sentence(line.to_json()))
        rig.progress(f"  ({name}: {time.monotonic() - began:.0f} s)")
        lines += found
    return lines


@contextlib.asynccontextmanager
async def databases(folder: Path) -> AsyncIterator[Databases]:
    """TEST_DATABASE_URL's, or a PostgreSQL of our own on a disk, with fsync on."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        made = Databases(Choice.GIVEN, os.environ, folder)
    else:
        server = postgres_server.embedded(postgres_server.wheel(), is_durable=True)
        url = server.url.render_as_string(hide_password=False)
        made = Databases(Choice.GIVEN, {"TEST_DATABASE_URL": url}, folder)
    try:
        yield made
    finally:
        await made.stop()
        if not given:
            server.stop()


async def main(rounds: int, names: list[str], out: Path) -> int:
    # /tmp is in memory on some systems, where a commit waits for no disk.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as text:
        folder = Path(text)
        async with databases(folder) as source:
            rig = Rig(folder, source.fresh, rounds, progress=say)
            about = await circumstances(source, rig)
            say(report.heading(about))
            lines = await run(rig, names)
    return conclude(about | {"lines": [line.to_json() for line in lines]}, out)


def conclude(results: report.Results, out: Path) -> int:
    """Write and print what was found; 1 when a floor was missed."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (out / "benchmarks.svg").write_text(report.picture(results), "utf-8")
    report.show(results)
    missed = [line for line in results["lines"] if not line["reached"]]
    for line in missed:
        say(f"MISSED: {report.sentence(line)}, the floor is {line['floor']}")
    return 1 if missed else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="names, with commas")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON and picture")
    told = parser.parse_args()
    wanted = told.only.split(",")
    if unknown := set(wanted) - set(MEASUREMENTS):
        parser.error(f"{unknown.pop()} is none of {', '.join(MEASUREMENTS)}")
    sys.exit(asyncio.run(main(told.rounds, wanted, told.out)))
