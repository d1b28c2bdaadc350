"""The page of guarantees names tests and settings of today, for every promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from antom_payments.settings import Settings, variable
from docs_tables import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
PROMISES = dict(re.findall(r"^### (.+)\n((?:(?!^##).*\n)*)", PAGE, re.MULTILINE))
OF_THE_STREAM = [
    *("Ordered", "Unique", "Reliable", "Atomic", "Resumable", "Bookmarkable"),
    *("Scoped", "Expiring loudly", "Live"),
]

promise = pytest.mark.parametrize("title", PROMISES)


def line(title: str, beginning: str) -> str:
    """The line of a promise that begins so."""
    [found] = re.findall(rf"^- (?:{beginning}): (.+)$", PROMISES[title], re.MULTILINE)
    return str(found)


def names_of_tests(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


@promise
def test_every_test_of_a_promise_exists(title: str) -> None:
    named = re.findall(r"`(tests/[^`]+)`", line(title, "Tests"))
    assert named
    for path, _, name in (test.partition("::") for test in named):
        assert name in names_of_tests(ROOT / path), f"{path}::{name}"


@promise
def test_every_setting_of_a_promise_exists(title: str) -> None:
    told = line(title, "Settings")
    named = set(re.findall(r"`(ANTOM_PAYMENTS_\w+)`", told))
    assert named or told.startswith("none")
    assert named <= {variable(name) for name in Settings.model_fields}


@promise
def test_every_promise_says_what_it_does_not_cover(title: str) -> None:
    assert line(title, "Not covered|Can still be lost|Can still go wrong")


def test_the_promises_of_the_stream_are_those_of_the_contract() -> None:
    text = (ROOT / "proto/antom_payments/v1/payment_service.proto").read_text("utf-8")
    [comment] = re.findall(r"((?:  //[^\n]*\n)+)  rpc StreamPaymentEvents", text)
    words = " ".join(comment.replace("//", " ").split())
    assert list(PROMISES)[: len(OF_THE_STREAM)] == OF_THE_STREAM
    for name in OF_THE_STREAM:
        assert f"{name}: " in words
        assert re.search(rf"^\| {name} \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
