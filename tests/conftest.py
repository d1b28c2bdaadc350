"""Fixtures of all tests: databases of both kinds, a clock that stands still, the golden keys.

With pytest-xdist the first process only hands out tests, and each worker starts a PostgreSQL of its
own; the first process chooses which kind for all, and says at the end what each of them used.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import Any

import hypothesis
import pytest

from antom_payments.store import DataCipher, PaymentStore, new_data_key, open_store
from clock import FrozenClock
from databases import NOT_ASKED_FOR, POSTGRES, SQLITE, Databases
from keys import KeyPair, golden_pair
from postgres_server import Choice, choose

CHOICE, DATABASES = pytest.StashKey[Choice](), pytest.StashKey[Databases]()
WORKERS_USED = pytest.StashKey[set[str]]()
BOTH = [SQLITE, pytest.param(POSTGRES, marks=pytest.mark.postgres)]

# Addresses and the order of sets differ between processes, and workers must agree on names.
OF_THIS_PROCESS = re.compile(r" at 0x[0-9a-f]+>|set\(")

# Same examples in every run: a red run can be repeated. Explore with --hypothesis-seed.
hypothesis.settings.register_profile("run", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("run")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--events", type=int, default=3_000, help="events of the soak (`make soak`: 100000)"
    )
    parser.addoption(
        "--restarts", type=int, default=2, help="restarts under load (`make drain`: 12)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("collectonly"):
        told = getattr(config, "workerinput", {}).get("postgresql")
        config.stash[CHOICE] = Choice(told) if told else choose(os.environ)
        config.stash[WORKERS_USED] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker what was chosen."""
    node.workerinput["postgresql"] = str(node.config.stash[CHOICE])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the first process what this worker used."""
    config = session.config
    if hasattr(config, "workeroutput") and DATABASES in config.stash:
        config.workeroutput["postgresql"] = config.stash[DATABASES].how


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what a worker used; one that crashed tells nothing, and has failed the run."""
    told = getattr(node, "workeroutput", {}).get("postgresql")
    node.config.stash[WORKERS_USED] |= {told} - {None}


def pytest_report_header(config: pytest.Config) -> str | None:
    return f"PostgreSQL: {config.stash[CHOICE]}" if CHOICE in config.stash else None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    used = config.stash.get(WORKERS_USED, set())
    if DATABASES in config.stash:
        used = {config.stash[DATABASES].how}
    if how := used - {NOT_ASKED_FOR} or used:
        terminalreporter.write_line(f"PostgreSQL of this run: {' | '.join(sorted(how))}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if OF_THIS_PROCESS.search(item.nodeid):
            raise pytest.UsageError(f"another process would name it differently: {item.nodeid}")
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("slow"))
        if {"postgres_url", "empty_postgres_url"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
async def databases(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Databases]:
    """Where databases come from; see `Databases.fresh`."""
    folder = tmp_path_factory.mktemp("databases")
    databases = Databases(pytestconfig.stash[CHOICE], os.environ, folder)
    pytestconfig.stash[DATABASES] = databases
    yield databases
    await databases.stop()


@pytest.fixture(params=BOTH)
async def database_url(request: pytest.FixtureRequest, databases: Databases) -> AsyncIterator[str]:
    """A new migrated database, of each kind in turn; no connection may be left open to it."""
    async with databases.fresh(request.param) as url:
        yield url


@pytest.fixture(params=BOTH)
async def empty_database_url(
    request: pytest.FixtureRequest, databases: Databases
) -> AsyncIterator[str]:
    """A new database without our schema, of each kind in turn."""
    async with databases.fresh(request.param, migrated=False) as url:
        yield url


@pytest.fixture
async def sqlite_url(databases: Databases) -> AsyncIterator[str]:
    """A new migrated SQLite file."""
    async with databases.fresh(SQLITE) as url:
        yield url


@pytest.fixture
async def postgres_url(databases: Databases) -> AsyncIterator[str]:
    """A new migrated PostgreSQL database."""
    async with databases.fresh(POSTGRES) as url:
        yield url


@pytest.fixture
async def empty_postgres_url(databases: Databases) -> AsyncIterator[str]:
    """A new PostgreSQL database without our schema."""
    async with databases.fresh(POSTGRES, migrated=False) as url:
        yield url


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands still; pass `clock.now`."""
    return FrozenClock()


@pytest.fixture(scope="session")
def data_key() -> str:
    """The text of a key file of this run, for other processes on the same database."""
    return new_data_key()


@pytest.fixture(scope="session")
def cipher(data_key: str) -> DataCipher:
    """Encrypts personal data, with a key of this run."""
    return DataCipher(data_key)


@pytest.fixture
async def store(
    database_url: str, cipher: DataCipher, clock: FrozenClock
) -> AsyncIterator[PaymentStore]:
    """A store on a new database, of each kind in turn."""
    async with open_store(database_url, cipher=cipher, now=clock.now) as store:
        yield store


@pytest.fixture
def soak_events(pytestconfig: pytest.Config) -> int:
    """How many events the soak appends."""
    events: int = pytestconfig.getoption("events")
    return events


@pytest.fixture
def restarts_of_a_run(pytestconfig: pytest.Config) -> int:
    """How often a replica is restarted under load."""
    restarts: int = pytestconfig.getoption("restarts")
    return restarts


@pytest.fixture(scope="session")
def merchant_keys() -> KeyPair:
    """The merchant's golden key pair."""
    return golden_pair("merchant")


@pytest.fixture(scope="session")
def antom_keys() -> KeyPair:
    """Antom's golden key pair."""
    return golden_pair("antom")
