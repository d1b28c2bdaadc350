"""What a run tells: lines for the terminal, a table and a picture for the documentation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from rich.console import Console
from rich.table import Table

Results = Mapping[str, Any]
"""As in benchmarks.json."""


def heading(about: Results) -> str:
    """Where the figures are from, in a sentence."""
    machine, postgres, versions = about["machine"], about["postgres"], about["versions"]
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{about['date']}, {machine['processor']}, {machine['cores']} cores "
        f"({machine['server_cores']} for the server), {machine['memory_gib']} GiB, "
        f"{machine['system']}; PostgreSQL {postgres['server_version']} with "
        f"fsync {postgres['fsync']}, synchronous_commit {postgres['synchronous_commit']}; {told}; "
        f"{about['rounds']} rounds."
    )


def show(results: Results) -> None:
    """Print the table."""
    table = Table(title="make bench", title_justify="left")
    for name in _HEAD:
        table.add_column(name)
    for row in _rows(results):
        table.add_row(*row)
    Console().print(table)


def markdown(results: Results) -> str:
    """The table of docs/benchmarks.md, with the sentence of its circumstances."""
    lines = [_HEAD, ("---",) * len(_HEAD), *_rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{heading(results)}\n\n{table}"


_HEAD = ("what", "ours", "peer", "ratio, median (least–most)", "floor", "CPU: ours", "CPU: peer")


def _rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            line["title"],
            f"{_number(line['ours']['value']['median'])} {line['unit']}",
            f"{_number(line['peer']['value']['median'])} {line['unit']}",
            _ratio(line),
            _floor(line),
            _cpu(line["ours"]["cpu_us"]),
            _cpu(line["peer"]["cpu_us"]),
        )
        for line in results["lines"]
    ]


def sentence(line: Mapping[str, Any]) -> str:
    """A line as it is printed when it is done."""
    more = "".join(f", {name} {_number(value)}" for name, value in line["more"].items())
    ours, peer = (_number(line[side]["value"]["median"]) for side in ("ours", "peer"))
    return f"{line['title']}: {ours} against {peer} {line['unit']}, ratio {_ratio(line)}{more}"


def _ratio(line: Mapping[str, Any]) -> str:
    ratio = line["ratio"]
    return f"{_number(ratio['median'])} ({_number(ratio['min'])}–{_number(ratio['max'])})"


def _floor(line: Mapping[str, Any]) -> str:
    if line["floor"] is None:
        return ""
    return f"{_number(line['floor'])}{'' if line['reached'] else ', missed'}"


def _cpu(microseconds: float | None) -> str:
    return "" if microseconds is None else f"{_number(microseconds)} µs"


def _number(value: float) -> str:
    """At most three significant digits, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11px; fill: #59636e }
  .bar { fill: #2f7fd3 } .missed { fill: #cf222e }
  .spread { stroke: #1f2328; stroke-width: 1 }
  .floor { stroke: #bc4c00; stroke-width: 2 }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .even { stroke: #59636e; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 }
    .bar { fill: #4493f8 } .missed { fill: #f85149 }
    .spread { stroke: #f0f6fc } .floor { stroke: #f0883e }
    .grid { stroke: #3d444d } .even { stroke: #9198a1 }
  }
"""
_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 860, 300, 90, 62, 34
_BAR = 16


def picture(results: Results) -> str:
    """The ratios as bars on a logarithmic scale, each with its spread and its floor."""
    lines = results["lines"]
    low, high = _scale([line["ratio"] for line in lines] + [{"min": 1, "max": 10}])
    height = _TOP + _ROW * len(lines) + 46

    def x(value: float) -> float:
        part = (math.log10(value) - low) / (high - low)
        return round(_LEFT + part * (_WIDTH - _LEFT - _RIGHT), 1)

    bottom = _TOP + _ROW * len(lines)
    ticks = [10.0**power for power in range(math.ceil(low), high + 1)]
    marks = [
        *(_tick(x(tick), bottom, tick) for tick in ticks),
        *(_bar(line, _TOP + _ROW * number, x) for number, line in enumerate(lines)),
    ]
    machine = results["machine"]
    where = f"{results['date']}, {machine['processor']}, {machine['cores']} cores"
    title = "How many times better than its peer, measured in the same run"
    legend = "bar: median of the rounds; line: least to most; upright mark: floor"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text x="12" y="24">{escape(title)}</text>',
            f'<text class="small" x="12" y="42">{escape(where)}; {escape(legend)}</text>',
            *marks,
            "</svg>",
            "",
        ]
    )


def _scale(ratios: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """Powers of ten from a little below the least to the most."""
    least = min(ratio["min"] for ratio in ratios)
    most = max(ratio["max"] for ratio in ratios)
    return math.log10(least) - 0.15, math.ceil(math.log10(most))


def _tick(x: float, bottom: float, value: float) -> str:
    kind = "even" if value == 1 else "grid"
    return (
        f'<line class="{kind}" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{bottom}"/>'
        f'<text class="small" x="{x}" y="{bottom + 16}" text-anchor="middle">{value:g}×</text>'
    )


def _bar(line: Mapping[str, Any], top: float, x: Any) -> str:
    """A line's bar, from even to its ratio."""
    ratio = line["ratio"]
    begin, end = sorted((x(1), x(ratio["median"])))
    middle = top + _BAR / 2
    kind = "bar" if line["reached"] else "bar missed"
    floor = "" if line["floor"] is None else x(line["floor"])
    width = max(1, round(end - begin, 1))
    return "\n".join(
        [
            (
                f'<text x="{_LEFT - 12}" y="{middle + 4}" text-anchor="end">'
                f"{escape(line['title'])}</text>"
            ),
            (
                f'<rect class="{kind}" x="{begin}" y="{top}" width="{width}" '
                f'height="{_BAR}" rx="2"/>'
            ),
            (
                f'<line class="spread" x1="{x(ratio["min"])}" y1="{middle}" '
                f'x2="{x(ratio["max"])}" y2="{middle}"/>'
            ),
            f'<line class="floor" x1="{floor}" y1="{top - 4}" x2="{floor}" y2="{top + _BAR + 4}"/>'
            if floor
            else "",
            (
                f'<text x="{x(max(ratio["max"], 1, line["floor"] or 1)) + 8}" y="{middle + 4}">'
                f"{_number(ratio['median'])}×</text>"
            ),
        ]
    )
