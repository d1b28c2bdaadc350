"""When a run was, on what machine, and with which versions; never on which host."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import asyncpg

from bench.rig import Rig
from databases import Databases
from official_sdk.environment import LOCK

_LIBRARIES = ("antom-payments", "grpcio", "protobuf", "sqlalchemy", "asyncpg", "uvloop")


async def circumstances(databases: Databases, rig: Rig) -> dict[str, Any]:
    """What benchmarks.json says of a run beside its lines."""
    url = databases.server().url.set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        postgres = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("server_version", "fsync", "synchronous_commit")
        }
    finally:
        await connection.close()
    sdk = next(line for line in LOCK.read_text().splitlines() if line.startswith("global-open-sdk"))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "server_cores": len(rig.server_cores),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
        },
        "versions": {"Python": platform.python_version()}
        | {name: metadata.version(name) for name in _LIBRARIES}
        | {"official SDK": sdk.partition("==")[2].strip(" \\")},
        "postgres": postgres,
        "rounds": rig.rounds,
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
