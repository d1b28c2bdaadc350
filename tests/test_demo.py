"""`make demo`: what a newcomer sees first."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from rich.console import Console

from antom_payments import demo
from processes import left_in, processes_about, run

EVENT = re.compile(
    r"\d\d:\d\d:\d\d\.\d{3}  (?P<type>\w+) +(?P<before>\w+) → (?P<after>\w+)  "
    r"(?P<payment>\S+) \(SGD 4200 minor units\)  source=(?P<source>\w+)"
    r"(?:  cursor=(?P<cursor>\S+))?"
)


async def test_the_demo_takes_a_payment_shows_events_and_traces_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    # What a developer's shell may hold of another deployment does not matter.
    shown = await run(
        "demo",
        settings={"antom_environment": "production", "database_url": "postgresql://127.0.0.1:1/x"},
        TMPDIR=str(tmp_path),
        OTEL_SDK_DISABLED="true",
        http_proxy="http://127.0.0.1:1",
    )
    assert shown.code == 0, shown.out + shown.err
    assert shown.err == ""
    events = [match.groupdict() for match in EVENT.finditer(shown.out)]
    assert [(event["type"], event["after"], event["source"]) for event in events] == [
        ("SESSION_CREATED", "AWAITING_BUYER", "api"),
        ("PAYMENT_AUTHORIZED", "AUTHORIZED", "notification"),
        ("CAPTURE_SUCCEEDED", "SUCCEEDED", "notification"),
    ]
    assert {event["payment"] for event in events} == {demo.PAYMENT_REQUEST_ID}
    # Those before it may be in its batch.
    assert events[-1]["cursor"]
    assert "captured SGD 4200 of 4200 minor units" in shown.out

    session, *notifications = re.findall(r"^  trace (\w{8})(.*)$", shown.out, re.MULTILINE)
    assert len(notifications) == 2
    assert all(f"linked to trace {session[0]}" in link for _, link in notifications)
    spans = re.findall(r"^ +(\S.*)  \[(\S+), [\d.]+ ms\]$", shown.out, re.MULTILINE)
    assert ("antom_payments.v1.PaymentService/CreateSession", "antom-payments") in spans
    assert ("POST /ams/sandbox/api/v1/payments/createPaymentSession", "antom-payments") in spans
    assert spans.count(("POST /antom/notify", "antom-payments-notifications")) == 2
    assert shown.out.rstrip().endswith("Done.")

    assert left_in(tmp_path) == []
    assert processes_about(tmp_path) == []


async def test_a_demo_that_fails_says_why_and_what_its_processes_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def broken(
        _folder: Path, _ports: object, *, say: Callable[[str], None], **_: object
    ) -> AsyncIterator[None]:
        say("server   | error: [no] such luck")
        raise RuntimeError("the server ended with exit code 2")
        yield

    monkeypatch.setattr(demo, "local_stack", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    console = Console(width=60, file=io.StringIO(), record=True)
    assert await demo.run_demo(console) == 1
    assert console.export_text().splitlines()[-3:] == [
        "The demo failed: the server ended with exit code 2",
        "What the processes said:",
        "server   | error: [no] such luck",
    ]
    assert left_in(tmp_path) == []
