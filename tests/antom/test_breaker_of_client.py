"""What the client counts against an Antom that does not answer, and how it leaves it alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from antom.asking import (
    PAID,
    REQUEST,
    SESSION,
    Pauses,
    antom,
    client_of,
    create,
    fails,
    hangs_up,
    inquire,
    result,
    signed,
    unsigned,
)
from antom.golden import MODELLED, SANDBOX_CLIENT_ID
from antom.wires import Behaviour, Visit, free_port, serving
from antom_payments.antom import AntomClient, BreakerOptions, measures
from antom_payments.antom.breaker import BreakerState
from antom_payments.antom.client import MAX_ATTEMPTS
from antom_payments.antom.endpoints import Operation
from antom_payments.antom.wire import open_wire
from antom_payments.errors import AntomError, AntomUnavailable, OutcomeUnknown

TOUCHY = BreakerOptions(failures=1)
DECLINED = signed(result("F", "RISK_REJECT"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def never(visit: Visit) -> None:
    await visit.until_left()


def by_operation(session: Behaviour, inquiry: Behaviour) -> Behaviour:
    async def behave(visit: Visit) -> None:
        is_session = visit.request.path.endswith("createPaymentSession")
        await (session if is_session else inquiry)(visit)

    return behave


async def refused(client: AntomClient, call: Any = create) -> AntomError:
    with pytest.raises(AntomError) as refusal:
        await call(client)
    return refusal.value


async def test_after_enough_silence_nothing_is_sent_and_the_time_left_is_told() -> None:
    pauses, clock = Pauses(), Clock()
    breaker = BreakerOptions(failures=7)
    async with antom(fails, pauses=pauses, breaker=breaker, monotonic=clock) as (client, server):
        assert isinstance(await refused(client), OutcomeUnknown)
        assert len(server.requests) == MAX_ATTEMPTS
        # It opens within the second call, whose own request stays in doubt: it has left.
        doubt = await refused(client)
        assert isinstance(doubt, OutcomeUnknown)
        assert len(server.requests) == 7
        assert len(pauses.asked) == MAX_ATTEMPTS - 1 + 1
        assert doubt.retry_after_seconds is not None
        assert 2.5 <= doubt.retry_after_seconds <= 5
        clock.now += 2
        refusal = await refused(client)
        assert isinstance(refusal, AntomUnavailable)
        assert refusal.retry_after_seconds == pytest.approx(doubt.retry_after_seconds - 2)
        assert len(server.requests) == 7


@pytest.mark.parametrize(
    "answer",
    [
        signed(SESSION),
        DECLINED,
        signed(result("F", "INVALID_SIGNATURE")),
        signed(result("U", "UNKNOWN_EXCEPTION")),
        signed((MODELLED / "gateway_error_traffic.json").read_bytes()),
        signed(b"{}"),
    ],
    ids=["session", "declined", "our key refused", "U", "throttled", "not understood"],
)
async def test_whatever_antom_signs_shows_that_it_is_there(answer: Behaviour) -> None:
    clock = Clock()
    async with antom(fails, answer, breaker=TOUCHY, monotonic=clock) as (client, server):
        await refused(client)
        clock.now += 5
        [said] = await asyncio.gather(create(client), return_exceptions=True)
        assert not isinstance(said, AntomUnavailable)
        client.refuse_while_shut()
        assert client._breakers[Operation.CREATE_PAYMENT_SESSION].state is BreakerState.CLOSED
        assert len(server.requests) >= 2


@pytest.mark.parametrize(
    "answer",
    [
        unsigned(SESSION),
        unsigned(result("F", "CLIENT_INVALID")),
        signed(SESSION, client_id="SANDBOX_5X99999999999999"),
        signed(SESSION, signature="algorithm=RSA256,keyVersion=1,signature=AAAA"),
    ],
    ids=["unsigned S", "unsigned F", "another client", "bad signature"],
)
async def test_an_answer_that_nobody_vouches_for_neither_opens_nor_closes(
    answer: Behaviour,
) -> None:
    """ANTOM_UNTRUSTED is an operator's matter: it must not turn into "cannot be reached"."""
    clock = Clock()
    async with antom(answer, breaker=TOUCHY, monotonic=clock) as (client, server):
        kinds = {type(await refused(client)).__name__ for _ in range(3)}
        assert kinds == {"AntomUntrusted"}
        assert len(server.requests) == 3
    async with antom(fails, answer, answer, fails, breaker=TOUCHY, monotonic=clock) as (client, _):
        await refused(client)
        clock.now += 5
        kinds = {type(await refused(client)).__name__ for _ in range(2)}
        assert kinds == {"AntomUntrusted"}
        await refused(client)
        with pytest.raises(AntomUnavailable):
            client.refuse_while_shut()


