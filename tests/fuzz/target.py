"""What is fuzzed: inputs made from a seed, and a check that says what became of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Any

Input = dict[str, Any]
"""As JSON; bytes as text of latin-1."""


class Finding(Exception):
    """The product did what it must never do."""


@dataclass(frozen=True)
class Target:
    """A part of the product, open for inputs.

    Attributes:
        make: the next input.
        check: feeds it; says what became of it in bounded words. ``accepted`` begins what the
            product took. Raises `Finding`, and whatever the product lets out.
        end: checks what holds for the whole run.
        pid: the process in which the product runs, and whose memory must not grow.
    """

    make: Callable[[Random], Input]
    check: Callable[[Input], Awaitable[str]]
    end: Callable[[], Awaitable[None]]
    pid: int | str = "self"


@dataclass(frozen=True)
class Kind:
    """A target to be opened.

    What becomes of an input may depend on time where ``is_timed``; whether it is sound never does.
    """

    name: str
    opened: Callable[[], AbstractAsyncContextManager[Target]]
    is_timed: bool = False


async def nothing_more() -> None:
    """The end of a target that has none."""


def raw(text: str) -> bytes:
    """The bytes that a text of an input stands for."""
    return text.encode("latin-1")


def must(holds: object, what: str) -> None:
    """Raise a `Finding` unless it holds."""
    if not holds:
        raise Finding(what)
