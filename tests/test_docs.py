"""What the documentation says is so: commands, settings, reasons, states, links and code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from google.protobuf import json_format, symbol_database

from antom_payments.__main__ import cli
from antom_payments.client.errors import CallFailed, Details, kind_of
from antom_payments.grpc_api.errors import ERRORS
from antom_payments.sdk_event import NextStep
from antom_payments.v1 import error_reason_pb2, payment_service_pb2
from docs_tables import ROOT, TABLES, with_tables

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / "service" / "DECISIONS.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy" / "helm" / "antom-payments" / "README.md",
]
README = (ROOT / "README.md").read_text("utf-8")
PREFIX = "ERROR_REASON_"


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Every `antom-payments …` in code, split into words."""
    code = [*re.findall(r"`([^`\n]+)`", text), *"\n".join(blocks(text, "sh")).split("\n")]
    for line in code:
        found = re.search(r"(?:^|\bbin/)antom-payments ([a-z].*)", line)
        if found:
            yield found[1].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    program: Any = typer.main.get_command(cli)
    for words in commands(page.read_text("utf-8")):
        command, name = program, ""
        while words and hasattr(command, "commands"):
            name = words.pop(0)
            command = command.commands.get(name)
            assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{name}: {used - known}"


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.name)
def test_tables_made_from_code_are_fresh(file: Path) -> None:
    text = file.read_text("utf-8")
    assert text == with_tables(text, TABLES[file]), "run make docs"


def error_rows() -> dict[str, tuple[str, str]]:
    """Code and client error of each reason in docs/errors.md."""
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| [^|]+ \| [^|]+ \| `(\w+)` \|$", text, re.MULTILINE
    )
    return {reason: (code, raised) for reason, code, raised in rows}


def test_every_reason_is_explained_with_the_code_that_the_server_sends() -> None:
    sent = {
        error_reason_pb2.ErrorReason.Name(reason).removeprefix(PREFIX): code.name
        for code, reason in ERRORS.values()
    }
    names = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    reasons = {name.removeprefix(PREFIX) for name in names}
    assert set(sent) == reasons - {"UNSPECIFIED"}
    assert {reason: code for reason, (code, _) in error_rows().items()} == sent


def test_every_reason_is_explained_with_the_error_that_the_client_raises() -> None:
    for reason, (code, raised) in error_rows().items():
        kind = kind_of(grpc.StatusCode[code], Details(reason=reason))
        assert issubclass(kind, CallFailed)
        assert kind.__name__ == raised, reason


def test_every_reason_names_the_same_code_in_the_contract() -> None:
    text = (ROOT / "proto/antom_payments/v1/error_reason.proto").read_text("utf-8")
    told = {}
    for comment, name in re.findall(r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) = ", text):
        sentence = " ".join(comment.replace("//", " ").split())
        if code := re.search(r"Code ([A-Z_]+)\.", sentence):
            told[name] = code[1]
    assert told == {reason: code for reason, (code, _) in error_rows().items()}


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page: its headings, as they are rendered."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_relative_link_is_broken(page: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    for target in (target for target in targets if "://" not in target):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize(
    "code", [code for page in PAGES for code in blocks(page.read_text("utf-8"), "python")]
)
def test_python_in_a_page_compiles_and_imports_what_exists(code: str) -> None:
    tree = ast.parse(code)
    compile(tree, "page", "exec")
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "page", "exec"), {})  # noqa: S102 our own page


def test_every_next_step_of_a_front_end_is_explained() -> None:
    page = (ROOT / "docs" / "client-sdks.md").read_text("utf-8")
    assert re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \|$", page, re.MULTILINE) == list(NextStep)


def test_calls_by_hand_in_the_readme_are_calls_of_the_contract() -> None:
    service = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
    calls = re.findall(r"--data '([^']+)' \\\n\s+http://[^/]+/([\w.]+)/(\w+)", README)
    assert calls
    for data, service_name, method_name in calls:
        assert service_name == service.full_name
        request = symbol_database.Default().GetSymbol(
            service.methods_by_name[method_name].input_type.full_name
        )
        json_format.ParseDict(json.loads(data), request())


def test_commands_are_found_in_code() -> None:
    assert list(commands("`antom-payments watch --earliest`")) == [["watch", "--earliest"]]
    assert list(commands("`antom-payments quarantine list`")) == [["quarantine", "list"]]
