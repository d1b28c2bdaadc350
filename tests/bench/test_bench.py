"""The bench measures what it says: it looks at every answer, and judges what it found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import reads, report
from bench.__main__ import MEASUREMENTS, conclude
from bench.child import OperationFailed
from bench.rig import Rig
from bench.rounds import Line, Sample, interleave
from databases import SQLITE, Databases
from docs_tables import PICTURE, figures

ABOUT = {
    "date": "2026-03-02",
    "machine": {
        "processor": "<a processor>",
        "cores": 2,
        "server_cores": 1,
        "memory_gib": 4,
        "system": "Linux 6.1",
    },
    "versions": {"Python": "3.11.7"},
    "postgres": {"server_version": "18.6", "fsync": "on", "synchronous_commit": "on"},
    "rounds": 3,
}


def a_line(*pairs: tuple[float, float], **more: object) -> Line:
    fields = {"key": "k", "title": "A thing", "unit": "things/s", "ours": "ours", "peer": "a peer"}
    line = Line(**fields | more)  # type: ignore[arg-type] # of any field
    line.samples = [(Sample(ours, 10), Sample(peer)) for ours, peer in pairs]
    return line


@pytest.fixture
def rig(databases: Databases, tmp_path: Path) -> Rig:
    """A hundredth of the usual operations, on SQLite instead of PostgreSQL."""

    def fresh(_kind: str) -> AbstractAsyncContextManager[str]:
        return databases.fresh(SQLITE)

    return Rig(tmp_path, fresh, rounds=2, size=0.01)


async def test_the_sides_take_turns_and_each_other_round_begins_with_the_peer() -> None:
    turns: list[str] = []

    async def ours() -> Sample:
        turns.append("ours")
        return Sample(4)

    async def peer() -> Sample:
        turns.append("peer")
        return Sample(2)

    line = await interleave(a_line(), 3, ours, peer)
    assert turns == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [(mine.value, theirs.value) for mine, theirs in line.samples] == [(4, 2)] * 3


def test_the_ratio_is_taken_within_each_round_and_its_median_is_judged() -> None:
    line = a_line((10, 1), (300, 100), (8, 2), floor=4)
    assert (line.ratio.least, line.ratio.median, line.ratio.greatest) == (3, 4, 10)
    assert line.is_reached
    assert not a_line((10, 1), (300, 100), (3, 1), floor=4).is_reached
    assert a_line((1, 100)).is_reached


def test_where_less_is_better_the_ratio_is_the_peers_by_ours() -> None:
    assert a_line((2, 1), less_is_better=True).ratio.median == 0.5


async def test_a_run_measures_both_sides_over_real_processes(rig: Rig) -> None:
    [line] = await reads.measure(rig)
    told = line.to_json()
    assert len(line.samples) == rig.rounds
    assert told["ours"]["value"]["min"] > 0
    assert told["peer"]["value"]["min"] > 0


async def test_one_operation_that_fails_fails_the_run(rig: Rig) -> None:
    async with rig.fresh(SQLITE) as url, rig.server(url) as served, rig.script("load") as load:
        with pytest.raises(OperationFailed, match="NOT_FOUND"):
            await load.ask("get_payments", port=served.port, name="nobody", count=3, in_flight=1)
        await load.ask("sign", names=["nobody"])
        # It takes no notifications, and closes the connection instead.
        with pytest.raises(OperationFailed, match="WrongAnswer"):
            await load.ask("notify", port=served.port, in_flight=1)


def test_a_missed_floor_is_the_exit_code(tmp_path: Path) -> None:
    assert conclude(ABOUT | {"lines": [a_line((4, 1), floor=4).to_json()]}, tmp_path) == 0
    assert conclude(ABOUT | {"lines": [a_line((3, 1), floor=4).to_json()]}, tmp_path) == 1
    assert (tmp_path / "benchmarks.json").exists()


def test_the_table_and_the_picture_tell_a_missed_floor() -> None:
    results = ABOUT | {"lines": [a_line((3, 1), floor=4).to_json()]}
    [row] = [line for line in report.markdown(results).split("\n") if "A thing" in line]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2:4] == ["3 things/s", "1 things/s"]
    assert cells[5] == "4, missed"
    assert 'class="bar missed"' in report.picture(results)


def numbers_of(picture: str) -> Iterator[float]:
    for element in ET.fromstring(picture).iter():  # noqa: S314 - our own
        for name in ("x", "x1", "x2", "width"):
            if name in element.attrib:
                yield float(element.attrib[name])


def test_the_picture_stays_within_its_frame() -> None:
    lines = [a_line((0.05, 1)).to_json(), a_line((140, 1), (90, 1), floor=50).to_json()]
    drawn = report.picture(ABOUT | {"lines": lines})
    assert all(0 <= number <= 860 for number in numbers_of(drawn))


def test_the_published_figures_are_a_whole_run_and_the_picture_is_theirs() -> None:
    published = figures()
    keys = [line["key"] for line in published["lines"]]
    assert {re.sub("_(postgres|sqlite)$", "", key) for key in keys} == set(MEASUREMENTS)
    assert len(keys) == len(MEASUREMENTS) + 1
    assert PICTURE.read_text("utf-8") == report.picture(published), "run make docs"