async def test_a_connection_that_cannot_be_made_is_silence_and_stays_certain() -> None:
    clock = Clock()
    async with open_wire(f"http://127.0.0.1:{free_port()}") as wire:
        client = client_of(wire, Pauses(), breaker=TOUCHY, monotonic=clock)
        refusal = await refused(client)
        assert isinstance(refusal, AntomUnavailable)
        assert refusal.retry_after_seconds is not None
        assert refusal.retry_after_seconds >= 2.5


@pytest.mark.parametrize(("patience_seconds", "opens"), [(0.01, True), (3.0, False)])
async def test_a_caller_in_a_hurry_does_not_shut_antom_off_for_the_others(
    *, patience_seconds: float, opens: bool
) -> None:
    breaker = BreakerOptions(failures=1, patience_seconds=patience_seconds)
    async with antom(never, breaker=breaker, monotonic=Clock()) as (client, _):
        with pytest.raises(OutcomeUnknown):
            await client.create_payment_session(REQUEST, budget_seconds=0.1)
        if opens:
            with pytest.raises(AntomUnavailable):
                client.refuse_while_shut()
        else:
            client.refuse_while_shut()


async def test_sessions_that_nobody_answers_do_not_cut_off_inquiries() -> None:
    clock = Clock()
    async with antom(by_operation(fails, signed(PAID)), breaker=TOUCHY, monotonic=clock) as (
        client,
        server,
    ):
        await refused(client)
        assert isinstance(await refused(client), AntomUnavailable)
        for _ in range(3):
            assert (await inquire(client)).exists
        assert isinstance(await refused(client), AntomUnavailable)
        assert len(server.requests) == 4


async def test_an_inquiry_that_finds_antom_back_lets_sessions_try_at_once() -> None:
    clock = Clock()
    back = by_operation(signed(SESSION), signed(PAID))
    async with antom(*[fails] * 3, back, breaker=TOUCHY, monotonic=clock) as (client, _):
        await refused(client, inquire)
        await refused(client)
        clock.now += 5
        await refused(client)  # its probe fails: up to ten seconds more
        assert isinstance(await refused(client), AntomUnavailable)
        assert (await inquire(client)).exists
        assert await create(client)


async def test_one_request_tries_while_the_others_are_told_to_wait() -> None:
    clock, held = Clock(), asyncio.Event()

    async def waits(visit: Visit) -> None:
        await held.wait()
        await signed(SESSION)(visit)

    async with antom(fails, waits, breaker=TOUCHY, monotonic=clock) as (client, server):
        await refused(client)
        clock.now += 5
        server.arrived.clear()
        probe = asyncio.create_task(create(client))
        await server.arrived.wait()
        for _ in range(3):
            refusal = await refused(client)
            assert isinstance(refusal, AntomUnavailable)
            assert refusal.retry_after_seconds == 1
        held.set()
        await probe
        assert await create(client)
    assert len(server.requests) == 3


async def test_a_probe_that_is_cancelled_lets_the_next_one_try() -> None:
    clock = Clock()
    async with antom(fails, never, signed(SESSION), breaker=TOUCHY, monotonic=clock) as (
        client,
        server,
    ):
        await refused(client)
        clock.now += 5
        server.arrived.clear()
        probe = asyncio.create_task(create(client))
        await server.arrived.wait()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert await create(client)


async def test_a_request_that_was_cut_by_a_breaker_of_others_is_not_repeated() -> None:
    """It opens while this call waits for its next attempt: the call ends, in doubt."""
    pauses, clock = Pauses(), Clock()
    async with serving(hangs_up) as server, open_wire(server.origin()) as wire:
        client = client_of(wire, pauses, breaker=BreakerOptions(failures=2), monotonic=clock)

        async def another_fails(_seconds: float) -> None:
            with client._breakers[Operation.CREATE_PAYMENT_SESSION].attempt() as one:
                one.silent()

        client._sleep = another_fails
        assert isinstance(await refused(client), OutcomeUnknown)
    assert len(server.requests) == 1


async def test_its_state_and_changes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    monkeypatch.setattr(measures, "breakers", meter.create_up_down_counter("breakers"))
    monkeypatch.setattr(measures, "breaker_changes", meter.create_counter("changes"))

    def counted(name: str) -> dict[tuple[str, str], int]:
        data = reader.get_metrics_data()
        assert data
        return {
            (point.attributes["antom.operation"], point.attributes["state"]): point.value
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == name
            for point in metric.data.data_points
            if point.attributes["antom.client_id"] == SANDBOX_CLIENT_ID and point.value
        }

    clock = Clock()
    async with antom(fails, signed(SESSION), breaker=TOUCHY, monotonic=clock) as (client, _):
        session, inquiry = "createPaymentSession", "inquiryPayment"
        assert counted("breakers") == {(session, "closed"): 1, (inquiry, "closed"): 1}
        await refused(client)
        assert counted("breakers") == {(session, "open"): 1, (inquiry, "closed"): 1}
        clock.now += 5
        await create(client)
        assert counted("breakers") == {(session, "closed"): 1, (inquiry, "closed"): 1}
        assert counted("changes") == {(session, state.value): 1 for state in BreakerState}
