"""kill -9 within CreateSession; the caller's retry meets another server on the same database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from antom_payments.payment import EventType, Payment, PaymentState
from antom_payments.settings import Settings, secret_text
from antom_payments.store import DataCipher, PaymentStore, open_store
from antom_payments.v1 import payment_pb2
from antom_payments.v1 import payment_service_pb2_grpc as pb_grpc
from clock import START
from grpc_api.sessions import card_session
from grpc_api.world import Refusal, connected, refusal_of
from launcher import Launcher, launching
from processes import as_environment
from scripted_antom import (
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Held,
    ScriptedAntom,
    inquired,
    refused,
    session,
)
from stored import whole_log
from whole import settings

BUDGET_SECONDS = 5
LEASE_SECONDS = BUDGET_SECONDS + 5
PAY_1 = card_session("pay-1")


@pytest.fixture(scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    async with launching(Path(__file__).parent / "killed_server.py") as launcher:
        yield launcher


@dataclass
class Killed:
    """Servers on one database that take turns, and what they leave in it."""

    launcher: Launcher
    antom: ScriptedAntom
    order: dict[str, Any]
    store: PaymentStore

    def after(self, seconds: float) -> None:
        """So much later than at the start it is for the servers."""
        later = Path(self.order["later"])
        # In one go: a server at work asks for the time whenever it likes.
        told = later.with_suffix(".next")
        told.write_text(str(seconds))
        told.replace(later)

    @contextlib.asynccontextmanager
    async def server(self, point: str = "") -> AsyncIterator[tuple[Any, int]]:
        """A caller's stub of a server that dies at ``point``, at the latest when the block ends."""
        self.launcher.order(**self.order, point=point)
        started = await self.launcher.report()
        try:
            async with connected(started["port"]) as channel:
                yield pb_grpc.PaymentServiceStub(channel), started["pid"]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(started["pid"], signal.SIGKILL)
            assert await self.launcher.report() == {"signal": signal.SIGKILL}

    async def dies(self, point: str) -> None:
        """A call whose server dies under it."""
        async with self.server(point) as (stub, pid):
            call = asyncio.ensure_future(stub.CreateSession(PAY_1, timeout=20))
            if point == "asked":
                await self.antom.was_asked()
                os.kill(pid, signal.SIGKILL)
            assert (await refusal_of(call)).code is grpc.StatusCode.UNAVAILABLE

    async def stored(self) -> Payment | None:
        return await self.store.payment("default", payment_request_id="pay-1")

    async def news(self) -> list[EventType]:
        return [event.type for event in await whole_log(self.store)]


def cipher_of(chosen: Settings) -> DataCipher:
    return DataCipher(secret_text(chosen.data_key_file, "data_key_file"))


@pytest.fixture
async def killed(
    launcher: Launcher,
    antom: ScriptedAntom,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Killed]:
    chosen = settings(
        tmp_path,
        database_url=database_url,
        antom_url=antom.origin,
        antom_budget_seconds=BUDGET_SECONDS,
    )
    told = {name: str(value) for name, value in as_environment(chosen).items()}
    order = {"settings": told, "start": START.isoformat(), "later": str(tmp_path / "later")}
    async with open_store(database_url, cipher=cipher_of(chosen), now=lambda: START) as store:
        servers = Killed(launcher, antom, order, store)
        servers.after(0)
        yield servers


async def retried(stub: Any, killed: Killed) -> Any:
    """The caller's retry, at once and again when it was told to: the answer, or its refusal."""
    another = payment_pb2.Money(currency_code="SGD", minor_units=1)
    refusal = await refusal_of(stub.CreateSession(card_session("pay-1", payment_amount=another)))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.info.metadata["differing"] == "payment_amount"
    try:
        return await stub.CreateSession(PAY_1)
    except grpc.aio.AioRpcError as error:
        early = Refusal(error)
    assert (early.code, early.reason) == (grpc.StatusCode.ABORTED, "SESSION_IN_FLIGHT")
    assert 0 < early.retry_seconds <= LEASE_SECONDS
    killed.after(early.retry_seconds)
    return await stub.CreateSession(PAY_1)


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("intent committed", 1),
        ("asked", 2),
        ("confirming", 2),
        ("session committed", 1),
    ],
)
async def test_after_a_kill_the_retry_ends_in_one_session(
    killed: Killed, point: str, asked: int
) -> None:
    first = Held(session()) if point == "asked" else session()
    killed.antom.will(SESSION, first, session("session-2"))
    if asked == 1:
        killed.antom.will(SESSION, session())
    await killed.dies(point)
    left = await killed.stored()
    assert left
    was_committed = point == "session committed"
    assert left.state is (PaymentState.AWAITING_BUYER if was_committed else PaymentState.CREATING)
    assert await killed.news() == [EventType.SESSION_CREATED] * was_committed

    async with killed.server() as (stub, _):
        answer = await retried(stub, killed)
        assert await stub.CreateSession(PAY_1) == answer
    assert answer.session.payment_session_id == ("session-1" if asked == 1 else "session-2")
    assert len({question.raw for question in killed.antom.asked}) == 1
    assert [question.body["paymentRequestId"] for question in killed.antom.asked] == (
        ["pay-1"] * asked
    )
    assert await killed.news() == [EventType.SESSION_CREATED]
    after = await killed.stored()
    assert after
    assert (after.state, after.version) == (PaymentState.AWAITING_BUYER, 1)
    assert dict(after.metadata) == {"cart": "7"}


async def test_after_a_kill_a_refusal_that_inquiry_confirms_is_a_definite_failure(
    killed: Killed,
) -> None:
    killed.antom.will(SESSION, Held(session()), refused("PARAM_ILLEGAL"))
    killed.antom.will(INQUIRY, NOT_SUBMITTED)
    await killed.dies("asked")
    async with killed.server() as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await retried(stub, killed)
        refusal = Refusal(failed.value)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "SESSION_REFUSED",
        )
        over = await stub.CreateSession(PAY_1)
    assert over.payment.state == payment_pb2.PAYMENT_STATE_FAILED
    assert not over.HasField("session")
    assert killed.antom.operations == [SESSION, SESSION, INQUIRY]
    assert await killed.news() == [EventType.SESSION_REFUSED]


async def test_after_a_kill_a_refusal_of_what_antom_has_is_the_payment_as_it_stands(
    killed: Killed,
) -> None:
    killed.antom.will(SESSION, session(), refused("PARAM_ILLEGAL"))
    killed.antom.will(INQUIRY, inquired("PROCESSING", minor_units=1250))
    await killed.dies("answered")
    async with killed.server() as (stub, _):
        answer = await retried(stub, killed)
    assert answer.payment.state == payment_pb2.PAYMENT_STATE_PROCESSING
    assert await killed.news() == [EventType.PAYMENT_PROCESSING]
