"""docs/clients.md tells of JavaScript that is run here, and of a template that buf takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from node.driver import environment
from node.installed import CLIENT, NodeClient
from test_docs import blocks

ROOT = CLIENT.parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text("utf-8")
# Says which packages it was asked to make code for.
PLUGIN = """#!{python}
import pathlib, sys
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
asked = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
options = [file.options for file in asked.proto_file]
told = CodeGeneratorResponse()
told.file.add(
    name=f"{{pathlib.Path(sys.argv[0]).name}}.txt",
    content="\\n".join(f"{{one.go_package}} {{one.java_package}}" for one in options),
)
sys.stdout.buffer.write(told.SerializeToString())
"""
# The compiler makes Java by itself; ours has no Java in it.
PROTOC = "#!/bin/sh\necho libprotoc 32.0\n"


@pytest.mark.parametrize("code", blocks(PAGE, "js"))
def test_javascript_of_the_page_is_code_that_is_tested(code: str) -> None:
    assert any(code in file.read_text("utf-8") for file in CLIENT.glob("*.mjs"))


def test_every_file_of_the_client_is_short_enough_to_be_copied() -> None:
    for file in CLIENT.glob("*.mjs"):
        assert len(file.read_text("utf-8").splitlines()) <= 200, file.name


@pytest.mark.parametrize("words", [[], ["127.0.0.1:1"]])
def test_the_example_says_how_it_is_called(node_client: NodeClient, words: list[str]) -> None:
    done = subprocess.run(
        [node_client.node, CLIENT / "example.mjs", *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: node example.mjs TARGET PAYMENT_REQUEST_ID\n"


def test_the_template_makes_code_in_packages_of_ones_own(tmp_path: Path) -> None:
    [template] = blocks(PAGE, "yaml")
    (tmp_path / "buf.gen.yaml").write_text(template)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in re.findall(r"local: (\S+)", template):
        (binaries / name).write_text(PLUGIN.format(python=sys.executable))
    (binaries / "protoc").write_text(PROTOC)
    for program in binaries.iterdir():
        program.chmod(0o755)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("buf")), "generate", str(ROOT / "proto")],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours = "shop.example/gen/antom_payments/v1;antom_paymentsv1 example.shop.antom_payments.v1"
    for made in ("go/protoc-gen-go.txt", "java/protoc-gen-grpc-java.txt"):
        assert ours in (tmp_path / "gen" / made).read_text(), made
