"""A rendered pod as processes: its commands, environment, files, ports and probes, as they are.

What a kubelet would do and an image would hold is done here; nothing is added: a process gets the
image's and its container's environment, and reads only what its container mounts. Mounts are
folders of a temporary one, whose paths stand in for those that the environment names.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chart.helm import Manifest, containers, environment
from chart.image import Image, entrypoint
from processes import PATIENCE

Secrets = Mapping[str, Mapping[str, str]]
_HOST = "127.0.0.1"
_POLL_SECONDS = 0.05


@dataclass
class Pod:
    """The processes of one pod."""

    spec: Manifest
    image: Image
    folder: Path
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    def lay(self, secrets: Secrets) -> None:
        """Make the volumes, as a kubelet does before anything starts."""
        for volume in self.spec["volumes"]:
            place = self.folder / volume["name"]
            place.mkdir(parents=True)
            if "secret" in volume:
                secret = secrets[volume["secret"]["secretName"]]
                for item in volume["secret"]["items"]:
                    file = place / item["path"]
                    file.write_text(secret[item["key"]])
                    file.chmod(volume["secret"]["defaultMode"])

    async def start(self) -> None:
        """Start the containers one after the other, each when the one before it lets it."""
        for name, container in containers(self.spec).items():
            process = self.running[name] = await self._process(container)
            if name == "migrate":
                assert await process.wait() == 0, self.log(name)
            else:
                await self.until_it_passes(name, "startupProbe")

    async def ready(self) -> None:
        """Wait until every readiness probe passes."""
        for name in ("notifications", "server"):
            await self.until_it_passes(name, "readinessProbe")

    async def until_it_passes(self, name: str, probe: str) -> None:
        container = containers(self.spec)[name]
        async with asyncio.timeout(PATIENCE):
            while not await _passes(container, container[probe]):
                assert self.running[name].returncode is None, self.log(name)
                await asyncio.sleep(_POLL_SECONDS)

    async def terminate(self) -> dict[str, int]:
        """SIGTERM as Kubernetes gives it: the sidecar's comes when the server is gone; exit codes.

        Within the pod's grace, or it raises TimeoutError.
        """
        codes = {}
        async with asyncio.timeout(self.spec["terminationGracePeriodSeconds"]):
            for name in ("server", "notifications"):
                self.running[name].send_signal(signal.SIGTERM)
                codes[name] = await self.running[name].wait()
        return codes

    def kill(self) -> None:
        for process in self.running.values():
            if process.returncode is None:
                process.kill()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def environment_in(self, container: Manifest) -> dict[str, str]:
        """The process's whole environment, with the places of what is mounted."""
        places = {
            mount["mountPath"]: str(self.folder / mount["name"])
            for mount in container.get("volumeMounts", [])
        }
        # Whole paths, also those after a comma.
        mounted = re.compile(rf"(?<![^,])({'|'.join(map(re.escape, places))})(?=/)")
        return self.image.environment | {
            name: mounted.sub(lambda found: places[found[1]], value)
            for name, value in environment(container).items()
        }

    async def _process(self, container: Manifest) -> asyncio.subprocess.Process:
        with (self.folder / f"{container['name']}.log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                *(container.get("command") or entrypoint()),
                *container["args"],
                env=self.environment_in(container),
                cwd=self.folder / "tmp",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


@contextlib.asynccontextmanager
async def running(
    spec: Manifest, image: Image, folder: Path, secrets: Secrets
) -> AsyncIterator[Pod]:
    """A pod that is started while the block runs; killed when it has not ended then."""
    pod = Pod(spec, image, folder)
    pod.lay(secrets)
    try:
        await pod.start()
        yield pod
    finally:
        pod.kill()
        await asyncio.gather(*[process.wait() for process in pod.running.values()])


async def _passes(container: Manifest, probe: Mapping[str, Any]) -> bool:
    """One probe, as a kubelet asks."""
    timeout = probe.get("timeoutSeconds", 1)
    if "grpc" in probe:
        async with grpc.aio.insecure_channel(f"{_HOST}:{probe['grpc']['port']}") as channel:
            request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
            try:
                told = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except grpc.aio.AioRpcError:
                return False
        serving: bool = told.status == health_pb2.HealthCheckResponse.SERVING
        return serving
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    url = f"http://{_HOST}:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
    async with httpx.AsyncClient(trust_env=False, timeout=timeout) as http:
        with contextlib.suppress(httpx.HTTPError):
            return (await http.get(url)).is_success
    return False
