"""What is looked at after each fault: safety, of whatever is new since the last look.

Liveness, Antom's books and what subscribers got are compared once, when the run is quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from antom_payments.emulator.times import time_text
from antom_payments.payment import PaymentState
from chaos import books
from chaos.ledger import LOG_AFTER, logged
from chaos.load import Load
from chaos.process import PATIENCE
from chaos.town import Town
from invariants import LoggedEvent, PaymentKey, wrong_step

_ROWS = (
    "SELECT merchant_account, payment_request_id, state, version FROM payments"
    " WHERE payment_request_id = ANY($1::text[])"
)
_SHARED = (
    "SELECT event_id, count(*) FROM facts WHERE event_id IS NOT NULL"
    " GROUP BY event_id HAVING count(*) > 1"
)
_DANGLING = (
    "SELECT fact_id, event_id FROM facts WHERE event_id IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM events WHERE events.event_id = facts.event_id)"
)


def lapsed_early(
    names: Collection[str], at_antom: Mapping[str, books.Page], now: datetime
) -> list[str]:
    """Which payments are EXPIRED here, and may be paid at Antom, or are.

    At the end that cannot be seen of those that nobody paid: all are over by then.

    Args:
        names: what is EXPIRED here.
        at_antom: Antom's books, read after that.
        now: by Antom's clock.
    """
    return [
        f"I7: {name} is EXPIRED, at Antom {one['paymentStatus'] or 'not paid yet'}:"
        f" it closes at {one['closingTime']}, and there it is {time_text(now)}"
        for name in sorted(names)
        if (one := at_antom.get(name)) and not books.is_over_unpaid(one, now)
    ]


@dataclass
class Watch:
    """Follows the database's log, one look after the other."""

    last: int = 0
    """The newest sequence that was looked at."""
    _newest: dict[PaymentKey, LoggedEvent] = field(default_factory=dict)
    _answers: int = 0
    """How many of the callers' answers were compared."""

    async def look(self, town: Town, load: Load) -> list[str]:
        """What is wrong: a gap, an illegal step, a fact told twice, an answer that is lost."""
        # Before the database is read: what is acknowledged by now must be there.
        answers = load.acknowledged[self._answers :]
        try:
            events, rows, shared, dangling = await self._read(town, [one.key for one in answers])
        except TimeoutError:
            return ["I7: PostgreSQL could not be read"]
        self._answers += len(answers)
        wrong = [what for event in events for what in self._wrong(event)]
        stored = {(row["merchant_account"], row["payment_request_id"]): row for row in rows}
        for key, row in stored.items():
            newest = self._newest.get(key)
            told = (newest.state, newest.version) if newest else ("CREATING", 0)
            if (row["state"], row["version"]) != told:
                wrong.append(f"I3: {key[1]} is {row['state']} {row['version']}, not {told}")
        wrong += [
            f"I6: {one.payment_request_id} was acknowledged at version {one.version}"
            for one in answers
            if one.key not in stored or stored[one.key]["version"] < one.version
        ]
        lapsed = {event.key for event in events if event.state == PaymentState.EXPIRED}
        lapsed = {key for key in lapsed if self._newest[key].state == PaymentState.EXPIRED}
        if lapsed:
            wrong += await self._lapsed_early(town, {name for _, name in lapsed})
        wrong += [f"I1: {row['count']} facts share event {row['event_id']}" for row in shared]
        wrong += [f"I1: {row['fact_id']} names no event of the log" for row in dangling]
        return wrong

    async def _lapsed_early(self, town: Town, names: Collection[str]) -> list[str]:
        try:
            async with asyncio.timeout(PATIENCE):
                at_antom = await books.pages(town.http)
        except TimeoutError:
            return ["I7: Antom's books could not be read"]
        return lapsed_early(names, at_antom, town.antom_now())

    async def _read(
        self, town: Town, keys: list[PaymentKey]
    ) -> tuple[list[LoggedEvent], Any, Any, Any]:
        """At one moment, as soon as PostgreSQL lets us. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    connection = await asyncpg.connect(town.cluster.url)
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.1)
                    continue
                try:
                    async with connection.transaction(isolation="repeatable_read", readonly=True):
                        events = [
                            logged(row) for row in await connection.fetch(LOG_AFTER, self.last)
                        ]
                        ids = {event.payment_request_id for event in events} | {
                            key[1] for key in keys
                        }
                        return (
                            events,
                            await connection.fetch(_ROWS, sorted(ids)),
                            await connection.fetch(_SHARED),
                            await connection.fetch(_DANGLING),
                        )
                finally:
                    connection.terminate()

    def _wrong(self, event: LoggedEvent) -> list[str]:
        wrong = [f"I3: {what}" for what in wrong_step(event, self._newest.get(event.key))]
        if event.sequence != self.last + 1:
            wrong.append(f"I3: the log goes from {self.last} to {event.sequence}")
        self.last, self._newest[event.key] = event.sequence, event
        return wrong
