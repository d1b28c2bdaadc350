"""A cursor in a file survives what may happen to a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antom_payments.client import FileCursorStore


async def test_a_saved_cursor_is_there_for_the_next_process(tmp_path: Path) -> None:
    file = tmp_path / "orders.cursor"
    assert await FileCursorStore(file).load() == ""
    await FileCursorStore(file).save("AQab-_1")
    await FileCursorStore(str(file)).save("AQab-_2")
    assert await FileCursorStore(file).load() == "AQab-_2"
    assert os.listdir(tmp_path) == ["orders.cursor"]  # noqa: PTH208 async code may not iterdir


async def test_a_save_that_is_cut_short_leaves_the_former_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileCursorStore(tmp_path / "cursor")
    await store.save("one")

    def crash(_: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(OSError, match="power cut"):
        await store.save("two")
    assert await store.load() == "one"


async def test_a_cursor_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await FileCursorStore(tmp_path / "missing" / "cursor").save("c")
