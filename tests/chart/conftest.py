"""The chart's tools as a fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from chart.helm import deploy_tools
from made import NotMade


@pytest.fixture(scope="session", autouse=True)
def tools() -> Path:
    """Never skipped: without them, this folder's tests fail and say why."""
    try:
        return deploy_tools()
    except NotMade as reason:
        pytest.fail(str(reason), pytrace=False)
