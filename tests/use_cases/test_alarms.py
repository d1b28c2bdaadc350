"""What contradicts is told to operators: one line and one count, whichever path it came by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from antom_payments import alarm
from antom_payments.fact import Fact, Outcome
from antom_payments.money import Money
from facts import a_capture, a_notification, a_payment_fact
from scripted_antom import INQUIRY, SESSION, inquired, session
from use_cases.till import SGD_42, Till


@dataclass
class Alarms:
    """The alarms that sounded: their lines, and their counts."""

    reader: InMemoryMetricReader
    caplog: pytest.LogCaptureFixture

    def counted(self) -> dict[tuple[str, str], int]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        [metric] = data.resource_metrics[0].scope_metrics[0].metrics
        return {
            (str(point.attributes["event_type"]), str(point.attributes["source"])): point.value
            for point in metric.data.data_points
        }

    def lines(self) -> list[dict[str, Any]]:
        """Every line at error level, all of them fields."""
        return [
            record.msg
            for record in self.caplog.records
            if record.levelname == "ERROR" and isinstance(record.msg, dict)
        ]


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Alarms]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = provider.get_meter("test").create_counter("antom_payments.contradictions")
    monkeypatch.setattr(alarm, "_contradictions", counter)
    yield Alarms(reader, caplog)
    provider.shutdown()


def about_pay_1(outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> Fact:
    ids = {"payment_request_id": "pay-1", "payment_id": "P-pay-1", "fact_id": "P-pay-1"}
    return a_payment_fact(outcome, **{"amount": SGD_42, **ids, **more})


async def notify(till: Till, *facts: Fact) -> None:
    for fact in facts:
        await till.service.apply_notification(a_notification(), fact)


async def test_a_contradiction_by_notification_sounds_once_and_its_correction_by_inquiry_once(
    sqlite_till: Till, alarms: Alarms
) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, inquired(authExpiryTime="2026-03-09T09:30:00Z"))
    await sqlite_till.create()
    failed = about_pay_1(Outcome.FAILED)
    await notify(sqlite_till, failed, about_pay_1(), about_pay_1())
    await sqlite_till.read(fresh=True)
    assert alarms.counted() == {
        ("CONTRADICTION", "NOTIFICATION"): 1,
        ("PAYMENT_CORRECTED", "INQUIRY"): 1,
    }
    contradiction, corrected = alarms.lines()
    assert (contradiction["event"], contradiction["event_type"]) == (
        "contradiction",
        "CONTRADICTION",
    )
    assert (corrected["state_before"], corrected["state"]) == ("FAILED", "AUTHORIZED")
    assert set(corrected) - {"time", "level", "logger", "trace_id", "span_id"} == {
        *("event", "event_type", "source", "merchant_account", "payment_request_id"),
        *("event_id", "state_before", "state"),
    }


async def test_another_amount_and_a_fact_told_otherwise_sound_by_each_path(
    sqlite_till: Till, alarms: Alarms
) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, inquired(minor_units=1))
    await sqlite_till.create()
    wrong = Money("SGD", 4199)
    await notify(sqlite_till, about_pay_1(amount=wrong), about_pay_1())
    await sqlite_till.read(fresh=True)
    assert alarms.counted() == {
        ("AMOUNT_MISMATCH", "NOTIFICATION"): 1,
        ("CONFLICT", "NOTIFICATION"): 1,
        ("CONFLICT", "INQUIRY"): 1,
    }
    assert len(alarms.lines()) == 3


async def test_an_orphan_that_proves_wrong_when_it_is_adopted_sounds_too(
    sqlite_till: Till, alarms: Alarms
) -> None:
    sqlite_till.antom.will(SESSION, session())
    await sqlite_till.create()
    capture = replace(a_capture(amount=Money("USD", 4200)), payment_id="P-pay-1")
    await notify(sqlite_till, capture)
    assert alarms.counted() == {}
    await notify(sqlite_till, about_pay_1())
    assert alarms.counted() == {("AMOUNT_MISMATCH", "NOTIFICATION"): 1}


async def test_what_goes_as_it_should_sounds_no_alarm(sqlite_till: Till, alarms: Alarms) -> None:
    sqlite_till.antom.will(SESSION, session())
    sqlite_till.antom.will(INQUIRY, inquired(authExpiryTime="2026-03-09T09:30:00Z"))
    await sqlite_till.create()
    late = about_pay_1(Outcome.PROCESSING)
    await notify(sqlite_till, about_pay_1(), about_pay_1(), late)
    await sqlite_till.read(fresh=True)
    assert (alarms.counted(), alarms.lines()) == ({}, [])
