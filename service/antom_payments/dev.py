"""The whole product on one machine: server, sidecar and a local Antom, each a real process.

Everything lives in one folder: an embedded SQLite database and generated keys. What the processes
print is passed on, with the name of the process before each line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from antom_payments.errors import ConfigurationError
from antom_payments.keygen import write_data_key, write_key_pair
from antom_payments.settings import PREFIX

CLIENT_ID = "SANDBOX_5X00000000000000"
_UNNAMED = range(20_000, 32_000)
"""Ports for 0. Linux gives them to nobody else between our choice and the process' start."""
_START_SECONDS = 120.0
"""Longest start of a process: the first one after an installation compiles every module."""
_STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class LocalPorts:
    """Loopback ports of the three processes; 0 lets the system choose one that is free."""

    grpc: int = 50051
    notifications: int = 8080
    notification_admin: int = 8081
    emulator: int = 8090
    admin: int = 8082

    def chosen(self) -> LocalPorts:
        """The same, with a free port for each 0.

        Raises ConfigurationError when a port that is asked for is taken.
        """
        with contextlib.ExitStack() as held:
            # All are held until the last is chosen: none is chosen twice.
            return LocalPorts(*(_free_port(port, held) for port in self._all()))

    def _all(self) -> tuple[int, ...]:
        return astuple(self)


@dataclass(frozen=True, slots=True)
class LocalStack:
    """Where the running processes answer."""

    grpc_address: str
    notify_url: str
    emulator_url: str
    environment: Mapping[str, str]
    """`ANTOM_PAYMENTS_*` as the processes got them: for further commands."""
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    metrics_url: str = ""
    """Of the server."""
    sidecar_metrics_url: str = ""

    async def first_ended(self) -> str:
        """Wait until one of the processes ends, which none should; its name."""
        waits = {
            asyncio.create_task(process.wait(), name=name)
            for name, process in self.processes.items()
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().get_name()
        finally:
            for wait in waits:
                wait.cancel()


@contextlib.asynccontextmanager
async def local_stack(
    folder: Path,
    ports: LocalPorts,
    *,
    say: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
    clock_scale: float = 1.0,
) -> AsyncIterator[LocalStack]:
    """Run server, sidecar and emulator while the block runs; all three ready when it begins.

    Args:
        folder: database and keys; made when they are not there.
        ports: where they listen.
        say: called with each line that a process prints.
        environment: of the processes, without what is set here.
        clock_scale: how fast the local Antom's time passes (resends, expiry).

    Raises:
        ConfigurationError: a port is taken.
        RuntimeError: a process ended before it was ready.
    """
    ports = ports.chosen()
    stack = _describe(folder, ports)
    # gRPC would ask the environment's proxy for loopback, too.
    direct = ",".join(filter(None, ("127.0.0.1", environment.get("no_proxy"))))
    environment = {**environment, "no_proxy": direct, **stack.environment}
    command = [sys.executable, "-m", "antom_payments"]
    emulator = [
        *("emulator", "--address", f"127.0.0.1:{ports.emulator}"),
        *("--antom-private-key", str(folder / "antom_private_key.txt")),
        *("--merchant-public-key", str(folder / "merchant_public_key.txt")),
        *("--clock-scale", str(clock_scale)),
    ]
    async with contextlib.AsyncExitStack() as running:
        for name, arguments in (
            ("emulator", emulator),
            ("server", ["serve"]),
            ("sidecar", ["notifications"]),
        ):
            stack.processes[name] = await running.enter_async_context(
                _process(name, [*command, *arguments], environment, say)
            )
        for name, process in stack.processes.items():
            await _ready(name, process, ports)
        yield stack


def _describe(folder: Path, ports: LocalPorts) -> LocalStack:
    """Make keys where there are none, and say how the processes find each other."""
    for name in ("merchant", "antom"):
        if not (folder / f"{name}_private_key.txt").exists():
            write_key_pair(folder, name)
    if not (folder / "data_key.txt").exists():
        write_data_key(folder)
    notify_url = f"http://127.0.0.1:{ports.notifications}/antom/notify"
    emulator_url = f"http://127.0.0.1:{ports.emulator}"
    own = {
        "DATABASE_URL": f"sqlite:///{(folder / 'payments.db').absolute()}",
        "DATABASE_URL_FILE": "",
        "DATA_KEY_FILE": str(folder / "data_key.txt"),
        "CLIENT_ID": CLIENT_ID,
        "ANTOM_URL": emulator_url,
        "ANTOM_PUBLIC_KEY_FILES": str(folder / "antom_public_key.txt"),
        "MERCHANT_PRIVATE_KEY_FILE": str(folder / "merchant_private_key.txt"),
        "NOTIFY_URL": notify_url,
        "GRPC_ADDRESS": f"127.0.0.1:{ports.grpc}",
        "GRPC_REFLECTION": "true",
        "NOTIFICATION_ADDRESS": f"127.0.0.1:{ports.notifications}",
        "NOTIFICATION_PATH": "/antom/notify",
        "ADMIN_ADDRESS": f"127.0.0.1:{ports.admin}",
        "NOTIFICATION_ADMIN_ADDRESS": f"127.0.0.1:{ports.notification_admin}",
        "DRAIN_DELAY_SECONDS": "0",
        "DRAIN_GRACE_SECONDS": "5",
        "LOG_FORMAT": "console",
    }
    return LocalStack(
        grpc_address=f"127.0.0.1:{ports.grpc}",
        notify_url=notify_url,
        emulator_url=emulator_url,
        metrics_url=f"http://127.0.0.1:{ports.admin}/metrics",
        sidecar_metrics_url=f"http://127.0.0.1:{ports.notification_admin}/metrics",
        environment={PREFIX + name: value for name, value in own.items()},
    )


@contextlib.asynccontextmanager
async def _process(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is ended with the block: SIGTERM, and SIGKILL when it does not listen."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C is for us: we end the processes in order.
        start_new_session=True,
    )
    pump = asyncio.create_task(_pass_on(name, process, say))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        await pump


async def _pass_on(
    name: str, process: asyncio.subprocess.Process, say: Callable[[str], None]
) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    async for line in process.stdout:
        say(f"{name:<8} | {line.decode(errors='replace').rstrip()}")


async def _ready(name: str, process: asyncio.subprocess.Process, ports: LocalPorts) -> None:
    """Wait until the process can do its work.

    Raises RuntimeError when it ends first, or is not ready in time.
    """
    asks: dict[str, Callable[[], Awaitable[bool]]] = {
        "server": lambda: _serves(f"127.0.0.1:{ports.grpc}"),
        "sidecar": lambda: _answers(f"http://127.0.0.1:{ports.notification_admin}/readyz"),
        "emulator": lambda: _answers(f"http://127.0.0.1:{ports.emulator}/emulator/health"),
    }
    is_ready = asks[name]
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                if await is_ready():
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"the {name} is not ready after {_START_SECONDS:.0f} s") from None
    raise RuntimeError(f"the {name} ended with exit code {process.returncode}; see its lines above")


