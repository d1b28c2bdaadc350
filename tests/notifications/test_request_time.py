"""Which request times lie within the window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from antom_payments.notifications import Window

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-03-02T09:30:00Z", id="Java"),
        pytest.param("2026-03-02T09:30:00+00:00", id="Python"),
        pytest.param("1772443800000", id="milliseconds"),
        pytest.param("2026-03-02T17:30:00+0800", id="PHP"),
        pytest.param("2026-03-02T09:30:00.1234567Z", id=".NET"),
        pytest.param("2026-03-02T02:00:00-07:30", id="another offset"),
        pytest.param("2026-03-01T08:30:00Z", id="25 h ago"),
        pytest.param("2026-03-02T09:35:00Z", id="in 5 min"),
    ],
)
def test_within(text):
    assert Window().holds(text, NOW)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-03-01T08:29:59Z", id="more than 25 h ago"),
        pytest.param("2026-03-02T09:35:01Z", id="in more than 5 min"),
        pytest.param("2026-03-02T09:30:00", id="without an offset"),
        pytest.param("1772443800", id="seconds"),
        pytest.param("2026-02-31T09:30:00Z", id="no such day"),
        pytest.param("0001-01-01T00:00:00+23:59", id="before all time"),
        pytest.param("yesterday", id="words"),
        pytest.param("", id="nothing"),
    ],
)
def test_not_within(text):
    assert not Window().holds(text, NOW)


def test_the_window_can_be_narrowed():
    assert not Window(past=timedelta(minutes=1)).holds("2026-03-02T09:28:59Z", NOW)
