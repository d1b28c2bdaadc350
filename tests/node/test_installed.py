"""The Node client comes from a lock file, and where it cannot run the tests say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.conftest import installed_or_failed
from node.installed import LOCK, OLDEST_NODE


def test_without_node_the_tests_fail_and_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="apt-get install nodejs npm") as failed:
        installed_or_failed()
    assert "node and npm cannot be found on PATH" in str(failed.value)


def test_an_old_node_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("node", "npm"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho v12.22.9\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"this node is v12\.22\.9"):
        installed_or_failed()


def test_the_lock_has_exact_versions_hashes_and_no_registry() -> None:
    locked = json.loads(LOCK.read_text("utf-8"))["packages"]
    told = locked.pop("")
    assert told["engines"] == {"node": f">={OLDEST_NODE}"}
    for name, version in told["dependencies"].items():
        assert locked[f"node_modules/{name}"]["version"] == version
    for name, package in locked.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
        assert "hasInstallScript" not in package or name == "node_modules/protobufjs"
