"""When Antom is asked next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom_payments.cadence import Cadence, Phase, Priority, cancel_window_end, priority_of
from antom_payments.money import Money
from antom_payments.payment import Capture, CaptureState, Payment, PaymentState
from facts import NOW, WHOLE, a_payment

CADENCE = Cadence(jitter=lambda *_: 0.0)
END = NOW + timedelta(hours=1)
LAPSE = END + timedelta(minutes=16)


def awaited(**more: object) -> Payment:
    return a_payment(payment_session_expiry_time=END, **more)


def looks(payment: Payment, *, until: datetime) -> list[float]:
    """When Antom is asked while nothing changes, in seconds from now."""
    phase = CADENCE.phase(payment, NOW)
    assert phase
    now, step, times = NOW, 0, []
    while True:
        due = CADENCE.due(payment, phase, step=step, since=NOW, now=now)
        assert due > now
        if due > until:
            return times
        times.append((due - NOW).total_seconds())
        now, step = due, step + 1
        if CADENCE.phase(payment, now) is not phase:
            return times


def capture(state: CaptureState, amount: Money = WHOLE) -> Capture:
    return Capture("C-1", "request-1", state, amount)


def test_a_buyer_who_is_awaited_is_asked_about_at_30_s_1_2_5_min_at_the_end_and_when_closed() -> (
    None
):
    assert looks(awaited(), until=LAPSE) == [30, 90, 210, 510, 3600, 3600 + 16 * 60]


def test_an_intent_without_a_session_lapses_after_an_hour_and_the_closing_time() -> None:
    payment = a_payment(PaymentState.CREATING)
    assert looks(payment, until=LAPSE)[-2:] == [3600, 3600 + 16 * 60]


def test_a_short_session_is_asked_about_at_its_end() -> None:
    payment = awaited()
    soon = replace(payment, payment_session_expiry_time=NOW + timedelta(seconds=45))
    assert looks(soon, until=NOW + timedelta(minutes=20)) == [30, 45, 45 + 16 * 60]


def test_what_antom_did_not_settle_in_time_is_asked_about_every_five_minutes() -> None:
    assert looks(awaited(), until=LAPSE + timedelta(minutes=11))[-2:] == [
        3600 + 21 * 60,
        3600 + 26 * 60,
    ]


def test_what_antom_never_settles_is_asked_about_by_the_hour_a_day_later() -> None:
    late = LAPSE + timedelta(days=1, minutes=1)
    due = CADENCE.due(awaited(), Phase.WAITING, step=300, since=NOW, now=late)
    assert due == late + timedelta(hours=1)


def test_evidence_is_followed_at_antoms_pace_with_backoff() -> None:
    payment = awaited(state=PaymentState.PROCESSING)
    assert CADENCE.phase(payment, NOW) is Phase.PRESSING
    times = looks(payment, until=NOW + timedelta(minutes=20))
    assert times[:5] == [2, 6, 14, 30, 62]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert max(pauses) == 300


def test_evidence_of_yesterday_is_looked_at_by_the_hour() -> None:
    yesterday = NOW - timedelta(days=1)
    due = CADENCE.due(awaited(), Phase.PRESSING, step=3, since=yesterday, now=NOW)
    assert due == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("payment", "phase"),
    [
        (a_payment(PaymentState.CREATING), Phase.WAITING),
        (awaited(), Phase.WAITING),
        (awaited(inquiry_wanted=True), Phase.PRESSING),
        (awaited(state=PaymentState.AUTHORIZED), Phase.PRESSING),
        (awaited(state=PaymentState.AUTHORIZED, capture_mode="MANUAL"), Phase.HELD),
        (
            awaited(
                state=PaymentState.AUTHORIZED,
                capture_mode="MANUAL",
                captures=(capture(CaptureState.PROCESSING),),
            ),
            Phase.PRESSING,
        ),
        (
            awaited(state=PaymentState.AUTHORIZED, captures=(capture(CaptureState.FAILED),)),
            Phase.HELD,
        ),
        (awaited(state=PaymentState.SUCCEEDED), Phase.SETTLED),
        (awaited(state=PaymentState.FAILED), None),
        (awaited(state=PaymentState.CANCELLED), None),
        (awaited(state=PaymentState.EXPIRED), None),
        (awaited(state=PaymentState.FAILED, inquiry_wanted=True), Phase.PRESSING),
    ],
)
def test_the_phase_follows_from_what_is_known(payment: Payment, phase: Phase | None) -> None:
    assert CADENCE.phase(payment, NOW) is phase


def test_held_money_is_looked_at_by_the_hour_until_the_issuer_lets_go_and_then_by_the_day() -> None:
    end = NOW + timedelta(hours=2)
    payment = awaited(state=PaymentState.AUTHORIZED, capture_mode="MANUAL", auth_expiry_time=end)
    hours = [time / 3600 for time in looks(payment, until=end + timedelta(days=2, hours=1))]
    assert hours == [1, 2, 2 + 2 / 60, 26 + 2 / 60, 50 + 2 / 60]


def test_a_payment_that_succeeded_is_looked_at_until_its_cancel_window_closes() -> None:
    payment = awaited(state=PaymentState.SUCCEEDED, payment_time=NOW)
    times = looks(payment, until=NOW + timedelta(days=30))
    assert times[:4] == [600, 4200, 4200 + 6 * 3600, 4200 + 30 * 3600]
    assert times[-1] == 7 * 24 * 3600 + 120


def test_the_cancel_window_of_other_methods_closes_at_a_quarter_past_midnight_in_china() -> None:
    """Antom-api 6.3: 00:15 (UTC+8) of the next day."""
    paid = datetime(2026, 3, 2, 15, 59, tzinfo=UTC)  # 23:59 there
    wallet = awaited(payment_method_type="GCASH", capture_expected=False)
    assert cancel_window_end(replace(wallet, payment_time=paid)) == datetime(
        2026, 3, 2, 16, 15, tzinfo=UTC
    )
    a_minute_later = paid + timedelta(minutes=1)
    assert cancel_window_end(replace(wallet, payment_time=a_minute_later)) == datetime(
        2026, 3, 3, 16, 15, tzinfo=UTC
    )


@pytest.mark.parametrize("method", ["CARD", "APPLEPAY", "MERCADOPAGO_BR", ""])
def test_some_methods_may_be_cancelled_for_a_week(method: str) -> None:
    payment = awaited(payment_method_type=method, capture_expected=False, payment_time=NOW)
    assert cancel_window_end(payment) == NOW + timedelta(days=7)


def test_orphans_are_looked_for_for_48_hours() -> None:
    now, step, last = NOW, 0, NOW
    while (due := CADENCE.orphan_due(step=step, since=NOW, now=now)) is not None:
        assert due > now
        now, step, last = due, step + 1, due
    assert last == NOW + timedelta(hours=48)


def test_evidence_and_orphans_go_before_routine() -> None:
    first = {phase for phase in Phase if priority_of(phase) is Priority.EVIDENCE}
    assert first == {Phase.PRESSING, Phase.ORPHAN}


@given(
    state=st.sampled_from(PaymentState),
    wanted=st.booleans(),
    mode=st.sampled_from(["", "MANUAL", "AUTOMATIC"]),
    step=st.integers(0, 10_000),
    age_minutes=st.integers(0, 60 * 24 * 40),
)
def test_whatever_is_open_is_asked_about_again_within_a_day(
    state: PaymentState, wanted: bool, mode: str, step: int, age_minutes: int
) -> None:
    payment = awaited(state=state, inquiry_wanted=wanted, capture_mode=mode, payment_time=NOW)
    now = NOW + timedelta(minutes=age_minutes)
    cadence = Cadence()
    phase = cadence.phase(payment, now)
    if phase is None:
        assert state.is_final
        return
    due = cadence.due(payment, phase, step=step, since=NOW, now=now)
    assert now < due <= now + timedelta(days=1, seconds=5)
