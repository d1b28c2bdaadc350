"""`make simulate` as a process: what it is told, and how it ends when it is interrupted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from processes import proof


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_its_processes_ends_it_at_once_and_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    with proof("simulation", "--seeds=1000", "--workers=1", TMPDIR=str(tmp_path)) as running:
        assert running.stdout
        assert running.stdout.readline() == "seeds 0 to 999\n"
        os.killpg(running.pid, number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert out.startswith("interrupted after ")
    assert out.endswith(" of 1000 seeds: 0 violations\n")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_last_line_says_which_seeds_ran_and_no_workers_are_one() -> None:
    with proof("simulation", "--first=17", "--seeds=2", "--workers=0") as running:
        out, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    last = out.splitlines()[-1]
    assert last.startswith("2 seeds in ")
    assert last.endswith(" s: 0 violations (17 to 18)")
