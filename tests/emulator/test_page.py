"""docs/emulator.md is true: each of its requests is made, each of its tables is complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from antom_payments.emulator import (
    AnswerFaultKind,
    Emulator,
    EmulatorOptions,
    NotificationFaultKind,
    Step,
)
from antom_payments.emulator.amounts import CAPTURES_THAT_FAIL, PAYMENTS_THAT_FAIL
from antom_payments.emulator.requests import SessionRequest
from emulator.test_buyer import MANUAL
from emulator.world import SANDBOX_ID, Json, Merchant, sample, session_request

PAGE = (Path(__file__).parent.parent.parent / "docs" / "emulator.md").read_text("utf-8")
HOSTED = sample("createPaymentSession_request_hosted_checkout") | {"paymentNotifyUrl": None}
PAYMENTS = {
    "pay-1": session_request("pay-1"),
    "pay-2": HOSTED | {"paymentRequestId": "pay-2"},
    "pay-3": session_request("pay-3", **MANUAL),
    "pay-4": session_request("pay-4"),
}


def requests() -> list[tuple[str, str, str]]:
    """Method, target and body of each curl command of the page."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        words = iter(shlex.split(block) if block.startswith("curl") else [])
        method, body = "GET", ""
        for word in words:
            match word:
                case "curl":
                    method, body = "GET", ""
                case "-X":
                    method = next(words)
                case "-d":
                    method, body = "POST", next(words)
                case url:
                    parts = urlsplit(url)
                    assert parts.netloc == "127.0.0.1:8090"
                    found.append((method, f"{parts.path}?{parts.query}", body))
    return found


def first_column(heading: str) -> set[str]:
    """The code in the first column of the table with this heading."""
    (table,) = re.findall(rf"^\| {heading} \|.*?\n\n", PAGE, re.DOTALL | re.MULTILINE)
    cells = [line.split("|")[1] for line in table.strip().splitlines()[2:]]
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


async def test_every_request_of_the_page_does_what_it_says(merchant: Merchant) -> None:
    for request in PAYMENTS.values():
        assert (await merchant.create(request)).code == "SUCCESS"
    answers: list[tuple[str, Any]] = []
    for method, target, body in requests():
        # An automatic capture follows the buyer within the second.
        await merchant.advance(10 if "dashboard" in target else 0)
        response = await merchant.http.request(method, target, content=body)
        assert response.status_code == 200, (target, response.text)
        answers.append((target.partition("?")[0], response.json()))

    def last(path: str) -> Json:
        return [answer for target, answer in answers if target == f"/emulator/{path}"][-1]

    assert last("dashboard/cancel/pay-2")["paymentStatus"] == "CANCELLED"
    assert last("dashboard/cancel/pay-1")["paymentStatus"] == "CANCELLED"
    assert last("dashboard/capture/pay-3")["captures"][0]["resultCode"] is None
    codes = [one["resultCode"] for one in last("dashboard/capture/pay-4")["captures"]]
    assert codes == ["PROCESS_FAIL", "USER_BALANCE_NOT_ENOUGH", "SUCCESS"]
    assert last("faults")["answers"] == last("faults")["notifications"] == []
    spoken = {target.split("/")[2] for target, _ in answers}
    assert spoken == {
        *("buyer", "dashboard", "clock", "faults", "payments", "notifications"),
        *("health", "reset"),
    }


def test_the_tables_of_the_page_are_complete() -> None:
    assert first_column("action") == {step.value for step in Step}
    assert first_column("fault of an answer") == {kind.value for kind in AnswerFaultKind}
    notifications = first_column("fault of a notification")
    assert notifications == {kind.value for kind in NotificationFaultKind}
    magic = set(PAYMENTS_THAT_FAIL) | set(CAPTURES_THAT_FAIL)
    assert first_column("`paymentAmount.value`") == magic


async def test_the_python_of_the_page_runs(options: Callable[..., EmulatorOptions]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/emulator.md", "exec"), names)  # noqa: S102 our own page
    async with Emulator(options()).running() as antom:
        for request in PAYMENTS.values():
            antom.create_payment_session(SANDBOX_ID, SessionRequest.model_validate(request))
        await names["misbehave"](antom)
        stand = {one.payment_request_id: one for one in antom.payments}

    assert stand["pay-2"].status == "CANCELLED"
    (capture,) = stand["pay-3"].captures
    assert capture.result
    assert capture.result.code == "PROCESS_FAIL"
