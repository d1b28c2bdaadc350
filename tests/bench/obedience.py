"""What a measurement's process does: commands in lines of JSON, an answer to each in turn.

Nothing but the standard library: the official SDK's environment uses it, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Command = Callable[..., Awaitable[Any]]


def say(answer: Any) -> None:
    """Answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def obey(commands: Mapping[str, Command]) -> None:
    """Do what stdin says until it ends; whatever goes wrong with a command is its answer."""
    stdin = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    while line := await stdin.readline():
        fields = json.loads(line)
        try:
            say(await commands[fields.pop("do")](**fields))
        except Exception as error:  # noqa: BLE001 - whatever it is, the run fails with it
            say({"failed": _told(error)})


def _told(error: BaseException) -> str:
    """An error in words; of a group the first, which the others follow from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:2000]
