"""When a payment may be told to have lapsed unpaid, and when that may come too late for it.

Our clocks only ask: what counts is when Antom signed the answer, by its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from antom_payments.emulator.payments import Payment, PaymentStatus
from antom_payments.payment import EventType
from simulation.witness import Row

MOST_SKEW = timedelta(seconds=0.8)
"""How much the clock of a process of ours is off, but for one that is far ahead."""
_SESSION_LIFE = timedelta(hours=1)
"""Of a payment whose session was never confirmed (design 7)."""
_CLOSING_TIME = timedelta(minutes=14)
"""From a session's end until Antom has closed the unpaid order (antom-api 6.5)."""
_MARGIN = timedelta(minutes=2)
"""How much longer our processes wait, by their own clocks."""
_WHOLE_SECOND = timedelta(seconds=1)
"""Antom signs no fractions of one."""
_LONGEST_LOOK = timedelta(seconds=60)
"""From when a payment is read until the answer about it has come: six times a call's budget."""


@dataclass(frozen=True)
class _Told:
    """An answer of Antom's that nothing came of a payment."""

    time: datetime
    """When Antom signed it, by its clock."""
    arrival: datetime
    is_to_one_ahead: bool
    """Whether the clock of who asked was ever far ahead."""


class Lapses:
    """What Antom told processes of ours of payments that came to nothing, and what else came."""

    def __init__(self) -> None:
        self._told: dict[str, list[_Told]] = defaultdict(list)
        self._last_of: dict[str, datetime] = {}
        """When a payment had its newest event, or answer that tells no lapse."""
        self._last_news: datetime | None = None
        """When a notification came, about whichever payment, or a restore."""

    def heard(
        self,
        payment_request_id: str,
        told: Mapping[str, Any],
        *,
        signed: datetime,
        now: datetime,
        is_to_one_ahead: bool,
    ) -> None:
        """An answer about a payment, signed at a time of Antom's clock, came to who believes it."""
        if told.get("paymentStatus") == "FAIL" or told["result"]["resultCode"] == "ORDER_NOT_EXIST":
            self._told[payment_request_id].append(_Told(signed, now, is_to_one_ahead))
        else:
            self._last_of[payment_request_id] = now

    def disturbed(self, now: datetime) -> None:
        """Something came that may make a lapse late, with an event or without."""
        self._last_news = now

    def committed(self, row: Row, now: datetime) -> None:
        """An event of a payment, after it was judged."""
        self._last_of[row.payment_request_id] = now

    def wrong_lapse(self, row: Row, payment: Payment | None, now: datetime) -> str:
        """Why a payment may not have expired by an event; empty when it may.

        It needs an answer that Antom signed after the end by its own clock; and after our margin,
        too, where the clock of who asked is right.
        """
        closed = _closing_time(row)
        is_closed = payment is not None and payment.status is PaymentStatus.FAIL
        if payment is not None and not is_closed:
            last = max(session.expiry_time for session in payment.sessions)
            # Of a session that no process heard of, none can tell when it ends: no margin.
            if now < last + _CLOSING_TIME - MOST_SKEW:
                return f"while Antom has a session until {last}"
        answers = self._told[row.payment_request_id]
        if any(_is_in_time(answer, closed) for answer in answers):
            return ""
        last_time = max((answer.time for answer in answers), default=None)
        return f"though Antom last signed so at {last_time}; closed at {closed}"

    def wrong_contradiction(self, row: Row, outcome: str) -> str:
        """Why an event may not tell the lapse as a contradiction; empty when it may.

        A lapse is concluded of a payment as it was read, so that something came in between.
        Notifications and restores count for every payment: not all that they do is an event.
        """
        if row.type is not EventType.CONTRADICTION or outcome != "EXPIRED":
            return ""
        answers = self._told[row.payment_request_id]
        if not answers:
            return "though Antom never told so"
        # Renewed since, it may look as if none had come in time.
        likely = [answer for answer in answers if _is_in_time(answer, _closing_time(row))]
        since = (likely or answers)[0].arrival - _LONGEST_LOOK
        came = (self._last_of.get(row.payment_request_id), self._last_news)
        if any(one is not None and one >= since for one in came):
            return ""
        return f"though nothing else came since {since}"


def _closing_time(row: Row) -> datetime:
    """When Antom has closed a payment's unpaid order, by what is known here."""
    known = row.body["payment"]
    told_end = known["payment_session_expiry_time"]
    end = _time(told_end) if told_end else _time(known["create_time"]) + _SESSION_LIFE
    return end + _CLOSING_TIME


def _is_in_time(answer: _Told, closed: datetime) -> bool:
    margin = timedelta() if answer.is_to_one_ahead else _MARGIN - MOST_SKEW - _WHOLE_SECOND
    return answer.time >= closed + margin


def _time(text: str) -> datetime:
    """Of the log."""
    return datetime.fromisoformat(text)
