"""Seeds repeat exactly, break no rule, and do what they are there for."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulation.breakages import BREAKAGES, broken
from simulation.plan import Plan, plan_of
from simulation.run import Outcome, run
from simulation.story import Story, keep, kept, shortened
from simulation.summary import subject_of, summary
from simulation.workers import outcomes

SEEDS = 200
MET = (
    *("kill of a server", "kill of a sidecar", "process stopped", "database away"),
    *("clock of a server is ahead", "clock of a sidecar is ahead"),
    *("dump", "restore", "restore beneath running processes", "reinquire", "pruned"),
    *("waits for a lock", "forged notification", "foreign payment", "sdk event reported"),
    *(f"createPaymentSession {fate}" for fate in ("refused", "lost", "answer_lost", "twice")),
    *(f"inquiryPayment {fate}" for fate in ("refused", "lost", "answer_lost", "twice", "slow")),
    *(f"notification {fate}" for fate in ("refused", "lost", "answer_lost", "twice", "slow")),
    *("create OutcomeUnknown", "create TimeoutError", "create Cut", "create Refused"),
    *("create SessionInFlight", "create with another amount refused", "create AntomUntrusted"),
    *("fresh read", "read", "orphan ADOPTED", "orphan FOREIGN"),
    *("reader drops", "reader drops what it got", "reader resumes", "reader Cut"),
    *("reader's cursor expired", "reader's log was rewound", "checkpoints"),
    *("reader starts earliest", "reader starts latest", "reader starts at time"),
    *("start at a time that was pruned", "snapshot starts", "snapshot resumes", "snapshot ends"),
    *("snapshot moves to another server", "snapshot is rewound in its middle"),
    *("snapshot expires in its middle", "snapshot leaves a payment to its events"),
    *("Antom signs with the next key", "the old key is removed"),
    *("walk by CREATE_TIME_DESC", "walk by UPDATE_TIME_ASC", "walk while payments change"),
    *("source API", "source INQUIRY", "source NOTIFICATION"),
    *(f"ends {state}" for state in ("SUCCEEDED", "AUTHORIZED", "FAILED", "CANCELLED", "EXPIRED")),
    *(f"event PAYMENT_{end}" for end in ("AUTHORIZED", "SUCCEEDED", "FAILED", "CANCELLED")),
    *("answers go wrong: NEXT_KEY", "an answer comes with the next key too early"),
    *("notifications go wrong: NEXT_KEY", "a notification comes with the next key too early"),
    *("notifications go wrong: OTHER_AMOUNT", "event AMOUNT_MISMATCH"),
    *("Antom is silent about a payment", "event PAYMENT_EXPIRED"),
    *("event SESSION_RENEWED", "event CAPTURE_SUCCEEDED", "event CAPTURE_FAILED"),
)
"""What must have happened: a simulation in which nothing goes wrong shows nothing."""
_SIGNED_WRONGLY = {"answer fault", "notification fault", "silence"}
REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Collect here what was not collected meanwhile: in a later test its complaints would fail."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def told(outcome: Outcome) -> str:
    return "\n".join([f"seed {outcome.seed}", *map(str, outcome.violations), *outcome.lines[-40:]])


@pytest.mark.timeout(900)
def test_two_hundred_seeds_break_no_rule_and_meet_everything(folder: Path) -> None:
    counts: Counter[str] = Counter()
    for seen in outcomes(range(SEEDS), 2, folder):
        assert seen.story is None, f"\n{seen.story}"
        counts += seen.counts
    assert not [kind for kind in MET if not counts[kind]]


@pytest.mark.parametrize("file", REGRESSIONS, ids=lambda file: file.stem)
def test_what_once_went_wrong_does_not_again(file: Path, folder: Path) -> None:
    seed, plan, _reason = kept(file)
    outcome = run(seed, folder, plan)
    assert not outcome.violations, told(outcome)


def test_a_seed_repeats_exactly_within_a_process(folder: Path) -> None:
    first, second = run(7, folder), run(7, folder)
    assert first.lines == second.lines
    assert run(8, folder).hash != first.hash


def test_a_seed_repeats_exactly_in_another_process(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from simulation.run import run;"
        "print([run(seed, Path(sys.argv[1])).hash for seed in (11, 12, 13)])"
    )
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    hashes = []
    for name in ("one", "two"):
        own = folder / name
        own.mkdir()
        ran = subprocess.run(
            [sys.executable, "-c", code, str(own)],
            env=environ,
            check=True,
            capture_output=True,
            text=True,
        )
        hashes.append(ran.stdout)
    assert hashes[0] == hashes[1]
    assert hashes[0].count(",") == 2


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_broken_on_purpose_is_noticed(name: str, folder: Path) -> None:
    needed = BREAKAGES[name].needs
    seeds = [seed for seed in range(400) if needed <= {step.kind for step in plan_of(seed)}]
    with broken(name) as rule:
        met = [run(seed, folder).invariants for seed in seeds[:1]]
        for seed in seeds[1:12]:
            if rule in met[-1]:
                break
            met.append(run(seed, folder).invariants)
    assert rule in met[-1]


def test_a_story_has_the_steps_that_matter_and_is_kept(folder: Path) -> None:
    seed = next(seed for seed in range(400) if "forged" in {s.kind for s in plan_of(seed)})
    # Without what else is signed wrongly.
    plan = [step for step in plan_of(seed) if step.kind not in _SIGNED_WRONGLY]
    with broken("signatures are not looked at"):
        story = shortened(run(seed, folder, plan), folder, seconds=60)
        file = keep(story, "somebody believed it", folder)
        again = run(*_arguments(file, folder))
    assert "forged" in {step.kind for step in story.shortest.plan}
    assert len(story.shortest.plan) < len(story.first.plan)
    assert "what is forged is refused" in str(story)
    assert (again.hash, again.violations) == (story.shortest.hash, story.shortest.violations)
    assert not run(*_arguments(file, folder)).violations


def test_a_run_that_breaks_is_told_with_its_seed_and_others_go_on(folder: Path) -> None:
    with broken("the simulation itself breaks") as rule:
        first, second = run(7, folder), run(8, folder)
    assert rule in first.invariants & second.invariants
    assert "seed 7" in str(Story(first, first))
    assert "KeyError('a bug') at " in str(first.violations[0])
    assert "_mended" in str(first.violations[0])
    assert not run(8, folder).violations


def test_a_summary_has_each_count_once_below_its_subject() -> None:
    counts = Counter({kind: number for number, kind in enumerate(MET, 1)})
    lines = list(summary(counts))
    told = [one for line in lines if line.startswith("  ") for one in line.strip(" ,").split(", ")]
    assert sorted(told) == sorted(f"{kind} {number}" for kind, number in counts.items())
    assert lines[0] == "payments"
    assert "other" not in lines
    assert subject_of("reader Cut") == subject_of("reader's cursor expired") == "subscribers"
    assert subject_of("read Cut") == "callers"
    assert subject_of("what is new") == "other"


def test_a_kept_story_overwrites_no_other(folder: Path) -> None:
    outcome = run(7, folder, plan_of(7)[:3])
    shorter = replace(outcome, plan=outcome.plan[:2])
    files = [
        keep(Story(outcome, shortest), reason, folder)
        for shortest, reason in ((outcome, "first"), (shorter, "second"), (outcome, "third"))
    ]
    assert files[0] == files[2] != files[1]
    assert [kept(file)[1:] for file in files[:2]] == [
        (outcome.plan, "first"),
        (shorter.plan, "second"),
    ]


def _arguments(file: Path, folder: Path) -> tuple[int, Path, Plan]:
    seed, plan, reason = kept(file)
    assert reason == "somebody believed it"
    return seed, folder, plan
