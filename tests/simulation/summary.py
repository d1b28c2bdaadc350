"""What happened in all runs, by subject: the counts of a simulation, to be read at a glance."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

_OTHERS = "other"
_SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "payments": ("ends ", "event ", "source ", "orphan ", "foreign payment"),
    "callers": ("create ", "session", "payment without", "read", "fresh read", "report ", "sdk "),
    "buyers and dashboard": ("buyer: ", "dashboard: "),
    "calls to Antom": ("createPaymentSession", "inquiryPayment", "an answer ", "reinquire"),
    "notifications": ("notification ", "a notification ", "forged "),
    "what goes wrong": ("answers go wrong", "notifications go wrong", "bad weather", "Antom is"),
    "keys": ("Antom signs", "the old key"),
    "processes": ("process ", "clock ", "kill ", "start without"),
    "database": ("database ", "dump", "restore", "prun", "waits for a lock", "statements", "turns"),
    "subscribers": ("reader", "events read", "checkpoints", "start at a time"),
    "snapshots and lists": ("snapshot ", "walk "),
}
"""How the kinds of a subject begin."""


def summary(counts: Counter[str]) -> Iterator[str]:
    """A heading for each subject, and below it what was counted, by name."""
    by_subject: dict[str, list[str]] = defaultdict(list)
    for kind in sorted(counts):
        by_subject[subject_of(kind)].append(f"{kind} {counts[kind]:,}".replace(" ", "\N{NBSP}"))
    for subject in (*_SUBJECTS, _OTHERS):
        if told := by_subject.get(subject):
            yield subject
            lines = textwrap.wrap(", ".join(told), 100, initial_indent="  ", subsequent_indent="  ")
            yield from (line.replace("\N{NBSP}", " ") for line in lines)


def subject_of(kind: str) -> str:
    """The subject whose words fit a kind longest: a reader is no read."""
    fitting = [
        (len(words), subject)
        for subject, beginnings in _SUBJECTS.items()
        for words in beginnings
        if kind.startswith(words)
    ]
    return max(fitting, default=(0, _OTHERS))[1]
