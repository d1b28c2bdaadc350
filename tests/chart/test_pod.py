"""A payment through the rendered release: its commands, environment and files as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest

from antom.wires import free_port
from antom_payments.client import Earliest
from antom_payments.emulator import Step
from antom_payments.store import new_data_key
from antom_payments.v1.payment_pb2 import PaymentState
from chart.helm import Manifest, containers, of_kind, pod_of, render, the, values
from chart.image import Image, build
from chart.pod import Pod, Secrets, running
from databases import POSTGRES, Databases
from keys import golden_pair
from processes import left_in
from whole import CLIENT_ID, PATH, Shop, caller, local_antom, settings

_PORTS = ("grpc", "notifications", "admin", "notificationAdmin")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"))


def secrets(database_url: str) -> Secrets:
    """The Secrets that ci/minimal-values.yaml names, with the keys of values.yaml."""
    return {
        "payments-database": {"url": database_url + "\n"},
        "payments-data-key": {"data_key.txt": new_data_key()},
        "payments-merchant": {"merchant_private_key.txt": golden_pair("merchant").private},
        "payments-antom": {"antom_public_key.txt": golden_pair("antom").public},
    }


def release(antom_url: str) -> list[Manifest]:
    """The smallest release, on this machine's loopback."""
    ports = {name: free_port() for name in _PORTS}
    return render(
        values(
            ports=ports,
            listenHost="127.0.0.1",
            settings={
                "antomUrl": antom_url,
                "clientId": CLIENT_ID,
                "notifyUrl": f"http://127.0.0.1:{ports['notifications']}{PATH}",
                "drainDelaySeconds": 0,
                "drainGraceSeconds": 1,
            },
        )
    )


def address(manifests: list[Manifest], service: str, port: int) -> str:
    """Where a Service's port leads: the container port that its target names."""
    (found,) = (
        one["spec"] for one in of_kind(manifests, "Service") if one["metadata"]["name"] == service
    )
    (target,) = (one["targetPort"] for one in found["ports"] if one["port"] == port)
    ports = {
        one["name"]: one["containerPort"]
        for container in containers(pod_of(manifests)).values()
        for one in container.get("ports", [])
    }
    return f"127.0.0.1:{ports[target]}"


async def test_a_payment_goes_through_what_the_chart_renders(
    databases: Databases, image: Image, tmp_path: Path
) -> None:
    async with (
        databases.fresh(POSTGRES, migrated=False) as database_url,
        local_antom() as (antom, antom_url),
    ):
        manifests = release(antom_url)
        spec = pod_of(manifests)
        async with running(spec, image, tmp_path / "pod", secrets(database_url)) as pod:
            await pod.ready()
            grpc_address = address(manifests, "payments-antom-payments", 50051)
            async with caller(int(grpc_address.rpartition(":")[2])) as payments:
                shop = Shop(payments, antom, settings(tmp_path))
                await shop.create()
                await shop.buyer(Step.APPROVE)
                async with shop.following(Earliest()) as follower:
                    told = [state for _, state, _ in await follower.until(3)]
                payment = await shop.read()
            await the_release_tests_itself(manifests, pod)
            assert await pod.terminate() == {"server": 0, "notifications": 0}
        assert told == ["AWAITING_BUYER", "AUTHORIZED", "SUCCEEDED"]
        assert payment.state == PaymentState.PAYMENT_STATE_SUCCEEDED
        assert {delivery.state for delivery in antom.deliveries} == {"ACKNOWLEDGED"}
        # The root file system is read-only, and nobody wanted even the folder that is not.
        assert left_in(tmp_path / "pod" / "tmp") == []
        for name in pod.running:
            assert "setting_unknown" not in pod.log(name)


async def the_release_tests_itself(manifests: list[Manifest], pod: Pod) -> None:
    """`helm test`, with the names of Services resolved as the cluster's DNS would."""
    (container,) = the(manifests, "Pod")["spec"]["containers"]
    script, server, notify_url = container["args"]
    service, port = server.split(":")
    host, _, path = notify_url.removeprefix("http://").partition("/")
    sidecar, sidecar_port = host.split(":")
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(*container["command"], script, address(manifests, service, int(port))),
            f"http://{address(manifests, sidecar, int(sidecar_port))}/{path}",
        ],
        env=pod.environment_in(container),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ready, and believes signatures only\n"


async def test_pods_that_start_at_once_migrate_one_after_the_other(
    databases: Databases, image: Image, tmp_path: Path
) -> None:
    async with databases.fresh(POSTGRES, migrated=False) as database_url:
        spec = pod_of(release("http://127.0.0.1:1"))
        only = {**spec, "initContainers": spec["initContainers"][:1], "containers": []}
        async with contextlib.AsyncExitStack() as parts:
            pods = await asyncio.gather(
                *[
                    parts.enter_async_context(
                        running(only, image, tmp_path / str(number), secrets(database_url))
                    )
                    for number in range(2)
                ]
            )
        logs = {pod.log("migrate") for pod in pods}
    assert [log.startswith("The schema is at revision") for log in logs] == [True]
