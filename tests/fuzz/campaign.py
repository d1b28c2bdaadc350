"""One target's run: its inputs by number and seed, its figures, and what it found."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz.target import Finding, Input, Kind

CORPUS = Path(__file__).parent / "corpus"
PATIENCE_SECONDS = 60.0
"""An input that takes longer hangs."""
MOST_FINDINGS = 10
MOST_GROWTH_MB = 24.0
"""Of resident memory, from a tenth of the run to its end; short runs only warm up."""
MEMORY_COUNTS_FROM = 2_000
"""Inputs: `make fuzz` judges every target but the siege, which looks for itself."""
_LOOK_EVERY = 256
_TELL_SECONDS = 5.0


@dataclass
class Report:
    """What became of a target's inputs."""

    target: str
    inputs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    growth_mb: float = 0.0
    seconds: float = 0.0


def resident_mb(pid: int | str = "self") -> float:
    """A process' resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def run(
    kind: Kind,
    *,
    inputs: int,
    seed: int,
    corpus: Path = CORPUS,
    examples: bool = False,
    tell: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Feed a target ``inputs`` inputs; each finding is kept in ``corpus``.

    Args:
        kind: the target.
        inputs: how many.
        seed: with an input's number, all that the input is made from.
        corpus: the folder of kept inputs.
        examples: keep the first input of each verdict, too.
        tell: gets the report from time to time.
    """
    report = Report(kind.name)
    began = told = time.monotonic()
    async with kind.opened() as target:
        memory = _Memory(inputs // 10, target.pid)
        for number in range(inputs):
            given = target.make(Random(f"{seed}/{kind.name}/{number}"))
            verdict = await _verdict(target.check, given)
            report.inputs += 1
            if isinstance(verdict, Exception):
                place = f"input {number} of seed {seed}"
                report.findings.append(_kept_finding(corpus, kind.name, given, verdict, place))
                if len(report.findings) == MOST_FINDINGS:
                    break
                continue
            if examples and not kind.is_timed and verdict not in report.verdicts:
                _keep(corpus, kind.name, {"verdict": verdict, "input": given})
            report.verdicts[verdict] += 1
            await memory.look(number)
            report.growth_mb, report.seconds = memory.growth_mb, time.monotonic() - began
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                tell(report)
        with _as_a_finding(report):
            await target.end()
    if inputs >= MEMORY_COUNTS_FROM and report.growth_mb > MOST_GROWTH_MB:
        report.findings.append(f"{kind.name}: memory grew by {report.growth_mb:.0f} MB")
    return report


@contextlib.contextmanager
def _as_a_finding(report: Report) -> Iterator[None]:
    try:
        yield
    except Exception as broken:  # noqa: BLE001 - whatever it is, it is a finding
        report.findings.append(f"{report.target}: at the end: {_words(broken)}")


class _Memory:
    """How much resident memory a run adds to a process once it is warm."""

    def __init__(self, warm_after: int, pid: int | str) -> None:
        self._warm_after = warm_after
        self._pid = pid
        self._warm_mb = 0.0
        self.growth_mb = 0.0

    async def look(self, number: int) -> None:
        """Look now and then; at input ``number`` of the run."""
        if number == self._warm_after:
            gc.collect()
            self._warm_mb = resident_mb(self._pid)
        elif number % _LOOK_EVERY == 0:
            await asyncio.sleep(0)  # some targets never wait, and the loop would keep their timers
            if self._warm_mb:
                self.growth_mb = max(self.growth_mb, resident_mb(self._pid) - self._warm_mb)


async def _verdict(check: Callable[[Input], object], given: Input) -> str | Exception:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return str(await check(given))  # type: ignore[misc] # a coroutine function
    except TimeoutError:
        return Finding(f"it hangs: nothing within {PATIENCE_SECONDS:.0f} s")
    except Exception as found:  # noqa: BLE001 - what the product lets out is what is looked for
        return found


def _words(found: Exception) -> str:
    if isinstance(found, Finding):
        return str(found)
    frame = traceback.extract_tb(found.__traceback__)[-1]
    return f"{type(found).__name__}: {found} ({Path(frame.filename).name}:{frame.lineno})"


def _kept_finding(corpus: Path, name: str, given: Input, found: Exception, place: str) -> str:
    what = _words(found)
    file = _keep(corpus, name, {"found": what, "place": place, "input": given})
    return f"{name}: {place}: {what}; kept as {file}"


def _keep(corpus: Path, name: str, told: dict[str, object]) -> str:
    text = json.dumps(told, indent=1)
    file = corpus / name / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
    return f"{name}/{file.name}"


def kept(name: str, corpus: Path = CORPUS) -> list[tuple[str, Input, str | None]]:
    """The kept inputs of a target: file, input, and the verdict that an example had."""
    found = []
    for file in sorted((corpus / name).glob("*.json")):
        told = json.loads(file.read_text())
        found.append((file.name, told["input"], told.get("verdict")))
    return found
