"""A real helm over our chart: what it renders, and what it refuses."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chart_docs import CHART
from made import make

FOLDER = Path(sys.prefix) / "deploy"
NAMESPACE, RELEASE = "shop", "payments"
MINIMAL, FULL = (CHART / "ci" / f"{name}-values.yaml" for name in ("minimal", "full"))

Manifest = dict[str, Any]
Values = dict[str, Any]


class ChartRefused(Exception):
    """helm's words."""


@cache
def deploy_tools() -> Path:
    """The folder of helm and of the image's packages, as `make deploy-tools` installs them.

    Raises:
        NotMade: there is no package index, for instance.
    """
    make("deploy-tools")
    return FOLDER


def values(file: Path = MINIMAL, **changes: Any) -> Values:
    """Values of a file below ci/, with changes of single ones at any depth."""
    return _merged(yaml.safe_load(file.read_text("utf-8")), changes)


def render(given: Values, *options: str) -> list[Manifest]:
    """What the release of our tests consists of. Raises ChartRefused."""
    made = yaml.safe_load_all(_helm("template", given, *options))
    return [manifest for manifest in made if manifest]


def notes(given: Values) -> str:
    """What whoever installs the release is told. Raises ChartRefused."""
    return _helm("install", given, "--dry-run=client").partition("\nNOTES:\n")[2]


def _helm(command: str, given: Values, *options: str) -> str:
    done = subprocess.run(
        [
            *(str(deploy_tools() / "bin" / "helm"), command, RELEASE, str(CHART)),
            *("--namespace", NAMESPACE, "--values", "-", *options),
        ],
        input=yaml.safe_dump(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChartRefused(done.stderr)
    return done.stdout


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def the(manifests: list[Manifest], kind: str) -> Manifest:
    """The only one of its kind."""
    (manifest,) = of_kind(manifests, kind)
    return manifest


def pod_of(manifests: list[Manifest]) -> Manifest:
    """The spec of the Deployment's pods."""
    spec: Manifest = the(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def containers(pod: Manifest) -> dict[str, Manifest]:
    """All containers of a pod, in the order in which they start."""
    every = [*pod.get("initContainers", []), *pod["containers"]]
    return {container["name"]: container for container in every}


def environment(container: Manifest) -> dict[str, str]:
    """What is set in it; it refers to nothing."""
    assert all(set(variable) == {"name", "value"} for variable in container.get("env", []))
    names = [variable["name"] for variable in container.get("env", [])]
    assert len(set(names)) == len(names)
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


def _merged(below: Values, above: Values) -> Values:
    merged = copy.deepcopy(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(old, value) if both else value
    return merged
