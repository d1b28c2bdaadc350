"""The Node client as a fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from antom_payments.store import DataCipher, PaymentStore, open_store
from clock import FrozenClock
from node.driver import Driver, driving
from node.installed import NodeClient, NoNode, installed


def installed_or_failed() -> NodeClient:
    """Never skipped: without Node, this folder's tests fail and say why."""
    try:
        return installed()
    except NoNode as reason:
        pytest.fail(str(reason), pytrace=False)


@pytest.fixture(scope="session", name="node_client")
def fixture_client() -> NodeClient:
    """The example client, ready to be run."""
    return installed_or_failed()


@pytest.fixture(scope="session")
async def driver(node_client: NodeClient) -> AsyncIterator[Driver]:
    """One process for all tests that do not kill it: a start takes half a second."""
    async with driving(node_client) as driver:
        yield driver


@pytest.fixture
async def sqlite_store(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    """A store on a new SQLite file: what the client makes of a stream depends on no database."""
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        yield store
