"""What `antom-payments watch` prints of a stream."""

from __future__ import annotations

import json
from contextlib import aclosing

from antom_payments.client import terminal
from client.scripted import ScriptedService, message, say, scripted_server

WISH = terminal.WatchWish(earliest=True)


async def printed(*, as_json: bool) -> list[str]:
    """The lines of a batch of two events and of one of a single event."""
    script = say(message(["a", "b"], cursor="1"), message(["c"], cursor="2"))
    async with (
        scripted_server(ScriptedService(streams=[script])) as server,
        aclosing(terminal.watched(server.target, WISH, as_json=as_json)) as events,
    ):
        return [(await anext(events))[1] for _ in range(3)]


async def test_only_the_last_event_of_a_batch_has_the_cursor_to_resume_after() -> None:
    told = [json.loads(line) for line in await printed(as_json=True)]
    assert [one["event"]["eventId"] for one in told] == ["a", "b", "c"]
    assert [one.get("cursor") for one in told] == [None, "1", "2"]
    assert "cursor" not in told[0]


async def test_people_see_the_cursor_where_they_can_resume_too() -> None:
    lines = await printed(as_json=False)
    assert [line.partition("  cursor=")[2] for line in lines] == ["", "1", "2"]
