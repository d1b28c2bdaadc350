"""A run: one fault after the other under load, what held after each, and how soon all went on."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from antom_payments.client import PLAINTEXT, connect
from chaos import antom_faults, attacks, clocks, databases, kills, networks, rotations, versions
from chaos.asks import Asks
from chaos.ledger import become_quiet, verdict
from chaos.load import Load
from chaos.process import NotInjected
from chaos.scene import Fault, Scene
from chaos.subscribers import subscribers
from chaos.town import town

RECOVERY_SECONDS = 45.0
"""Longest from the mending of a fault until a new payment goes all its way."""
_CANARY_PAUSE_SECONDS = 0.25
_FAULTS_PER_STEP = 6
_STEP_SECONDS = 130.0
"""What passes of everybody's time now and then: Antom's first resend is due after 120 s."""


def all_faults() -> list[Fault]:
    """Every fault there is."""
    modules = (kills, networks, databases, antom_faults, attacks, clocks, rotations, versions)
    return [fault for module in modules for fault in module.faults()]


@dataclass
class Tally:
    """What came of one kind of fault."""

    fault: Fault
    recoveries: list[float] = field(default_factory=list)
    not_injected: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What came of a run."""

    seed: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """Found at the end, of the run as a whole."""
    figures: dict[str, object] = field(default_factory=dict)

    @property
    def injected(self) -> int:
        return sum(len(tally.recoveries) for tally in self.tallies.values())

    @property
    def not_injected(self) -> list[str]:
        return [why for tally in self.tallies.values() for why in tally.not_injected]

    @property
    def all_violations(self) -> list[str]:
        after = [what for tally in self.tallies.values() for what in tally.violations]
        return after + self.violations


def schedule(faults: Sequence[Fault], count: int, random: Random) -> list[Fault]:
    """``count`` faults: each kind as often as the others, in an order that luck decides."""
    chosen: list[Fault] = []
    while len(chosen) < count:
        chosen += random.sample(faults, len(faults))
    return chosen[:count]


async def run(
    folder: Path,
    *,
    faults: Sequence[Fault],
    seed: int,
    per_second: float,
    say: Callable[[str], None],
) -> Outcome:
    """Inject ``faults`` in turn, and check everything at the end.

    Raises TimeoutError when the town does not become quiet.
    """
    outcome = Outcome(seed)
    began = time.monotonic()
    async with town(folder, seed) as place, connect(place.target, credentials=PLAINTEXT) as calls:
        load = Load(place, calls, Random(f"{seed} load"), per_second)
        followers = subscribers([f"pay-{n}" for n in range(1, 60)])
        followers[0].on_event = load.noted
        for one in followers:
            one.start(calls)
        scene = Scene(place, load, calls, followers, Random(f"{seed} faults"))
        async with load.running():
            for number, fault in enumerate(faults, start=1):
                try:
                    await load.flowing()
                except TimeoutError:
                    # Nobody would feel what comes next; the end tells what is wrong.
                    outcome.violations.append(f"I7: nothing flowed any more before fault {number}")
                    break
                await _strike(scene, fault, outcome, number, say)
                if number % _FAULTS_PER_STEP == 0:
                    place.pass_time(_STEP_SECONDS)
        try:
            quiet = await become_quiet(place, followers, say)
        except TimeoutError as error:
            quiet = 0.0
            outcome.violations.append(f"I7: {error}")
        if not quiet:
            # What still moves cannot be compared.
            moving = [one for one in [*place.servers, *place.sidecars] if one.is_there]
            await asyncio.gather(*(one.kill() for one in moving))
        outcome.violations += await verdict(place, load, followers)
        # What ended meanwhile, too.
        outcome.violations += wrong_now(scene)
        outcome.violations += Asks(folder).wrong(place.board.moved)
        outcome.figures = {
            "seconds": round(time.monotonic() - began, 1),
            "seconds until quiet": round(quiet, 1),
            "payments": len(load.created),
            "operations": dict(load.counts),
            "refusals": dict(load.refusals.most_common()),
            "calls to Antom for sessions": Asks(folder).counts(),
            "starts of processes": {p.name: p.starts for p in place.processes.values()},
            "connections of subscribers": {one.name: one.connections for one in followers},
        }
        for one in followers:
            await one.stop()
    return outcome


