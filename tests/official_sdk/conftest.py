"""The official SDK as a fixture."""

from __future__ import annotations

import pytest

from official_sdk.environment import NoOfficialSdk, OfficialSdk, official_sdk


@pytest.fixture(scope="session", name="sdk")
def fixture_sdk() -> OfficialSdk:
    """Never skipped: without it, this folder's tests fail and say why."""
    try:
        return official_sdk()
    except NoOfficialSdk as reason:
        pytest.fail(str(reason), pytrace=False)
