"""The image as far as it can be had without an engine: its Dockerfile and its packages."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chart.helm import deploy_tools
from made import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LOCKS = ROOT / "deploy" / "locks"


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile and its arguments, in order."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if line[:1] != "#"]
    text = "\n".join(lines).replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines() if line]
    return [(word, " ".join(rest.split())) for word, _, rest in found]


def of_last_stage(word: str) -> list[str]:
    """The arguments of an instruction in the stage that becomes the image."""
    every = instructions()
    begin = max(index for index, (name, _) in enumerate(every) if name == "FROM")
    return [arguments for name, arguments in every[begin:] if name == word]


def entrypoint() -> list[str]:
    (arguments,) = of_last_stage("ENTRYPOINT")
    command: list[str] = json.loads(arguments)
    return command


def environment_of_image() -> dict[str, str]:
    pairs = [pair.partition("=") for line in of_last_stage("ENV") for pair in shlex.split(line)]
    return {name: value for name, _, value in pairs}


def locked(file: Path) -> dict[str, frozenset[str]]:
    """Packages of a lock by name and version, with their hashes."""
    stanzas = re.findall(
        r"^([a-z0-9._-]+(?:\[.*\])?==\S+)[^\n]*((?:\n    --hash=\S+(?: \\)?)+)",
        file.read_text("utf-8"),
        re.MULTILINE,
    )
    return {name: frozenset(re.findall(r"sha256:[0-9a-f]{64}", hashes)) for name, hashes in stanzas}


@dataclass(frozen=True)
class Image:
    """The locked packages of the image, and the package that its first stage builds."""

    site: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process in the image finds, and nothing of ours."""
        python = deploy_tools() / "image" / "bin"
        path = f"{self.site / 'bin'}:{python}:/usr/bin:/bin"
        return environment_of_image() | {"PATH": path, "PYTHONPATH": str(self.site)}


def build(folder: Path) -> Image:
    """The image's packages, with our package built as the Dockerfile builds it."""
    dist, site = folder / "dist", folder / "site"
    build = ("-m", "hatchling", "build", "--target", "wheel", "--directory", str(dist))
    assert any(" ".join(build[:5]) in line for _, line in instructions())
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = dist.glob("*.whl")
    python = deploy_tools() / "image" / "bin" / "python"
    uv = Path(sys.executable).parent / "uv"
    install = ("pip", "install", "--quiet", "--no-deps", "--compile-bytecode")
    subprocess.run(
        [str(uv), *install, "--python", str(python), "--target", str(site), str(wheel)],
        check=True,
        capture_output=True,
    )
    return Image(site)
