"""What Antom does wrong: answers and notifications that are lost, late, twice, spoilt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from chaos.process import NotInjected
from chaos.scene import Fault, Scene

_STRIKES = 5
_SECONDS = 30.0
_ANSWERS: dict[str, dict[str, Any]] = {
    "answers lost": {"fault": "DROP"},
    "answers lost, what was asked is done": {"fault": "DROP", "takesEffect": True},
    "HTTP 500": {"fault": "HTTP_500"},
    "HTTP 503, what was asked is done": {"fault": "HTTP_503", "takesEffect": True},
    "runs of U": {"fault": "UNKNOWN"},
    "U, what was asked is done": {"fault": "UNKNOWN", "takesEffect": True},
    "throttled": {"fault": "THROTTLED"},
    "answers are garbage": {"fault": "GARBAGE"},
    "answers unsigned": {"fault": "UNSIGNED"},
    "answers badly signed": {"fault": "BADLY_SIGNED"},
    "answers signed with the next key": {"fault": "NEXT_KEY"},
    "answers in another's name": {"fault": "WRONG_CLIENT_ID"},
    "answers late": {"fault": "DELAY", "delaySeconds": 1.5},
}
_NOTIFICATIONS: dict[str, dict[str, Any]] = {
    "notifications never sent": {"fault": "WITHHOLD"},
    "notifications ten times at once": {"fault": "DUPLICATE", "copies": 9},
    "notifications late": {"fault": "DELAY", "delaySeconds": 100},
    "notifications in another order": {"fault": "REORDER", "delaySeconds": 5},
    "notifications of another amount": {"fault": "OTHER_AMOUNT"},
    "notifications lost": {"fault": "DROP"},
    "notifications badly signed": {"fault": "BADLY_SIGNED"},
    "notifications signed with the next key": {"fault": "NEXT_KEY"},
}


def faults() -> list[Fault]:
    """Each way of its answers and its notifications."""
    return [
        Fault("Antom", name, partial(spoilt, kind, words))
        for kind, of_kind in (("answers", _ANSWERS), ("notifications", _NOTIFICATIONS))
        for name, words in of_kind.items()
    ]


async def refused(scene: Scene) -> None:
    """Whatever was badly signed must not have been acknowledged: no later look can tell.

    Antom counts what it sends: the answers may be on their way. Raises NotInjected.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            while not {200, 401} & set(answers := await _answers(scene)):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotInjected("no sidecar answered a badly signed notification") from None
    assert 200 not in answers, f"{answers.count(200)} badly signed notifications were acknowledged"


async def _answers(scene: Scene) -> list[int | None]:
    """What badly signed notifications were answered with; None is no answer yet, or none at all."""
    told = (await scene.town.http.get("/notifications")).json()["notifications"]
    return [
        attempt["httpStatus"]
        for one in told
        for attempt in one["attempts"]
        if attempt["spoilt"] == "BADLY_SIGNED"
    ]


@contextlib.asynccontextmanager
async def spoilt(kind: str, words: dict[str, Any], scene: Scene) -> AsyncIterator[None]:
    """Let it go wrong until it has some times, half the time it could."""
    http = scene.town.http
    (await http.post("/faults", json={kind: [{"probability": 0.5, **words}]})).raise_for_status()
    try:
        async with asyncio.timeout(_SECONDS):
            while (await http.get("/faults")).json()[kind][-1]["struck"] < _STRIKES:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
        yield
        if kind == "notifications" and words["fault"] == "BADLY_SIGNED":
            await refused(scene)
    except TimeoutError:
        raise NotInjected("Antom did nothing wrong") from None
    finally:
        await http.delete("/faults")
