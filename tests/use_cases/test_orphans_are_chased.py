"""News of a payment that nobody knows here comes to its end: adopted, foreign or nobody's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from antom_payments.antom import AntomClient
from antom_payments.fact import OUTSIDE_WINDOW, Outcome
from antom_payments.money import Money
from antom_payments.payment import EventType, PaymentState
from antom_payments.reconcile import ReconcileOptions, Reconciler
from antom_payments.service import Merchant
from facts import a_capture, a_notification, a_payment_fact
from scripted_antom import (
    INQUIRY,
    NOT_SUBMITTED,
    SESSION,
    Behaviour,
    Question,
    ScriptedAntom,
    cut,
    result,
    session,
    unknown,
)
from stored import execute, notified, rows
from use_cases.till import CALL_BUDGET_SECONDS, POLICY, SGD_42, Till

HOURS = 3600


@pytest.fixture
def chase(till: Till, listening: tuple[ScriptedAntom, AntomClient]) -> Callable[..., Reconciler]:
    def made(**options: Any) -> Reconciler:
        return Reconciler(
            till.store,
            till.service.inquirer,
            {"default": Merchant("default", listening[1], POLICY)},
            now=till.clock.now,
            call_budget_seconds=CALL_BUDGET_SECONDS,
            options=ReconcileOptions(**options),
        )

    return made


def owned_by(payment_request_id: str, **more: Any) -> Behaviour:
    """Antom says whose the payment is that was asked about."""

    async def behave(question: Question) -> None:
        await question.answer(
            {
                "result": result("S", "SUCCESS"),
                "paymentRequestId": payment_request_id,
                "paymentId": question.body.get("paymentId", "P-1"),
                "paymentStatus": "SUCCESS",
                "paymentResultCode": "SUCCESS",
                "paymentAmount": {"currency": "SGD", "value": "4200"},
                "authExpiryTime": "2026-03-09T09:30:00Z",
                "transactions": None,
            }
            | more
        )

    return behave


async def orphan_states(till: Till) -> list[str | None]:
    found = await rows(till.store, "SELECT orphan_state FROM facts ORDER BY told_time, kind")
    return [row.orphan_state for row in found]


async def a_capture_of_nobody(till: Till) -> None:
    """CAPTURE_RESULT names only Antom's id of the payment."""
    await till.store.apply([notified(a_capture(amount=SGD_42))])


async def test_a_capture_that_comes_first_finds_its_payment_by_inquiry(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler]
) -> None:
    antom.will(SESSION, session())
    await till.create()
    await a_capture_of_nobody(till)
    antom.will(INQUIRY, owned_by("pay-1"))
    assert await chase().run_due() == 1
    assert antom.asked[-1].body == {"paymentId": "P-1"}
    assert await till.news() == [
        EventType.SESSION_CREATED,
        EventType.PAYMENT_AUTHORIZED,
        EventType.CAPTURE_SUCCEEDED,
    ]
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.SUCCEEDED
    [left] = await rows(till.store, "SELECT kind, phase FROM inquiries")
    assert tuple(left) == ("PAYMENT", "SETTLED")


async def test_a_payment_made_elsewhere_is_foreign_and_alerted(
    till: Till,
    antom: ScriptedAntom,
    chase: Callable[..., Reconciler],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await a_capture_of_nobody(till)
    antom.will(INQUIRY, owned_by("made-elsewhere"))
    await chase().run_due()
    assert await orphan_states(till) == ["FOREIGN"]
    assert "orphan_ended" in caplog.text
    assert await rows(till.store, "SELECT * FROM inquiries") == []
    assert await till.news() == []


async def test_a_payment_made_elsewhere_becomes_ours_when_that_is_wished(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler]
) -> None:
    """After a restore: the payment was ours, and its row is gone."""
    await a_capture_of_nobody(till)
    antom.will(INQUIRY, owned_by("pay-1"))
    await chase(adopt_foreign=True).run_due()
    stored = await till.stored()
    assert stored
    assert (stored.state, stored.amount) == (PaymentState.SUCCEEDED, SGD_42)
    assert sorted(await till.news()) == [EventType.CAPTURE_SUCCEEDED, EventType.PAYMENT_AUTHORIZED]