async def _strike(
    scene: Scene, fault: Fault, outcome: Outcome, number: int, say: Callable[[str], None]
) -> None:
    """One fault, with traffic flowing; then a canary. What is wrong is looked at in any case."""
    name = f"{fault.group}: {fault.name}"
    tally = outcome.tallies.setdefault(name, Tally(fault))
    before = len(outcome.all_violations)
    began = time.monotonic()
    told, went_on = "held", "never"
    try:
        async with fault.inject(scene):
            healed = time.monotonic()
    except AssertionError as error:
        tally.violations.append(f"after {name}: {error}")
    except Exception as error:  # noqa: BLE001 - one that fails is told, and the run goes on
        why = str(error) if isinstance(error, NotInjected) else repr(error)
        tally.not_injected.append(f"{name}: {why}")
        told = f"not injected: {why}"
    else:
        try:
            tally.recoveries.append(await _recovery(scene, healed, f"canary-{number}"))
            went_on = f"{tally.recoveries[-1]:.2f} s"
        except TimeoutError:
            tally.violations.append(f"I7: after {name} nothing went on")
        except Exception as error:  # noqa: BLE001 - a caller's program died: that is told, too
            tally.violations.append(f"I7: after {name} a canary died: {error!r}")
    wrong = wrong_now(scene) + await scene.watch.look(scene.town, scene.load)
    wrong += await _started_again(scene)
    tally.violations += [f"after {name}: {what}" for what in wrong]
    if len(outcome.all_violations) != before:
        told = tally.violations[-1]
    took = time.monotonic() - began
    say(f"{number:>4} {name}: {told}; took {took:.1f} s, went on after {went_on}")


async def _recovery(scene: Scene, healed: float, name: str) -> float:
    """Seconds from the healing until a canary came through.

    Raises TimeoutError when none does, and whatever one dies of.
    """
    canaries: set[asyncio.Task[bool]] = set()
    try:
        async with asyncio.timeout(RECOVERY_SECONDS):
            for number in range(1000):
                canaries.add(asyncio.create_task(scene.load.canary(f"{name}-{number}")))
                # The first that is through counts: one may have begun too early.
                done, _ = await asyncio.wait(
                    canaries,
                    timeout=_CANARY_PAUSE_SECONDS * (number + 1),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                # One that gave up, as all may, is no proof; one that crashed raises its error.
                if any(canary.result() for canary in done):
                    return time.monotonic() - healed
                canaries -= done
        raise TimeoutError
    finally:
        for canary in canaries:
            canary.cancel()
        await asyncio.gather(*canaries, return_exceptions=True)


def wrong_now(scene: Scene) -> list[str]:
    """What can be seen to be wrong at once, and was not told yet."""
    found = []
    for process in [*scene.town.servers, *scene.town.sidecars, scene.town.emulator]:
        found += process.unasked
        process.unasked.clear()
    for one in scene.followers:
        found += [f"I4: {one.name}: {what}" for what in one.wrong]
        one.wrong.clear()
    found += [
        f"I4: {one.name} ended: {one.ending!r}" for one in scene.followers if one.ending is not None
    ]
    return found


async def _started_again(scene: Scene) -> list[str]:
    """Start what ended by itself, or was left by a fault that failed: the next one is about it.

    Antom is not: its books are gone. What does not start is told.
    """
    found = []
    for process in [*scene.town.servers, *scene.town.sidecars]:
        if not process.is_there:
            try:
                await process.start()
            except AssertionError as error:
                found.append(str(error))
    return found


def table(outcome: Outcome) -> list[tuple[str, str, str, str, str]]:
    """Fault, how often, what held, and how soon all went on: the median and the longest."""
    rows = []
    for name, tally in sorted(outcome.tallies.items()):
        seconds = tally.recoveries
        held = "all" if not tally.violations else f"{len(tally.violations)} violations"
        if tally.not_injected:
            held += f", {len(tally.not_injected)} not injected"
        median = f"{statistics.median(seconds):.2f}" if seconds else "-"
        longest = f"{max(seconds):.2f}" if seconds else "-"
        rows.append((name, str(len(seconds)), held, median, longest))
    return rows


def by_group(outcome: Outcome) -> dict[str, list[float]]:
    """Recoveries of each group of faults."""
    groups: dict[str, list[float]] = defaultdict(list)
    for tally in outcome.tallies.values():
        groups[tally.fault.group] += tally.recoveries
    return groups
