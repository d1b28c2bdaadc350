"""Names in the documentation are names of today: settings, metrics, fields, ports, values."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import astuple

import pytest
from google.protobuf.descriptor import Descriptor

from antom_payments.dev import LocalPorts
from antom_payments.instruments import CATALOGUE
from antom_payments.settings import PREFIX, Settings, variable
from antom_payments.v1 import order_pb2, payment_event_pb2, payment_pb2, payment_service_pb2
from chart_docs import CHART, SCHEMA
from docs_tables import ROOT
from metrics_docs import prometheus_name

# DECISIONS.md and what was released are history: their names may be of their time.
PAGES = {
    "CHANGELOG.md, Unreleased": (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1],
    **{
        str(page.relative_to(ROOT)): page.read_text("utf-8")
        for page in (
            *(ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", CHART / "README.md"),
            *(CHART / "values.yaml", CHART / "templates" / "NOTES.txt"),
            *sorted((ROOT / "docs").glob("*.md")),
        )
    },
}
CODE, PROTOS = (
    [path.read_text("utf-8") for path in (ROOT / folder).rglob(pattern)]
    for folder, pattern in (("service", "*.py"), ("proto", "*.proto"))
)
MODULES = (order_pb2, payment_event_pb2, payment_pb2, payment_service_pb2)
MESSAGES: dict[str, Descriptor] = {
    name: message
    for module in MODULES
    for name, message in module.DESCRIPTOR.message_types_by_name.items()
}

PROMETHEUS_NAMES = {prometheus_name(metric) for metric in CATALOGUE.values()} | {"target_info"}
LABEL_VALUES = {
    str(value)
    for metric in CATALOGUE.values()
    for values in metric.labels.values()
    if not isinstance(values, str)
    for value in values
}

page = pytest.mark.parametrize("page", PAGES)


@page
def test_every_setting_that_is_named_exists(page: str) -> None:
    known = {variable(name) for name in Settings.model_fields}
    for name in re.findall(rf"{PREFIX}[A-Z_]+\*?", PAGES[page]):
        wanted = re.compile(name.removesuffix("*") + (".+" if name.endswith("*") else ""))
        assert name == PREFIX + "*" or any(map(wanted.fullmatch, known)), name


@page
def test_every_metric_that_is_named_exists(page: str) -> None:
    known = set(CATALOGUE)
    # The attributes in the table of spans are held by test_trace_graph.py.
    text = re.sub(r"^\| `[^`]+` \| [A-Z]+ \|.*$", "", PAGES[page], flags=re.MULTILINE)
    named = set(re.findall(r"`(antom_payments\.[a-z_.]+)`", text))
    packages = {name for name in named if (ROOT / "service" / name.replace(".", "/")).is_dir()}
    services = {"antom_payments.v1"}
    assert named - packages - services <= known


@page
def test_every_name_in_snake_case_is_one_of_the_contract_or_the_code(page: str) -> None:
    words = {word for source in [*CODE, *PROTOS] for word in re.findall(r"\w+", source)}
    named = set(re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", PAGES[page]))
    assert named - PROMETHEUS_NAMES - LABEL_VALUES <= words


def calls() -> list[ast.Call]:
    """Every message that the README's Python makes."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGES["README.md"], re.DOTALL | re.MULTILINE)
    return [
        node
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in MESSAGES
    ]


def test_python_in_the_readme_sets_fields_of_the_contract() -> None:
    assert len(calls()) > 3
    for call in calls():
        assert isinstance(call.func, ast.Name)
        fields = {field.name for field in MESSAGES[call.func.id].fields}
        assert {keyword.arg for keyword in call.keywords} <= fields, call.func.id


@page
def test_every_port_that_is_named_is_a_default(page: str) -> None:
    ports = set(astuple(LocalPorts()))
    named = re.findall(r"(?:127\.0\.0\.1|0\.0\.0\.0|localhost):(\d+)", PAGES[page])
    assert {int(port) for port in named} <= ports


@pytest.mark.parametrize("file", ["README.md", "values.yaml", "templates/NOTES.txt"])
def test_every_value_that_the_chart_names_exists(file: str) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    # The others hold Kubernetes' own objects.
    ours = "|".join(name for name, one in schema["properties"].items() if "properties" in one)
    text = PAGES[str((CHART / file).relative_to(ROOT))]
    for path in re.findall(rf"(?<![\w/-])((?:{ours})(?:\.[A-Za-z]+)+)", text):
        allowed = schema
        for key in path.split("."):
            if "$ref" in allowed:
                allowed = schema["definitions"][allowed["$ref"].rpartition("/")[2]]
            assert key in allowed["properties"], path
            allowed = allowed["properties"][key]


def test_what_is_held_to_the_code_is_found_in_the_pages() -> None:
    together = "\n".join(PAGES.values())
    for name in ("ANTOM_PAYMENTS_DATABASE_URL", "`antom_payments.inquiries`", "settings.notifyUrl"):
        assert name in together
