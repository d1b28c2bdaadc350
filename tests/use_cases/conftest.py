"""The service on real parts: database, client, and an Antom on a socket that can misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from antom_payments.antom import AntomClient, BreakerOptions
from antom_payments.reconcile import Reconciler
from antom_payments.service import (
    Merchant,
    PaymentService,
)
from antom_payments.store import DataCipher, PaymentStore, open_store
from clock import FrozenClock
from scripted_antom import (
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    ScriptedAntom,
    antom_client,
    scripted_antom,
    session,
)
from use_cases.till import (
    CALL_BUDGET_SECONDS,
    PATIENCE,
    POLICY,
    Till,
    reconciler,
)


@pytest.fixture(scope="session")
async def listening() -> AsyncIterator[tuple[ScriptedAntom, AntomClient]]:
    # Shared by many tests: what one of them breaks must not shut Antom off for the next.
    unbreakable = BreakerOptions(failures=1_000_000)
    async with (
        scripted_antom() as antom,
        antom_client(antom.origin, breaker=unbreakable) as client,
    ):
        yield antom, client


@pytest.fixture
def antom(listening: tuple[ScriptedAntom, AntomClient], clock: FrozenClock) -> ScriptedAntom:
    listening[0].forget()
    listening[0].now = clock.now
    return listening[0]


@pytest.fixture
def till_on(
    antom: ScriptedAntom, listening: tuple[ScriptedAntom, AntomClient], clock: FrozenClock
) -> Callable[..., Till]:
    """A service over a store; one more is what a restart or another replica makes."""

    def made(store: PaymentStore, client: AntomClient = listening[1], **options: Any) -> Till:
        merchants = {"default": Merchant("default", client, POLICY)}
        service = PaymentService(
            store, merchants, now=clock.now, call_budget_seconds=CALL_BUDGET_SECONDS, **options
        )
        return Till(service, store, antom, clock)

    return made


@pytest.fixture
async def till(store: PaymentStore, till_on: Callable[..., Till]) -> AsyncIterator[Till]:
    """A service on each kind of database."""
    till = till_on(store)
    yield till
    async with asyncio.timeout(PATIENCE):
        await till.service.drain()


@pytest.fixture
async def sqlite_till(
    sqlite_url: str, cipher: DataCipher, clock: FrozenClock, till_on: Callable[..., Till]
) -> AsyncIterator[Till]:
    """For what is the same whatever the database is."""
    async with open_store(sqlite_url, cipher=cipher, now=clock.now) as store:
        till = till_on(store)
        yield till
        async with asyncio.timeout(PATIENCE):
            await till.service.drain()


@pytest.fixture
def reconcile(till: Till, listening: tuple[ScriptedAntom, AntomClient]) -> Reconciler:
    return reconciler(till, listening[1])


@pytest.fixture
async def at_the_till(till: Till, antom: ScriptedAntom) -> Till:
    """A buyer was handed a session, and Antom has not heard of him yet."""
    antom.will(SESSION, session())
    antom.will(INQUIRY, NOT_SUBMITTED)
    await till.create()
    antom.asked.clear()
    return till
