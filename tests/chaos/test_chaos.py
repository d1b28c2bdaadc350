"""A few faults on a real town: the harness of `make chaos` works, and the product holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from antom_payments.antom.signing import (
    SignatureInvalid,
    Signer,
    load_private_key,
    load_public_key,
)
from chaos import report
from chaos.accepted import Accepted, ChangingVerifier
from chaos.asks import Asks
from chaos.campaign import Outcome, Tally, all_faults, run, schedule
from keys import golden_pair

SHORT = (
    "kill -9: server: before commit",
    "kill -9: sidecar: event inserted",
    "kill -9: sidecar: committed, Antom not answered",
    "kill -9: pruning: events deleted, not committed",
    "SIGTERM: server",
    "network: server and PostgreSQL: cut",
    "PostgreSQL: all sessions terminated",
    "Antom: answers lost, what was asked is done",
    "callers and strangers: forged notifications",
    "callers and strangers: a subscriber's program restarted",
    "clock: a sidecar's clock +240 s",
    "version: kill -9 in the middle of a migration",
)


def named(fault: Any) -> str:
    return f"{fault.group}: {fault.name}"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_town_under_attack_loses_doubles_and_invents_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [fault for fault in all_faults() if named(fault) in SHORT]
    assert len(chosen) == len(SHORT)
    outcome = await run(tmp_path, faults=chosen, seed=1, per_second=8.0, say=print)
    told = report.as_text(outcome) + capsys.readouterr().out
    assert outcome.all_violations == [], told
    assert outcome.not_injected == [], told
    assert outcome.injected == len(SHORT), told
    assert outcome.figures["payments"], told


def test_a_schedule_is_repeated_by_its_seed_and_leaves_no_kind_out() -> None:
    faults = all_faults()
    count = len(faults) + 7
    chosen = schedule(faults, count, Random(4))
    assert chosen == schedule(faults, count, Random(4))
    assert len(chosen) == count
    assert set(map(named, chosen)) == set(map(named, faults))


def test_every_fault_has_a_name_of_its_own() -> None:
    names = list(map(named, all_faults()))
    assert len(set(names)) == len(names)


PAGE = "Before.\n<!-- the last run -->\nold\n<!-- its end -->\nAfter.\n"


@pytest.mark.parametrize("of", [report.as_text, lambda outcome: report.as_page(outcome, PAGE)])
def test_a_report_names_what_did_not_hold(of: Callable[[Outcome], str]) -> None:
    fault = all_faults()[0]
    tally = Tally(fault, recoveries=[0.5, 2.0], violations=["I4: a gap"])
    outcome = Outcome(7, {named(fault): tally}, violations=["I1: lost"])
    told = of(outcome)
    assert "2 faults, 2 violations, 0 not injected, seed 7" in told
    assert "1 violations" in told
    assert "2.00" in told


def test_a_page_keeps_what_is_around_the_last_run() -> None:
    page = report.as_page(Outcome(7), PAGE)
    assert "old" not in page
    assert page.startswith("Before.\n")
    assert page.endswith("\nAfter.\n")
    assert report.as_page(Outcome(7), page) == page


def test_calls_to_antom_for_one_id_at_the_same_time_are_found(tmp_path: Path) -> None:
    lines = {
        "server-0": "both 1.0 2.0 0.0\nafter 1.0 2.0 0.0\nleapt 1.0 2.0 0.0\nlate 1.0 9.0 0.0\n",
        "server-1": "both 1.5 2.5 0.0\nafter 2.0 3.0 0.0\nleapt 1.5 2.5 240\nlate 4.5 5.0 0.0\n",
    }
    for who, told in lines.items():
        (tmp_path / f"{who}.asks").write_text(told)
    asks = Asks(tmp_path)
    assert asks.wrong([20.0]) == [
        "I5: both was asked for by server-0 and server-1 at the same time"
    ]
    # A lease that was taken before all clocks leapt was over after it.
    assert asks.wrong([0.9]) == []


def test_antom_accepts_the_keys_that_it_is_told_to(tmp_path: Path) -> None:
    keys = [golden_pair(name) for name in ("merchant", "antom")]
    accepted = Accepted(tmp_path)
    verifier = ChangingVerifier(
        [load_public_key(key.public, setting="test") for key in keys], accepted
    )

    def verify(key: str) -> str:
        signer = Signer(load_private_key(key, setting="test"), "client")
        header = signer.signature_header("POST", "/a", "2026-01-01T00:00:00Z", b"{}")
        return verifier.verify(
            method="POST",
            uri="/a",
            client_id="client",
            time="2026-01-01T00:00:00Z",
            body=b"{}",
            signature_header=header,
        )

    assert len({verify(key.private) for key in keys}) == 2
    accepted.put([1])
    verify(keys[1].private)
    with pytest.raises(SignatureInvalid):
        verify(keys[0].private)