async def test_what_nobody_knows_for_48_hours_is_unattributed_and_alerted(
    till: Till,
    antom: ScriptedAntom,
    chase: Callable[..., Reconciler],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await a_capture_of_nobody(till)
    antom.will(INQUIRY, NOT_SUBMITTED)
    for _ in range(47):
        await chase().run_due()
        till.clock.advance(HOURS)
    assert await orphan_states(till) == ["WAITING"]
    assert "orphan_ended" not in caplog.text
    till.clock.advance(HOURS)
    await chase().run_due()
    assert await orphan_states(till) == ["UNATTRIBUTED"]
    assert "UNATTRIBUTED" in caplog.text
    assert await rows(till.store, "SELECT * FROM inquiries") == []


@pytest.mark.parametrize("behaviour", [unknown(), cut], ids=["U", "cut"])
async def test_no_answer_ends_nothing(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler], behaviour: Behaviour
) -> None:
    await a_capture_of_nobody(till)
    antom.will(INQUIRY, behaviour)
    till.clock.advance(72 * HOURS)
    await chase().run_due()
    assert await orphan_states(till) == ["WAITING"]
    assert len(await rows(till.store, "SELECT * FROM inquiries")) == 1


async def test_the_net_adopts_an_orphan_whose_payment_is_known(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler]
) -> None:
    antom.will(SESSION, session())
    await till.create()
    await a_capture_of_nobody(till)
    await execute(till.store, "UPDATE payments SET payment_id = 'P-1'")
    await chase().sweep()
    assert EventType.CAPTURE_SUCCEEDED in await till.news()
    assert await orphan_states(till) == ["ADOPTED"]


async def test_what_the_net_adopts_is_alerted_when_it_contradicts_the_payment(
    till: Till,
    antom: ScriptedAntom,
    chase: Callable[..., Reconciler],
    caplog: pytest.LogCaptureFixture,
) -> None:
    antom.will(SESSION, session())
    news = a_payment_fact(payment_request_id="pay-1", amount=Money("SGD", 1))
    await till.store.apply([notified(news)])
    await till.create()
    await chase().sweep()
    assert (await till.news())[-1] is EventType.AMOUNT_MISMATCH
    assert "'event': 'contradiction'" in caplog.text


async def test_news_from_outside_the_window_counts_once_an_inquiry_agrees(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler]
) -> None:
    antom.will(SESSION, session())
    await till.create()
    late = a_payment_fact(payment_request_id="pay-1", amount=SGD_42)
    await till.service.apply_notification(a_notification(), late, OUTSIDE_WINDOW)
    assert await till.news() == [EventType.SESSION_CREATED]
    antom.will(INQUIRY, owned_by("pay-1", paymentId="P-1"))
    assert await chase().run_due() == 1
    assert (await till.news())[-1] is EventType.PAYMENT_AUTHORIZED
    [stored] = await rows(till.store, "SELECT outcome, event_id FROM notifications")
    assert stored.outcome == "APPLIED"
    assert stored.event_id


async def test_news_from_outside_the_window_that_an_inquiry_denies_stays_aside(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler]
) -> None:
    antom.will(SESSION, session())
    await till.create()
    late = a_payment_fact(Outcome.FAILED, payment_request_id="pay-1", amount=SGD_42)
    await till.service.apply_notification(a_notification(), late, OUTSIDE_WINDOW)
    antom.will(INQUIRY, owned_by("pay-1", paymentId="P-1"))
    await chase().run_due()
    stored = await till.stored()
    assert stored
    assert stored.state is PaymentState.AUTHORIZED
    assert [row.outcome for row in await rows(till.store, "SELECT outcome FROM notifications")] == [
        "QUARANTINED"
    ]


async def test_a_payment_made_elsewhere_is_not_adopted_with_the_amount_of_a_part_of_it(
    till: Till, antom: ScriptedAntom, chase: Callable[..., Reconciler]
) -> None:
    """A status that we do not know tells no payment, and a capture may be of a part."""
    await a_capture_of_nobody(till)
    part = {
        "transactionType": "CAPTURE",
        "transactionStatus": "SUCCESS",
        "transactionId": "C-9",
        "transactionAmount": {"currency": "SGD", "value": "1000"},
    }
    antom.will(INQUIRY, owned_by("pay-1", paymentStatus="PARTLY_PAID", transactions=[part]))
    await chase(adopt_foreign=True).run_due()
    assert await till.stored() is None
    assert await orphan_states(till) == ["WAITING"]


async def test_news_that_its_payment_does_not_adopt_is_unattributed_in_its_time_and_alerted(
    till: Till,
    antom: ScriptedAntom,
    chase: Callable[..., Reconciler],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Antom says that it is ours, at another amount: nothing is bound, and a person must look."""
    antom.will(SESSION, session())
    await till.create()
    await a_capture_of_nobody(till)
    antom.will(INQUIRY, owned_by("pay-1", paymentAmount={"currency": "SGD", "value": "9900"}))
    await chase().run_due()
    assert await orphan_states(till) == ["WAITING", None]
    till.clock.advance(49 * HOURS)
    while await chase().run_due():
        pass
    assert await orphan_states(till) == ["UNATTRIBUTED", None]
    assert "UNATTRIBUTED" in caplog.text
    assert await rows(till.store, "SELECT * FROM inquiries WHERE kind = 'ORPHAN'") == []
