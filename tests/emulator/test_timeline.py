"""The emulator's time: scaled, moved by hand, and everything at its own time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from antom_payments.emulator.timeline import Timeline
from clock import START, FrozenClock


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


async def test_moving_the_time_does_everything_at_its_own_time_and_in_order() -> None:
    timeline = Timeline(FrozenClock().now, 1.0)
    done: list[tuple[str, timedelta]] = []

    def note(name: str) -> None:
        done.append((name, timeline.now() - START))

    timeline.at(after(20), lambda: note("late"))
    timeline.at(after(10), lambda: timeline.at(after(15), lambda: note("made on the way")))
    timeline.at(after(10), lambda: note("first at ten"))
    timeline.at(after(10), lambda: note("second at ten"))
    timeline.at(after(31), lambda: note("not yet"))
    await timeline.advance(30)

    assert done == [
        ("first at ten", timedelta(seconds=10)),
        ("second at ten", timedelta(seconds=10)),
        ("made on the way", timedelta(seconds=15)),
        ("late", timedelta(seconds=20)),
    ]
    assert timeline.now() == after(30)


async def test_moving_the_time_waits_for_what_was_started() -> None:
    timeline = Timeline(FrozenClock().now, 1.0)
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append("work")

    timeline.at(after(1), lambda: timeline.start(work()))
    timeline.at(after(2), lambda: done.append("next"))
    moving = asyncio.create_task(timeline.advance(5))
    asyncio.get_running_loop().call_soon(gate.set)
    await moving

    assert done == ["work", "next"]


@pytest.mark.parametrize(("scale", "passed"), [(0.0, 0), (1.0, 60), (120.0, 7200)])
async def test_time_passes_at_its_scale(scale: float, passed: float) -> None:
    clock = FrozenClock()
    timeline = Timeline(clock.now, scale)

    clock.advance(60)

    assert timeline.now() == after(passed)


async def test_an_entry_that_fails_does_not_stop_time(caplog: pytest.LogCaptureFixture) -> None:
    timeline = Timeline(FrozenClock().now, 1.0)
    done = []

    def fail() -> None:
        raise RuntimeError("planted")

    async def fail_later() -> None:
        fail()

    timeline.at(after(1), fail)
    timeline.at(after(1), lambda: timeline.start(fail_later()))
    timeline.at(after(2), lambda: done.append("next"))
    await timeline.advance(5)

    assert done == ["next"]
    assert caplog.text.count("emulator.work_failed") == 2


async def test_clearing_forgets_stops_and_returns_to_the_clock_outside() -> None:
    timeline = Timeline(FrozenClock().now, 1.0)
    done, stopped = [], asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await timeline.advance(100)
    timeline.at(after(200), lambda: done.append("forgotten"))
    timeline.start(hang())
    await asyncio.sleep(0)
    await timeline.clear()

    assert stopped.is_set()
    assert timeline.now() == START
    await timeline.advance(1000)
    assert done == []
