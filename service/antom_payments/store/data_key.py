"""The data key: whether it is the one that what is stored was encrypted with, and its rotation.

A rotation re-encrypts with the newest key whatever an older one encrypted, in small transactions in
the order of the rows' keys. It keeps no state of its own: what the newest key opens is done, so it
can be stopped at any point and run again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Column, RowMapping, Table, and_, bindparam, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import Undecipherable
from antom_payments.store.database import Database
from antom_payments.store.members import AppliedOutcome
from antom_payments.store.private_data import DataCipher, foreign_key_file
from antom_payments.store.tables import notifications, private_data

_BATCH_ROWS = 200
"""Rows of one transaction: a few milliseconds of cryptography each ten rows at most."""


class _Encrypted(NamedTuple):
    """A table with encrypted columns."""

    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]


_TABLES = (
    _Encrypted(private_data, ("merchant_account", "payment_request_id"), ("request", "session")),
    _Encrypted(notifications, ("notification_id",), ("body",)),
)


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation found, in rows."""

    seen: int = 0
    old: int = 0
    """Encrypted with an older key: re-encrypted, or only counted."""
    unreadable: int = 0
    """Opened by no key of the file: left as they are."""

    def __add__(self, other: Rotated) -> Rotated:
        return Rotated(
            self.seen + other.seen, self.old + other.old, self.unreadable + other.unreadable
        )


class KeyRotation:
    """Re-encrypts what is stored. Every method raises StoreUnavailable."""

    def __init__(
        self, database: Database, cipher: DataCipher, *, batch_rows: int = _BATCH_ROWS
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._batch_rows = batch_rows

    async def rotate(self) -> AsyncIterator[Rotated]:
        """Re-encrypt with the newest key what another one encrypted; yields each batch's rows.

        Rows that processes with an older key file write meanwhile may be missed: run it again once
        all of them were restarted.
        """
        async for found in self._batches(renew=True):
            yield found

    async def count(self) -> Rotated:
        """How many rows still need an older key; reads every row."""
        total = Rotated()
        async for found in self._batches(renew=False):
            total += found
        return total

    async def _batches(self, *, renew: bool) -> AsyncIterator[Rotated]:
        for encrypted in _TABLES:
            after: Sequence[Any] = ()
            while True:
                rows, found = await self._batch(encrypted, after, renew=renew)
                if not rows:
                    break
                after = [rows[-1][name] for name in encrypted.key]
                yield found

    async def _batch(
        self, encrypted: _Encrypted, after: Sequence[Any], *, renew: bool
    ) -> tuple[Sequence[RowMapping], Rotated]:
        """The rows after the key ``after``, and what was found in them."""
        table, key, columns = encrypted
        order: list[Column[Any]] = [table.c[name] for name in key]
        query = select(*order, *(table.c[name] for name in columns))
        if after:
            query = query.where(tuple_(*order) > tuple_(*after))
        query = query.order_by(*order).limit(self._batch_rows)

        async def work(connection: AsyncConnection) -> tuple[Sequence[RowMapping], Rotated]:
            # Locked: a session that is stored meanwhile must not be overwritten by an older one.
            result = await connection.execute(query.with_for_update() if renew else query)
            rows = result.mappings().all()
            renewed, found = self._renewed(encrypted, rows)
            if renew and renewed:
                await connection.execute(_update(encrypted), renewed)
            return rows, found

        database = self._database
        return await (database.write_in_turn(work) if renew else database.read(work))

    def _renewed(
        self, encrypted: _Encrypted, rows: Sequence[RowMapping]
    ) -> tuple[list[dict[str, Any]], Rotated]:
        """Rows of an older key, re-encrypted, and the counts."""
        renewed, unreadable = [], 0
        for row in rows:
            values = dict(row)
            stale = {
                name: values[name]
                for name in encrypted.columns
                if values[name] is not None and not self._cipher.is_newest(values[name])
            }
            if not stale:
                continue
            try:
                values |= {name: self._cipher.renew(token) for name, token in stale.items()}
            except Undecipherable:
                unreadable += 1
                continue
            renewed.append(
                {f"k_{name}": values[name] for name in encrypted.key}
                | {f"v_{name}": values[name] for name in encrypted.columns}
            )
        return renewed, Rotated(len(rows), len(renewed), unreadable)


async def refuse_foreign_key(connection: AsyncConnection, cipher: DataCipher) -> None:
    """Raise ConfigurationError when no key of the file opens the newest of what is stored.

    Of the newest rows only: whoever goes on with another key would find out one call at a time.
    """
    newest = [
        select(private_data.c.request).order_by(private_data.c.erase_time.desc()).limit(1),
        *(
            select(notifications.c.body)
            .where(notifications.c.outcome == outcome.value)
            .order_by(notifications.c.received_time.desc())
            .limit(1)
            for outcome in AppliedOutcome
        ),
    ]
    for query in newest:
        token = (await connection.execute(query)).scalar()
        try:
            if token is not None:
                cipher.decrypt(token)
        except Undecipherable:
            raise foreign_key_file() from None


def _update(encrypted: _Encrypted) -> Any:
    table, key, columns = encrypted
    return (
        update(table)
        .where(and_(*(table.c[name] == bindparam(f"k_{name}") for name in key)))
        .values({name: bindparam(f"v_{name}") for name in columns})
    )
