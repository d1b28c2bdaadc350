"""What the client repeats, how often, and with which bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from antom.asking import (
    PAID,
    REQUEST,
    SESSION,
    Pauses,
    antom,
    client_of,
    create,
    error_of,
    fails,
    hangs_up,
    inquire,
    result,
    signed,
    unsigned,
)
from antom.golden import (
    MODELLED,
)
from antom.wires import Behaviour, Visit, free_port, serving
from antom_payments.antom import AntomClient
from antom_payments.antom.client import MAX_ATTEMPTS
from antom_payments.antom.wire import open_wire
from antom_payments.errors import (
    AntomRefused,
    AntomUnavailable,
    OutcomeUnknown,
)


@pytest.mark.parametrize(
    "first",
    [
        hangs_up,
        fails,
        signed(result("U", "UNKNOWN_EXCEPTION")),
        signed((MODELLED / "gateway_error_traffic.json").read_bytes()),
        unsigned((MODELLED / "createPaymentSession_response_unknown.json").read_bytes()),
    ],
    ids=["cut", "500", "U", "throttled", "unsigned U"],
)
@pytest.mark.parametrize(("call", "last"), [(create, SESSION), (inquire, PAID)])
async def test_an_unknown_outcome_is_repeated_with_the_same_bytes(
    first: Behaviour, call: Callable[[AntomClient], Any], last: bytes
) -> None:
    async with antom(first, first, signed(last)) as (client, server):
        assert await call(client)
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1


async def test_repetitions_are_jittered_fully_grow_and_end() -> None:
    pauses = Pauses()
    async with antom(fails, pauses=pauses) as (client, server):
        with pytest.raises(OutcomeUnknown):
            await create(client)
    assert pauses.highest == [0.2, 0.4, 0.8, 1.6, 2.0]
    assert pauses.asked == [0.1, 0.2, 0.4, 0.8]
    assert len(server.requests) == MAX_ATTEMPTS == 5


async def test_the_callers_time_ends_the_repetitions() -> None:
    pauses = Pauses()
    async with antom(fails, pauses=pauses) as (client, server):
        with pytest.raises(OutcomeUnknown):
            await client.create_payment_session(REQUEST, budget_seconds=0.15)
    assert len(server.requests) <= 2
    assert pauses.asked in ([], [0.1])


async def test_without_time_nothing_is_sent() -> None:
    async with antom(signed(SESSION)) as (client, server):
        for budget_seconds in (0, -1):
            with pytest.raises(AntomUnavailable):
                await client.create_payment_session(REQUEST, budget_seconds=budget_seconds)
    assert server.requests == []


async def test_a_failed_connection_is_repeated_and_stays_certain() -> None:
    pauses = Pauses()
    async with open_wire(f"http://127.0.0.1:{free_port()}") as wire:
        with pytest.raises(AntomUnavailable):
            await create(client_of(wire, pauses))
        assert len(pauses.asked) == MAX_ATTEMPTS - 1
        with pytest.raises(AntomUnavailable):
            await inquire(client_of(wire, pauses))


async def test_one_unknown_outcome_is_not_forgotten_when_later_connections_fail() -> None:
    async with serving(hangs_up) as server, open_wire(server.origin()) as wire:
        pauses = Pauses()
        client = client_of(wire, pauses)
        elsewhere = free_port()

        async def sleep(seconds: float) -> None:
            # From now on nobody listens.
            wire._http.base_url = f"http://127.0.0.1:{elsewhere}"
            await pauses.sleep(seconds)

        client._sleep = sleep
        with pytest.raises(OutcomeUnknown):
            await create(client)
    assert len(server.requests) == 1
    assert len(pauses.asked) == MAX_ATTEMPTS - 1


async def test_a_refusal_after_an_unknown_outcome_says_so() -> None:
    error, server = await error_of(hangs_up, signed(result("F", "PROCESS_FAIL")))
    assert isinstance(error, AntomRefused)
    assert error.was_sent_before
    assert len(server.requests) == 2


async def test_a_call_can_be_cancelled_between_attempts() -> None:
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with serving(fails) as server, open_wire(server.origin()) as wire:
        client = client_of(wire, Pauses())
        client._sleep = sleep
        call = asyncio.ensure_future(create(client))
        await waiting.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(server.requests) == 1


async def test_a_call_can_be_cancelled_while_it_is_out() -> None:
    async def silent(visit: Visit) -> None:
        await visit.until_left()

    async with antom(silent) as (client, server):
        call = asyncio.ensure_future(create(client))
        await server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 5)
    assert len(server.requests) == 1
