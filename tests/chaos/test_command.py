"""`make chaos` as a process: what it refuses, and how it ends when it is interrupted."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from chaos.__main__ import main
from processes import proof


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--per-second=0", "--per-second must be a number above 0"),
        ("--per-second=-1", "--per-second must be a number above 0"),
        ("--per-second=nan", "--per-second must be a number above 0"),
        ("--per-second=inf", "--per-second must be a number above 0"),
        ("--only=(", "is no expression: missing )"),
        ("--faults=0", "--faults must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_and_touches_no_log(
    wrong: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "server-0.log").write_text("of an earlier run")
    monkeypatch.setattr(sys, "argv", ["chaos", f"--logs={tmp_path}", wrong])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert (tmp_path / "server-0.log").exists()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ctrl_c_ends_the_town_and_what_it_printed_is_kept(tmp_path: Path) -> None:
    logs, figures, place = (tmp_path / name for name in ("logs", "figures.json", "place"))
    logs.mkdir()
    place.mkdir()
    for old in (logs / "server-7.log", figures):
        old.write_text("of an earlier run")
    chosen = ("--faults=4", "--seed=3", "--only=^Antom: answers")
    kept_at = (f"--logs={logs}", f"--json={figures}")
    with proof("chaos", *chosen, *kept_at, TMPDIR=str(place)) as running:
        assert running.stdout
        assert running.stdout.readline().startswith("4 faults of ")
        assert running.stdout.readline().startswith("   1 Antom: answers ")
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert running.returncode == 130
    assert out.endswith(" of 4 faults, 0 violations, 0 not injected, seed 3\n")
    assert "Traceback" not in err
    assert "never retrieved" not in err
    assert not figures.exists()
    kept = {file.name for file in logs.iterdir()}
    assert kept >= {"server-0.log", "sidecar-0.log", "emulator.log"}
    assert "server-7.log" not in kept
    assert list(place.glob("antom-payments-chaos-*")) == []
