"""When Antom is asked next what became of a payment. Pure but for its jitter.

A payment follows the cadence of its *phase*, which its state and what is known of it decide. Our
clock only asks: what is concluded, a signed answer says (design 10).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from itertools import accumulate

from antom_payments.expiry import CLOSING_TIME, expiry_due
from antom_payments.payment import CaptureState, Payment, PaymentState

_ORDER_PATIENCE = timedelta(minutes=2)
"""After the moment at which Antom should have concluded."""
_CARD_WINDOW = timedelta(days=7)
"""How long a card payment may be cancelled (antom-api 6.3)."""
_BOOKS_CLOSE = timezone(timedelta(hours=8))
"""Where the other methods' window ends, at a quarter past midnight (antom-api 6.3)."""
_LONG_WINDOW_METHODS = ("CARD", "APPLEPAY", "GOOGLEPAY", "GOOGLAPAY", "MERCADOPAGO")
"""What methods that may be cancelled for seven days begin with; so may one not known yet be."""

_WAITING_SECONDS = (30.0, 60.0, 120.0, 300.0)
_SETTLED_SECONDS = (600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
_HELD_SECONDS, _DAY_SECONDS = 3600.0, 24 * 3600.0
_FIRST_PRESSING_SECONDS = 2.0
"""Antom's own pace (antom-api 6.4)."""
_LONGEST_PRESSING_SECONDS = 300.0
_STALE = timedelta(days=1)
"""Evidence that led to nothing for so long is looked at by the hour."""
_LONGEST_JITTER_SECONDS = 5.0


class Phase(StrEnum):
    """Why Antom is asked, which says how often."""

    WAITING = "WAITING"
    """For the buyer; nothing says that there is news."""
    PRESSING = "PRESSING"
    """There is evidence of news: the buyer acted, a capture is due, something contradicts."""
    HELD = "HELD"
    """The money is held, and no capture is under way."""
    SETTLED = "SETTLED"
    """The money was taken; it may still be cancelled."""
    ORPHAN = "ORPHAN"
    """News came of a payment that nobody knows here."""


class Priority(IntEnum):
    """Who goes first under a merchant's rate: evidence, then routine."""

    EVIDENCE = 0
    ROUTINE = 1


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often Antom is asked.

    Attributes:
        closing: from a session's expiry until Antom has closed the unpaid order; 14 minutes by
            default, it depends on the method (antom-api 6.5).
        orphan_life: how long the payment of an orphan is looked for.
        jitter: a random number of seconds between its two arguments.
    """

    closing: timedelta = CLOSING_TIME
    orphan_life: timedelta = timedelta(hours=48)
    jitter: Callable[[float, float], float] = random.uniform

    def phase(self, payment: Payment, now: datetime) -> Phase | None:
        """The cadence that a payment follows; None when nothing is to be asked any more."""
        if payment.inquiry_wanted or payment.state is PaymentState.PROCESSING:
            return Phase.PRESSING
        match payment.state:
            case PaymentState.CREATING | PaymentState.AWAITING_BUYER:
                return Phase.WAITING
            case PaymentState.AUTHORIZED:
                return Phase.PRESSING if _capture_is_due(payment) else Phase.HELD
            case PaymentState.SUCCEEDED:
                last_look = cancel_window_end(payment) + _ORDER_PATIENCE
                return Phase.SETTLED if now < last_look else None
        return None

    def due(
        self, payment: Payment, phase: Phase, *, step: int, since: datetime, now: datetime
    ) -> datetime:
        """When to ask next.

        Args:
            payment: as it stands.
            phase: what it follows.
            step: how many inquiries it has had in this phase.
            since: when the phase began.
            now: the time.
        """
        match phase:
            case Phase.WAITING:
                return self._waiting(payment, since, now)
            case Phase.SETTLED:
                due = self._in(now, _SETTLED_SECONDS[min(step, len(_SETTLED_SECONDS) - 1)])
                return min(due, max(cancel_window_end(payment) + _ORDER_PATIENCE, now))
            case Phase.HELD:
                return self._held(payment, since, now)
        return self._pressing(step, since, now)

    def orphan_due(self, *, step: int, since: datetime, now: datetime) -> datetime | None:
        """When to look again for the payment of an orphan; None when its time is over."""
        if now - since >= self.orphan_life:
            return None
        return min(self._pressing(step, since, now), since + self.orphan_life)

    def _waiting(self, payment: Payment, since: datetime, now: datetime) -> datetime:
        """After 30 s, 1, 2 and 5 minutes; at the session's end; once Antom has closed the order.

        Counted from the beginning, so that delays and jitter do not add up. What Antom has not
        settled a day later is looked at by the hour: such payments only become more.
        """
        lapse = expiry_due(payment, self.closing)
        ends = [time for time in (payment.session_end, lapse) if time > now]
        if not ends:
            is_stale = now - lapse >= _STALE
            return self._in(now, _HELD_SECONDS if is_stale else _LONGEST_PRESSING_SECONDS)
        steps = (since + timedelta(seconds=seconds) for seconds in accumulate(_WAITING_SECONDS))
        next_step = next((time for time in steps if time > now), None)
        if len(ends) == 1 or next_step is None:
            return ends[0]
        return min(self._in(now, (next_step - now).total_seconds()), ends[0])

    def _held(self, payment: Payment, since: datetime, now: datetime) -> datetime:
        """By the hour, and once more when the issuer has let go of the money; then by the day."""
        end = (payment.auth_expiry_time or since + _CARD_WINDOW) + _ORDER_PATIENCE
        if now >= end:
            return self._in(now, _DAY_SECONDS)
        return min(self._in(now, _HELD_SECONDS), end)

    def _pressing(self, step: int, since: datetime, now: datetime) -> datetime:
        """2, 4, 8 … seconds; evidence of yesterday is looked at by the hour."""
        if now - since >= _STALE:
            return self._in(now, _HELD_SECONDS)
        longest = _LONGEST_PRESSING_SECONDS
        return self._in(now, min(_FIRST_PRESSING_SECONDS * 2.0 ** min(step, 16), longest))

    def _in(self, now: datetime, seconds: float) -> datetime:
        """That many seconds from now, and a little more: not all payments at the same moment."""
        spread = min(seconds / 10, _LONGEST_JITTER_SECONDS)
        return now + timedelta(seconds=seconds + self.jitter(0.0, spread))


def priority_of(phase: Phase) -> Priority:
    """The class that a phase belongs to."""
    return Priority.EVIDENCE if phase in {Phase.PRESSING, Phase.ORPHAN} else Priority.ROUTINE


def cancel_window_end(payment: Payment) -> datetime:
    """Until when Antom may cancel a payment that succeeded (antom-api 6.3)."""
    paid = payment.payment_time or payment.update_time
    method = payment.payment_method_type
    if payment.capture_expected or not method or method.startswith(_LONG_WINDOW_METHODS):
        return paid + _CARD_WINDOW
    next_day = paid.astimezone(_BOOKS_CLOSE) + timedelta(days=1)
    return next_day.replace(hour=0, minute=15, second=0, microsecond=0).astimezone(UTC)


def _capture_is_due(payment: Payment) -> bool:
    """Whether Antom is at it: any capture under way, an automatic one until it failed."""
    if any(capture.state is CaptureState.PROCESSING for capture in payment.captures):
        return True
    has_failed = bool(payment.captures) and payment.captures[-1].state is CaptureState.FAILED
    return payment.capture_mode != "MANUAL" and not has_failed
