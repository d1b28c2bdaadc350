"""What judges a run of `make chaos` finds what it is there to find."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_service_pb2 import StreamPaymentEventsResponse
from chaos.antom_faults import refused
from chaos.complaints import complaints
from chaos.subscribers import Subscriber
from processes import environment

_SAYS = """
from antom_payments import telemetry

telemetry.configure_logs("INFO", "json")
said = telemetry.logger("antom_payments.test")
said.info("all_is_well")
said.warning("database_trouble", exc_info=OSError())
said.warning("the event log cannot be read", error="StoreUnavailable")
said.error("antom_answer_untrusted", reason="unsigned")
said.error("contradiction")
said.error("notification", outcome="error", reason="store_unavailable")
print("{")
"""
_COMPLAINS = """
said.error("notification", outcome="error", reason="unexpected", exc_info=KeyError("hunter2"))
said.error("call_failed", rpc_method="/hunter2")
said.error("call_failed", rpc_method="/another")
said.warning("the event log cannot be read", error="KeyError", exc_info=KeyError())
raise KeyError
"""
_DRAINS = """
import asyncio, httpx
from antom_payments import telemetry
from antom_payments.notifications import HttpLimits, serving, uvicorn_config

telemetry.configure_logs("INFO", "json")
came = asyncio.Queue()

async def app(scope, receive, send):
    await came.put(scope["path"])
    if scope["path"] == "/breaks":
        raise KeyError
    if scope["path"] == "/cancelled":
        raise asyncio.CancelledError
    await asyncio.Event().wait()

async def main(*paths):
    config = uvicorn_config(app, limits=HttpLimits(), count_refusal=print, grace_seconds=0)
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.TaskGroup() as calls:
        async with serving(config, host="127.0.0.1", port=0) as port:
            for path in paths:
                calls.create_task(http.get(f"http://127.0.0.1:{port}{path}"))
                await came.get()

"""
"""A sidecar's server, whose grace ends with requests under way."""


def said_by(program: str) -> str:
    """What a process prints that says so much with the product's own loggers."""
    ended = subprocess.run(
        (sys.executable, "-c", program),
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout


def test_what_attacks_are_met_with_is_no_complaint() -> None:
    said = said_by(_SAYS)
    assert '"contradiction"' in said
    refused = "Traceback:\n  File\nantom_payments.errors.SchemaOutdated: the schema is too old\n"
    assert complaints({"a server": said + refused}, {}) == []


def test_errors_that_no_fault_explains_are_found_once_each_and_show_no_secret() -> None:
    found = complaints({"a server": said_by(_SAYS + _COMPLAINS)}, {"a password": "hunter2"})
    assert [one.partition(":")[0] for one in found] == [
        "a server said 1 times notification",
        "a server said 2 times call_failed",
        "a server said 1 times the event log cannot be read",
        "a server said 1 times what is no log line",
    ]
    assert "/(a password)" in found[1]
    assert "hunter2" not in "".join(found)
    assert found[-1].endswith("KeyError")
    assert max(map(len, found)) < 400


@pytest.mark.parametrize("reason", ["another_payment", None])
def test_answers_that_are_mixed_up_are_found(reason: str | None) -> None:
    line = json.dumps({"event": "antom_answer_untrusted", "reason": reason, "level": "error"})
    assert complaints({"a server": line}, {}) == [
        f"a server said 1 times antom_answer_untrusted: {line}"
    ]


def test_answers_that_are_spoilt_on_purpose_are_no_complaint() -> None:
    for reason in ("unsigned", "signature_mismatch", "another_client_id"):
        line = json.dumps({"event": "antom_answer_untrusted", "reason": reason, "level": "error"})
        assert complaints({"a server": line}, {}) == []


def test_requests_that_a_drain_cut_off_are_no_complaint() -> None:
    said = said_by(f"{_DRAINS}asyncio.run(main('/waits', '/waits'))")
    assert said.count("Cancel 2 running task(s)") == 1, said
    assert said.count("Exception in ASGI application") == 2, said
    assert complaints({"a sidecar": said}, {}) == []


@pytest.mark.parametrize("path", ["/breaks", "/cancelled"])
def test_requests_that_break_before_a_drain_are_found(path: str) -> None:
    said = said_by(f"{_DRAINS}asyncio.run(main('{path}', '/waits'))")
    [found] = complaints({"a sidecar": said}, {})
    assert found.startswith("a sidecar said 1 times Exception in ASGI application: "), said


def test_no_more_is_cancelled_than_a_drain_said() -> None:
    *lines, last = said_by(f"{_DRAINS}asyncio.run(main('/waits'))").splitlines()
    [found] = complaints({"a sidecar": "\n".join([*lines, last, last])}, {})
    assert found.startswith("a sidecar said 1 times Exception in ASGI application: ")
    again = last.replace("CancelledError", "TimeoutError")
    [found] = complaints({"a sidecar": "\n".join([*lines, again])}, {})
    assert found.startswith("a sidecar said 1 times Exception in ASGI application: ")


async def test_answers_to_badly_signed_news_are_waited_for() -> None:
    statuses: list[int | None] = [None, 401]

    def told(_: httpx.Request) -> httpx.Response:
        attempts = [{"spoilt": "BADLY_SIGNED", "httpStatus": statuses.pop(0)}]
        return httpx.Response(200, json={"notifications": [{"attempts": attempts}]})

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(told), base_url="http://antom"
    ) as http:
        scene: Any = SimpleNamespace(town=SimpleNamespace(http=http))
        await refused(scene)
        assert statuses == []
        statuses.append(200)
        with pytest.raises(AssertionError, match="1 badly signed"):
            await refused(scene)


