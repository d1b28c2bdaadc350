"""What holds for the whole code: import contracts, sizes, complete tables, fresh generated code."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import antom_payments
from antom_payments import errors

ROOT = Path(__file__).parent.parent
PACKAGE = Path(antom_payments.__file__).parent
BIN = Path(sys.executable).parent
GENERATED = PACKAGE / "v1"
MAX_MODULE_LINES = 420
"""About 400: one or two too many are no reason to tear a module apart."""
MAX_FUNCTION_LINES = 45
WEASEL_NAMES = {"manager", "helper", "helpers", "handler", "processor", "util", "utils"} | {
    "common",
    "base",
    "misc",
    "stuff",
}


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(GENERATED))


def _named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(BIN / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    options = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python")]
    protos = [str(path) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *options, *protos],
        check=True,
    )
    made = {path.name: path.read_text() for path in (tmp_path / "antom_payments/v1").iterdir()}
    kept = {name: (GENERATED / name).read_text() for name in made}
    assert made == kept, "run `make proto`"
    assert {path.name for path in GENERATED.glob("*_pb2*.py")} == set(made)


def test_no_module_is_longer_than_about_400_lines() -> None:
    lengths = {_named(path): len(path.read_text().splitlines()) for path in _modules()}
    assert {n: length for n, length in lengths.items() if length > MAX_MODULE_LINES} == {}


def test_no_function_is_longer_than_45_lines() -> None:
    too_long = {
        f"{_named(path)}: {node.name}": length
        for path in _modules()
        # A migration is a list of columns, not a function to be followed.
        if path.parent.name != "versions"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := _body_lines(node)) > MAX_FUNCTION_LINES
    }
    assert too_long == {}


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = node.body[0]
    docstring = 0
    if ast.get_docstring(node) is not None:
        docstring = (first.end_lineno or 0) - first.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_modules_are_nouns_of_the_field() -> None:
    words = {
        _named(path) for path in _modules() if set(path.stem.lower().split("_")) & WEASEL_NAMES
    }
    assert words == set()


def test_nothing_is_left_for_later() -> None:
    marks = ("TODO", "FIXME", "XXX", "HACK", "NotImplementedError")
    found = {
        f"{_named(path)}: {mark}"
        for path in _modules()
        for mark in marks
        if mark in path.read_text()
    }
    assert found == set()


def test_every_module_imports_and_says_what_it_is() -> None:
    for found in pkgutil.walk_packages([str(PACKAGE)], prefix="antom_payments."):
        if ".v1." in found.name or ".migrations." in found.name or "__main__" in found.name:
            continue
        assert inspect.getdoc(importlib.import_module(found.name)), found.name


def test_only_settings_reads_variables_of_the_environment() -> None:
    readers = {
        _named(path)
        for path in _modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if _reads_a_variable(node)
    }
    # OTEL_* are OpenTelemetry's; the demo hands its environment on to the processes it starts.
    assert readers <= {"telemetry.py", "demo.py"}, "the rest is for settings"


def _reads_a_variable(node: ast.AST) -> bool:
    """`os.environ[…]`, `os.environ.get(…)` or `os.getenv(…)`; passing it on whole is no reading."""
    inner = node.value if isinstance(node, ast.Subscript | ast.Attribute) else None
    of_environ = isinstance(inner, ast.Attribute) and inner.attr == "environ"
    if isinstance(node, ast.Attribute):
        return node.attr == "getenv" or (of_environ and node.attr not in {"items", "setdefault"})
    return of_environ


def _leaves() -> list[type[errors.PaymentsError]]:
    return [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind)
        and issubclass(kind, errors.PaymentsError)
        and not kind.__subclasses__()
    ]


@pytest.mark.parametrize("error", _leaves(), ids=lambda error: error.__name__)
def test_every_error_has_a_row_in_the_table_of_the_wire(error: type[errors.PaymentsError]) -> None:
    table = importlib.import_module("antom_payments.grpc_api.errors").ERRORS
    assert error in table


def test_the_tree_at_the_top_of_errors_names_every_error() -> None:
    documented = errors.__doc__ or ""
    missing = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.PaymentsError)
        if name not in documented
    }
    assert missing == set()


@pytest.mark.parametrize(
    "file",
    [
        *(
            "LICENSE",
            "README.md",
            "CHANGELOG.md",
            "Makefile",
            "pyproject.toml",
            "requirements.lock",
        ),
        *(".ci/run", ".github/CONTRIBUTING.md", ".pre-commit-config.yaml", ".gitignore"),
        *("deploy/Dockerfile", "deploy/helm/antom-payments/README.md"),
        *("service/DECISIONS.md", "service/antom_payments/py.typed", "proto/buf.yaml"),
    ],
)
def test_the_repository_has_what_a_newcomer_looks_for(file: str) -> None:
    assert (ROOT / file).read_text().strip() or file.endswith("py.typed")


def test_the_lock_names_hashes_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in "\n".join(line for line in lock.splitlines() if not line.startswith("#"))


def test_every_test_has_the_same_name_in_every_process(request: pytest.FixtureRequest) -> None:
    """Workers hand out tests by name; addresses and the order of sets differ between them."""
    names = [item.nodeid for item in request.session.items]
    assert [name for name in names if " at 0x" in name or "set(" in name] == []
