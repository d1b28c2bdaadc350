"""What strangers and bad neighbours do: forged and repeated news, storms, never reading."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from antom_payments.antom.signing import Signer, load_private_key
from antom_payments.client import PLAINTEXT, Earliest, connect
from antom_payments.fact import OUTSIDE_WINDOW
from chaos.process import PATIENCE, NotInjected, Process
from chaos.scene import Fault, Scene
from keys import golden_pair
from processes import environment
from whole import CLIENT_ID, PATH

_NEVER_READS = Path(__file__).parents[1] / "grpc_api" / "never_reads.py"
_MANY, _STORM, _LONG_HEADERS = 100, 500, 32 * 1024
_FELT_SECONDS = 30.0
_SOME_CALLS = 5
_MOST_GROWTH_BYTES = 64 * 1024 * 1024
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
        "a notification again, signed 26 hours ago": partial(sent, 5, "old", {200}),
        "news that was never heard, signed 26 hours ago": stale,
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
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:

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
    if how == "poison":
        await _quarantined(scene, body)


@contextlib.asynccontextmanager
async def stale(scene: Scene) -> AsyncIterator[None]:
    """Antom keeps the news of a payment to itself, and somebody brings it a day too late."""
    name = f"stale-{len(scene.load.created)}"
    http = scene.town.http
    fault = {"fault": "WITHHOLD", "paymentRequestId": name}
    (await http.post("/faults", json={"notifications": [fault]})).raise_for_status()
    try:
        if not await scene.load._create(name, "GCASH"):
            raise NotInjected("no session was to be had")
        await scene.load._act(name, {"action": "approve"})
    finally:
        await http.delete("/faults")
    told = (await http.get("/notifications", params={"paymentRequestId": name})).json()
    news = [one for one in told["notifications"] if one["state"] == "WITHHELD"]
    if not news:
        raise NotInjected("Antom kept nothing to itself")
    body = json.dumps(news[0]["notification"], separators=(",", ":")).encode()
    headers = _signed(body, _OURS, scene.town.board.now(0) - timedelta(hours=26))
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        answer = await client.post(scene.town.notify_url, content=body, headers=headers)
    yield
    if answer.status_code == 503:
        raise NotInjected("the sidecar was overloaded")
    assert answer.status_code == 200, f"stale news was answered with {answer.status_code}"
    await _quarantined(scene, body, OUTSIDE_WINDOW)


async def _quarantined(scene: Scene, body: bytes, reason: str = "") -> None:
    """What was acknowledged, and not understood or too old, must be kept for people to look at.

    What is too old counts once an inquiry has told the same, which may be by now.
    """
    connection = await asyncpg.connect(scene.town.cluster.url)
    try:
        rows = await connection.fetch(
            "SELECT n.outcome, n.reason, e.body->>'source' AS source FROM notifications n"
            " LEFT JOIN events e ON e.event_id = n.event_id WHERE n.body_sha256 = $1",
            sha256(body).hexdigest(),
        )
    finally:
        connection.terminate()
    found = [tuple(row) for row in rows]
    assert any(
        (outcome == "QUARANTINED" and reason in {"", why})
        or (reason == OUTSIDE_WINDOW and (outcome, source) == ("APPLIED", "INQUIRY"))
        for outcome, why, source in found
    ), f"acknowledged, and not in quarantine: {found}"


@contextlib.asynccontextmanager
async def connections(scene: Scene) -> AsyncIterator[None]:
    """They say nothing, and stay."""
    victim = scene.random.choice(scene.town.servers)
    async with _opened(scene, victim, "grpc_address", b""):
        yield


@contextlib.asynccontextmanager
async def half_requests(scene: Scene) -> AsyncIterator[None]:
    half = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{{".encode()
    victim = scene.random.choice(scene.town.sidecars)
    async with _opened(scene, victim, "notification_address", half):
        yield


@contextlib.asynccontextmanager
async def long_headers(scene: Scene) -> AsyncIterator[None]:
    half = f"POST {PATH} HTTP/1.1\r\n".encode() + b"x: " + b"y" * _LONG_HEADERS
    port = _port(scene.random.choice(scene.town.sidecars), "notification_address")

    async def refused() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(half)
            return await reader.readline()
        finally:
            writer.transport.abort()

    async with asyncio.timeout(_FELT_SECONDS):
        answers = Counter(await asyncio.gather(*(refused() for _ in range(50))))
    yield
    statuses = {answer.split()[1] for answer in answers if answer}
    # 503 is a sidecar's that has no room for one more connection.
    assert statuses <= {b"431", b"503"}, f"headers without end: {dict(answers)}"
    if b"431" not in statuses:
        raise NotInjected(f"headers without end: {dict(answers)}")


@contextlib.asynccontextmanager
async def _opened(scene: Scene, victim: Process, address: str, said: bytes) -> AsyncIterator[None]:
    """Straight to the process, whose own open files tell that it took them."""
    port, open_before = _port(victim, address), _open_files(victim)

    async def one() -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        return writer

    opened = await asyncio.gather(*(one() for _ in range(_STORM)), return_exceptions=True)
    writers = [one for one in opened if isinstance(one, asyncio.StreamWriter)]
    try:
        async with _unharmed(scene, victim):
            try:
                async with asyncio.timeout(_FELT_SECONDS):
                    while _open_files(victim) < open_before + _STORM * 0.8:  # noqa: ASYNC110 - the kernel tells nobody
                        await asyncio.sleep(0.02)
            except TimeoutError:
                raise NotInjected(f"{victim.name} took {_open_files(victim)}") from None
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def _unharmed(scene: Scene, *victims: Process) -> AsyncIterator[None]:
    """Callers go on meanwhile, and no process takes much memory."""
    before = {one.name: _resident_bytes(one) for one in victims}
    served = scene.load.counts["create"]
    yield
    try:
        async with asyncio.timeout(_FELT_SECONDS):
            while scene.load.counts["create"] < served + _SOME_CALLS:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError("callers were not served meanwhile") from None
    for one in victims:
        grown = _resident_bytes(one) - before[one.name]
        assert grown < _MOST_GROWTH_BYTES, f"{one.name} took {grown} bytes more"


def _port(process: Process, address: str) -> int:
    """Where it listens itself, without the road."""
    return int(process.order["settings"][address].rpartition(":")[2])


def _open_files(process: Process) -> int:
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())


def _resident_bytes(process: Process) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


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
            async with contextlib.aclosing(following), asyncio.timeout(PATIENCE):
                return len((await anext(following)).events)

        brought = await asyncio.gather(*(first(n) for n in range(200)), return_exceptions=True)
        yield
    left = Counter(repr(one) for one in brought if not isinstance(one, int))
    assert not left, f"{left.total()} of 200 subscribers got nothing: {dict(left)}"


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
        async with asyncio.timeout(PATIENCE):
            if await process.stdout.readline() != b"open\n":
                raise NotInjected("they did not subscribe")
        async with _unharmed(scene, scene.town.processes["server-1"]):
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