class Call:
    """A stream that brings messages of so many events, by their numbers, each with a cursor."""

    def __init__(self, *messages: tuple[int, ...], cursors: tuple[str, ...] = ()) -> None:
        self._messages = list(messages)
        self._cursors = list(cursors)

    async def read(self) -> StreamPaymentEventsResponse:
        numbers = self._messages.pop(0)
        cursor = self._cursors.pop(0) if self._cursors else f"after {numbers[-1]}"
        events = [PaymentEvent(event_id=f"e-{n}") for n in numbers]
        return StreamPaymentEventsResponse(events=events, cursor=cursor)


async def read(subscriber: Subscriber, after: str, *messages: tuple[int, ...], **more: Any) -> None:
    connection = subscriber.connected(Call(*messages, **more), after)
    for _ in messages:
        await connection.read()


async def from_the_start(one: Subscriber) -> None:
    await read(one, "after 2", (1, 2), (3, 4))


async def from_another_place(one: Subscriber) -> None:
    await read(one, "after 4", (4,), (5,))


async def after_a_checkpoint(one: Subscriber) -> None:
    await read(one, "after 4", (), cursors=("a checkpoint",))
    await read(one, "a checkpoint", (3, 4), (5,))


async def as_it_should(one: Subscriber) -> None:
    await read(one, "after 2", (3, 4, 5))


async def after_a_checkpoint_in_between(one: Subscriber) -> None:
    """It is before what an earlier connection brought."""
    await read(one, "after 2", (), cursors=("a checkpoint",))
    await read(one, "a checkpoint", (3, 4), (5,))


async def from_the_start_when_asked_for_all(one: Subscriber) -> None:
    await read(one, "", (1, 2), (3, 4))


@pytest.mark.parametrize(
    ("goes_on", "wrong"),
    [
        (as_it_should, []),
        (after_a_checkpoint_in_between, []),
        (from_the_start_when_asked_for_all, []),
        (from_the_start, ["e-1", "e-2"]),
        (from_another_place, ["e-4"]),
        (after_a_checkpoint, ["e-3", "e-4"]),
    ],
)
async def test_what_a_cursor_left_behind_must_not_come_again(
    goes_on: Callable[[Subscriber], Any], wrong: list[str]
) -> None:
    one = Subscriber("all", lambda _: True)
    await read(one, "", (1, 2), (3,), (4,))
    await goes_on(one)
    assert [what.split()[0] for what in one.wrong] == wrong
    assert all("connection" in what for what in one.wrong)
