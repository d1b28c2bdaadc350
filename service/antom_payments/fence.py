"""The fence round telemetry: what it does wrong never becomes the work's failure.

Metrics and spans are told in the middle of calls, transactions and streams, some of them after the
commit. An error of the SDK, of an exporter or of a reading must not undo, repeat or answer those.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from opentelemetry import trace
from opentelemetry.context import Context

from antom_payments import redaction

Wrapped = TypeVar("Wrapped")

_log = logging.getLogger(__name__)
_told: set[str] = set()
_MOST_TOLD = 64


def fenced(call: Callable[..., None]) -> Callable[..., None]:
    """``call`` without its exceptions: each kind is logged once in a process, without its text."""

    @functools.wraps(call)
    def within(*arguments: object, **named: object) -> None:
        try:
            call(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on
            _tell(error)

    return within


def fenced_method(owner: Wrapped, name: str) -> Wrapped:
    """The same object, one method of which is `fenced`."""
    setattr(owner, name, fenced(getattr(owner, name)))
    return owner


@contextmanager
def span(
    tracer: trace.Tracer,
    name: str,
    kind: trace.SpanKind,
    *,
    context: Context | None = None,
    attributes: Mapping[str, str | int] | None = None,
    links: Sequence[trace.Link] = (),
) -> Iterator[trace.Span]:
    """A current span that records no texts of exceptions: they may quote what they choke on.

    One that cannot begin is a stand-in with its parent's ids; one that cannot end is lost.
    """
    try:
        begun = tracer.start_span(name, context, kind, attributes, links)
    except Exception as error:  # noqa: BLE001 - as in `fenced`
        _tell(error)
        begun = trace.NonRecordingSpan(trace.get_current_span(context).get_span_context())
    try:
        with trace.use_span(begun, record_exception=False, set_status_on_exception=False):
            yield begun
    finally:
        fenced(begun.end)()


def _tell(error: Exception) -> None:
    kind = redaction.summary(error)
    frames = list(redaction.frames(error))
    seen = f"{kind} {frames[-1:]}"
    # Of a flood the first says all.
    if seen not in _told and len(_told) < _MOST_TOLD:
        _told.add(seen)
        _log.error("telemetry_failed %s %s", kind, frames[-5:])
