"""What strangers and bad neighbours do: forged and repeated news, storms, never reading."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from antom_payments.antom.signing import Signer, load_private_key
from antom_payments.client import PLAINTEXT, Earliest, connect
from chaos.scene import Fault, Scene
from chaos.town import NotInjected
from keys import golden_pair
from processes import environment
from whole import CLIENT_ID, PATH

_NEVER_READS = Path(__file__).parents[1] / "grpc_api" / "never_reads.py"
_MANY, _STORM, _LONG_HEADERS = 100, 500, 32 * 1024
_OURS, _STRANGERS = golden_pair("antom").private, golden_pair("merchant").private


def faults() -> list[Fault]:
    """By what they do."""
    injects = {
        "one notification, a hundred times at once": partial(sent, _MANY, "as it was", {200}),
        "forged notifications": partial(sent, _MANY, "forged", {401}),
        "truncated notifications": partial(sent, _MANY, "truncated", {401}),
        "notifications with their fields in another order": partial(
            sent, _MANY, "fields in another order", {401}
        ),
        "a notification again, a day later": partial(sent, 5, "a day later", {200}),
        "a notification again, signed 26 hours ago": partial(sent, 5, "old", {200}),
        "signed notifications that nobody understands": partial(sent, 5, "poison", {200}),
        "five hundred connections to a server": connections,
        "five hundred half requests to a sidecar": half_requests,
        "headers without end to a sidecar": long_headers,
        "two hundred subscribers at once": subscribers,
        "twenty subscribers that never read": never_reading,
        "a subscriber's program restarted": restarted_subscriber,
    }
    return [Fault("callers and strangers", name, inject) for name, inject in injects.items()]


@contextlib.asynccontextmanager
async def sent(count: int, how: str, expected: set[int], scene: Scene) -> AsyncIterator[None]:
    """One of Antom's acknowledged notifications again, or what somebody made of it."""
    notification = await _acknowledged(scene)
    body = json.dumps(notification, separators=(",", ":")).encode()
    now = scene.town.board.now(0)
    signed, sender = body, _OURS
    match how:
        case "forged":
            sender = _STRANGERS
        case "truncated":
            body = body[:-20]
        case "fields in another order":
            body = json.dumps(dict(reversed(notification.items()))).encode()
        case "old":
            now -= timedelta(hours=26)
        case "poison":
            body = signed = json.dumps({"notifyType": "NEWS", "id": str(uuid.uuid4())}).encode()
    headers = _signed(signed, sender, now)
    statuses: Counter[int] = Counter()
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:

        async def send() -> None:
            answer = await http.post(scene.town.notify_url, content=body, headers=headers)
            statuses[answer.status_code] += 1

        await asyncio.gather(*(send() for _ in range(count)))
    yield
    # 503 is overload, which Antom would meet with a resend: it is no wrong answer.
    wrong = set(statuses) - expected - {503}
    assert not wrong, f"{how}: {dict(statuses)}"
    if not expected & set(statuses):
        raise NotInjected(f"{how}: {dict(statuses)}")


@contextlib.asynccontextmanager
async def connections(scene: Scene) -> AsyncIterator[None]:
    """They say nothing, and stay."""
    async with _opened(scene.town.roads["callers-server-0"].port, b""):
        await scene.hold(0.3, 1)
        yield


@contextlib.asynccontextmanager
async def half_requests(scene: Scene) -> AsyncIterator[None]:
    half = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{{".encode()
    async with _opened(scene.town.roads["notifications"].port, half):
        await scene.hold(0.3, 1)
        yield


@contextlib.asynccontextmanager
async def long_headers(scene: Scene) -> AsyncIterator[None]:
    half = f"POST {PATH} HTTP/1.1\r\n".encode() + b"x: " + b"y" * _LONG_HEADERS
    async with _opened(scene.town.roads["notifications"].port, half, count=50):
        await scene.hold(0.3, 1)
        yield


@contextlib.asynccontextmanager
async def _opened(port: int, said: bytes, *, count: int = _STORM) -> AsyncIterator[None]:
    async def one() -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        return writer

    opened = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    writers = [one for one in opened if isinstance(one, asyncio.StreamWriter)]
    if len(writers) < count / 2:
        raise NotInjected(f"{len(writers)} connections of {count}")
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def subscribers(scene: Scene) -> AsyncIterator[None]:
    """From the oldest event, on twenty connections, all at the same moment."""
    async with contextlib.AsyncExitStack() as parts:
        target = scene.town.target
        channels = [
            await parts.enter_async_context(connect(target, credentials=PLAINTEXT))
            for _ in range(20)
        ]

        async def first(number: int) -> int:
            following = channels[number % len(channels)].follow(Earliest()).batches()
            async with contextlib.aclosing(following), asyncio.timeout(20):
                return len((await anext(following)).events)

        brought = await asyncio.gather(*(first(n) for n in range(200)), return_exceptions=True)
        if not sum(isinstance(one, int) for one in brought):
            raise NotInjected("no subscriber got anything")
        yield


@contextlib.asynccontextmanager
async def never_reading(scene: Scene) -> AsyncIterator[None]:
    port = scene.town.roads["callers-server-1"].port
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(_NEVER_READS), str(port), "20"),
        env=environment({}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(20):
            if await process.stdout.readline() != b"open\n":
                raise NotInjected("they did not subscribe")
        await scene.hold(0.5, 1.5)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def restarted_subscriber(scene: Scene) -> AsyncIterator[None]:
    one = scene.random.choice(scene.followers[1:])
    await one.stop()
    await scene.hold(0.2, 1)
    yield
    one.start(scene.payments)


async def _acknowledged(scene: Scene) -> dict[str, Any]:
    """A notification that was accepted a while ago."""
    told = (await scene.town.http.get("/notifications")).json()["notifications"]
    found = [one["notification"] for one in told if one["state"] == "ACKNOWLEDGED"]
    if not found:
        raise NotInjected("nothing was acknowledged yet")
    chosen: dict[str, Any] = scene.random.choice(found)
    return chosen


def _signed(body: bytes, key: str, time: datetime) -> dict[str, str]:
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    signer = Signer(load_private_key(key, setting="test"), CLIENT_ID)
    return {
        "content-type": "application/json; charset=UTF-8",
        "client-id": CLIENT_ID,
        "request-time": text,
        "signature": signer.signature_header("POST", PATH, text, body),
    }
