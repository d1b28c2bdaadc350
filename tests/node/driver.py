"""The example client as a process: what a test tells it to do, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.installed import NodeClient

DRIVER = Path(__file__).with_name("driver.mjs")
PATIENCE = 30.0
"""Seconds after which a test that waits for the process has failed."""

Json = dict[str, Any]


def environment() -> dict[str, str]:
    """No proxy of whoever runs the tests: grpc-js would ask it for loopback."""
    return {"PATH": os.environ["PATH"], "NODE_NO_WARNINGS": "1"}


@dataclass
class Followed:
    """A stream of the Node client: what it said of it."""

    driver: Driver
    id: int
    said: asyncio.Queue[Json]
    batches: list[Json] = field(default_factory=list)
    resumed: list[Json] = field(default_factory=list)
    """Why streams ended that were opened again."""
    expired: list[Json] = field(default_factory=list)

    @property
    def events(self) -> list[Json]:
        return [event for batch in self.batches for event in batch["events"]]

    @property
    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]

    @property
    def cursor(self) -> str:
        return str(self.batches[-1]["cursor"])

    async def until_events(self, count: int) -> Followed:
        while len(self.events) < count:
            await self._next()
        return self

    async def until_caught_up(self) -> Followed:
        while not any(batch["caughtUp"] for batch in self.batches):
            await self._next()
        return self

    async def until_resumed(self) -> Json:
        """Wait for the end of a stream; why it ended."""
        before = len(self.resumed)
        while len(self.resumed) == before:
            await self._next()
        return self.resumed[-1]

    async def until_failed(self) -> Json:
        """Wait for what ends the following itself."""
        while (failure := await self._next()) is None:
            pass
        return failure

    def go(self) -> None:
        """Let the held consumer come back."""
        self.driver.order(self.id, go=True)

    async def _next(self) -> Json | None:
        async with asyncio.timeout(PATIENCE):
            told = await self.said.get()
        if "batch" in told:
            self.batches.append(told["batch"])
        elif "resuming" in told:
            self.resumed.append(told["resuming"])
        elif "expired" in told:
            self.expired.append(told["expired"])
        else:
            return dict(told["failure"])
        return None


class Driver:
    """The process. Orders go in by id, and what is said of them comes out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._ids = itertools.count()
        self._said: dict[int, asyncio.Queue[Json]] = {}

    async def read(self) -> None:
        """Hand out what the process says, until it ends."""
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            told = json.loads(line)
            self._said[told["id"]].put_nowait(told)

    def order(self, number: int, **words: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"id": number, **words}).encode() + b"\n")

    async def call(self, port: int, call: str, request: Json, **words: Any) -> Json:
        """What a call is answered with; raises `CallFailed`."""
        number = next(self._ids)
        said = self._said[number] = asyncio.Queue()
        target = {"target": f"127.0.0.1:{port}"}
        self.order(number, call=call, request=request, **target | words)
        async with asyncio.timeout(PATIENCE):
            told = await said.get()
        if "failure" in told:
            raise CallFailed(told["failure"])
        return dict(told["answer"])

    async def failure(self, port: int, call: str, request: Json, **words: Any) -> Json:
        """What a call fails with."""
        try:
            answer = await self.call(port, call, request, **words)
        except CallFailed as failed:
            return failed.failure
        raise AssertionError(f"it worked: {answer}")

    def kill(self) -> None:
        """End it with kill -9."""
        self.process.kill()

    @contextlib.asynccontextmanager
    async def following(self, port: int, request: Json, **words: Any) -> AsyncIterator[Followed]:
        """A stream that is followed while the block runs."""
        number = next(self._ids)
        said = self._said[number] = asyncio.Queue()
        self.order(number, target=f"127.0.0.1:{port}", follow=True, request=request, **words)
        try:
            yield Followed(self, number, said)
        finally:
            self.order(number, leave=True)


class CallFailed(Exception):
    """What the Node client threw."""

    def __init__(self, failure: Json) -> None:
        self.failure = failure
        super().__init__(str(failure))


@contextlib.asynccontextmanager
async def driving(client: NodeClient) -> AsyncIterator[Driver]:
    """A process of the client; it ends with its input, and says nothing on stderr."""
    process = await asyncio.create_subprocess_exec(
        *(client.node, DRIVER),
        env=environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    driver = Driver(process)
    reading = asyncio.create_task(driver.read())
    try:
        yield driver
    finally:
        assert process.stdin
        assert process.stderr
        if process.returncode is None:
            process.stdin.close()
        complaint = await process.stderr.read()
        await process.wait()
        await reading
    assert not complaint, complaint.decode()