async def _serves(address: str) -> bool:
    direct = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options=direct) as channel:
        request = health_pb2.HealthCheckRequest(service="readiness")
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(request, timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=1) as http:
        try:
            return (await http.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def _free_port(port: int, held: contextlib.ExitStack) -> int:
    for candidate in [port] if port else random.sample(_UNNAMED, len(_UNNAMED)):
        probe = held.enter_context(socket.socket())
        if port:
            # As the servers do: connections of the last run may still linger.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            return candidate
        probe.close()
    raise ConfigurationError(
        f"port {port}",
        "is taken by another program; choose another one, or 0 for a free one (see --help)",
    )


async def run_dev(folder: Path, ports: LocalPorts, *, say: Callable[[str], None]) -> int:
    """Run the product for a developer until Ctrl-C; 1 when one of its processes ended by itself."""
    program = sys.argv[0] if sys.argv[0].endswith("antom-payments") else "antom-payments"
    say(f"Starting in {folder} ...")
    async with local_stack(folder, ports, say=say) as stack:
        say("")
        say(f"Ready. gRPC (plaintext, with reflection) on {stack.grpc_address}; call it:")
        at = "" if stack.grpc_address == "127.0.0.1:50051" else f" --address {stack.grpc_address}"
        say(f"  {program} watch --earliest{at}")
        say(
            f"  {program} create-session --payment-request-id pay-1 --amount 4200 "
            f"--currency SGD{at}"
        )
        say("Then pay as the buyer would:")
        say(f"""  curl -d '{{"action": "approve"}}' {stack.emulator_url}/emulator/buyer/pay-1""")
        say(f"Metrics of the server: {stack.metrics_url}")
        say(f"Metrics of the sidecar: {stack.sidecar_metrics_url}")
        say("Ctrl-C ends it; database and keys stay in the folder. The local Antom keeps nothing:")
        say("payments left open cannot be paid after a restart; use new ids then.")
        say("")
        ended = await stack.first_ended()
    say(f"The {ended} ended by itself; see its lines above.")
    return 1
