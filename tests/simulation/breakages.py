"""The product broken on purpose, one promise at a time: the simulation must notice each."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from antom_payments import decision, inquiry
from antom_payments.antom import AntomClient
from antom_payments.antom.messages import InquiryAnswer
from antom_payments.antom.signing import Verifier
from antom_payments.errors import AntomError
from antom_payments.event_stream import entry
from antom_payments.event_stream.entry import Mark
from antom_payments.event_stream.snapshot import Snapshots
from antom_payments.event_stream.starts import Starts
from antom_payments.fact import Fact
from antom_payments.grpc_api import convert
from antom_payments.money import Money, decimals
from antom_payments.notifications import Counts
from antom_payments.payment import Payment
from antom_payments.payment_filter import PaymentOrder
from antom_payments.reconcile import Reconciler
from antom_payments.service import PaymentService
from antom_payments.store import Applied, AppliedOutcome, EventLog, batch, listing
from antom_payments.store.group_commit import GroupCommit
from antom_payments.v1 import payment_pb2
from simulation import room
from simulation.disk import snapshot
from simulation.readers import Place, Reader
from simulation.room import Room

_apply = PaymentService.apply_notification
_keeps = Reader._keeps
_verifies_with = Verifier.__init__
_first_since = EventLog.first_since
_get_payment = PaymentService.get_payment
_settle = GroupCommit._settle
_inquire_payment = AntomClient.inquire_payment
_expired = inquiry.expired


async def _acknowledged_before_the_commit(self: PaymentService, *words: Any) -> Applied:
    self._start(_late(_apply(self, *words)))
    return Applied(AppliedOutcome.DUPLICATE)


async def _late(work: Any) -> None:
    await asyncio.sleep(0.5)
    await work


def _stored_before_processed(self: Reader, here: Place) -> bool:
    if self._is_same_log(here):
        self.stored = here
    return _keeps(self, here)


async def _never_due(_reconciler: Reconciler) -> list[Any]:
    return []


def _anybodys(_verifier: Verifier, **_words: Any) -> str:
    return "no key at all"


def _first_key_alone(self: Verifier, keys: Sequence[Any]) -> None:
    _verifies_with(self, keys[:1])


def _cannot_start(_counts: Counts) -> None:
    raise TypeError("wired wrongly")


def _all_alike(_event_id: str) -> bytes:
    return bytes(8)


async def _ends_at_the_head_of_now(self: Snapshots, *_: Any) -> Mark:
    _, head = await self._log.bounds()
    await self._reach(head)
    event = await self._log.event(head)
    assert event is not None
    return self._encoder.mark(event)


async def _one_too_late(self: EventLog, time: datetime) -> int:
    found = await _first_since(self, time)
    return min(found + 1, (await self.bounds())[1]) if found else 0


async def _all_taken(self: PaymentService, *words: Any, **more: Any) -> Payment:
    payment = await _get_payment(self, *words, **more)
    return replace(payment, captured_minor_units=payment.amount.minor_units)


def _in_whole_units(money: Money) -> payment_pb2.Money:
    units = money.minor_units // 10 ** decimals(money.currency_code)
    return payment_pb2.Money(currency_code=money.currency_code, minor_units=units)


def _long_over(payment: Payment) -> datetime:
    return payment.create_time - timedelta(hours=1)


def _by_our_clock(payment: Payment, *, now: datetime, **words: Any) -> Fact | None:
    return _expired(payment, now=now, **words | {"answer_time": now})


async def _silence_is_no(self: AntomClient, **words: Any) -> InquiryAnswer:
    try:
        return await _inquire_payment(self, **words)
    except AntomError:
        return InquiryAnswer(exists=False, time=self._now())


async def _from_the_oldest(self: Starts, *_: Any) -> Mark:
    return self._encoder.mark_before(await self._log.oldest())


async def _alone_or_not_at_all(self: GroupCommit[Any, Any], group: list[Any]) -> None:
    if len(group) > 1:
        raise ValueError("a bug")
    await _settle(self, group)


def _believed(*_: Any) -> None:
    return None


def _breaks(*_: Any, **__: Any) -> None:
    raise KeyError("a bug")


def _without_its_newest_event(file: Path, copy: Path) -> None:
    snapshot(file, copy)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as dump:
        dump.execute(
            "UPDATE payments SET version = version - 1 WHERE (merchant_account, payment_request_id)"
            " = (SELECT merchant_account, payment_request_id FROM events ORDER BY sequence DESC)"
        )
        dump.execute("DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)")


def _newest_first(_order: PaymentOrder, *columns: Any) -> list[Any]:
    return [column.desc() for column in columns]


@dataclass(frozen=True)
class Breakage:
    """What stands in place of what, which rule it breaks, and the steps that bring it to light."""

    place: object
    attribute: str
    instead: object
    rule: str
    needs: frozenset[str] = frozenset({"buyer"})


BREAKAGES: Mapping[str, Breakage] = {
    "a notification is acknowledged before it is stored": Breakage(
        *(PaymentService, "apply_notification", _acknowledged_before_the_commit),
        "what was acknowledged is stored",
    ),
    "a subscriber stores its cursor before it processes": Breakage(
        *(Reader, "_keeps", _stored_before_processed),
        "I4",
    ),
    "nobody asks Antom": Breakage(
        *(Reconciler, "_begin_due", _never_due),
        "I7",
    ),
    "an inquiry tells everything anew": Breakage(
        *(batch, "_settles", lambda *_: True),
        "I1",
    ),
    "signatures are not looked at": Breakage(
        *(Verifier, "verify", _anybodys),
        "what is forged is refused",
        frozenset({"forged"}),
    ),
    "the simulation itself breaks": Breakage(
        *(Room, "mend", _breaks),
        "a run comes to its end",
    ),
    "a caller gets an error of no kind": Breakage(
        *(PaymentService, "get_payment", _breaks),
        "no step fails",
        frozenset({"read"}),
    ),
    "a dump lacks what was told before it": Breakage(
        *(room, "snapshot", _without_its_newest_event),
        "I6",
        frozenset({"restore"}),
    ),
    "answers are believed unsigned": Breakage(
        *(AntomClient, "_verify", _believed),
        "an event comes of an answer that Antom signed",
        frozenset({"answer fault"}),
    ),
    "amounts are not compared": Breakage(
        *(decision, "_is_about_another_amount", lambda *_: False),
        "I2",
        frozenset({"other amount"}),
    ),
    "of two keys one is looked at": Breakage(
        *(Verifier, "__init__", _first_key_alone),
        "what Antom signs is taken",
        frozenset({"rotate"}),
    ),
    "a process cannot start": Breakage(
        *(Counts, "__init__", _cannot_start),
        "a process runs",
    ),
    "a restore is not noticed": Breakage(
        *(entry, "fingerprint_of", _all_alike),
        "I4",
        frozenset({"restore"}),
    ),
    "a snapshot ends later than it began": Breakage(
        *(Snapshots, "_end_at", _ends_at_the_head_of_now),
        "a snapshot has every payment",
        frozenset({"reader"}),
    ),
    "a start at a time is one event too late": Breakage(
        *(EventLog, "first_since", _one_too_late),
        "a start is where it says",
        frozenset({"reader"}),
    ),
    "a cursor is taken for the start of the log": Breakage(
        *(Starts, "_mark_of_cursor", _from_the_oldest),
        "a resume goes on where its cursor says",
        frozenset({"reader"}),
    ),
    "a transaction of several breaks": Breakage(
        *(GroupCommit, "_settle", _alone_or_not_at_all),
        "nothing unexpected is logged",
    ),
    "an event tells whole units for smallest ones": Breakage(
        *(convert, "_money", _in_whole_units),
        "I4",
        frozenset({"reader"}),
    ),
    "an answer takes what is held for taken": Breakage(
        *(PaymentService, "get_payment", _all_taken),
        "I6",
        frozenset({"read"}),
    ),
    "a list is in another order than its pages": Breakage(
        *(listing, "_directed", _newest_first),
        "a list has every payment",
        frozenset({"walk"}),
    ),
    "a payment expires before its time": Breakage(
        *(Payment, "session_end", property(_long_over)),
        "a payment expires in its time",
    ),
    "the clock of Antom's answer is not looked at": Breakage(
        *(inquiry, "expired", _by_our_clock),
        "a payment expires in its time",
        frozenset({"clock"}),
    ),
    "a lapse is told as a contradiction": Breakage(
        *(decision, "may_have_lapsed", lambda *_: False),
        "a lapse contradicts only news",
        frozenset({"silence"}),
    ),
    "our clock alone concludes": Breakage(
        *(AntomClient, "inquire_payment", _silence_is_no),
        "a payment expires in its time",
        frozenset({"silence"}),
    ),
}


@contextmanager
def broken(name: str) -> Iterator[str]:
    """Break the product while the block runs; the rule that this violates."""
    breakage = BREAKAGES[name]
    with mock.patch.object(breakage.place, breakage.attribute, breakage.instead):
        yield breakage.rule
