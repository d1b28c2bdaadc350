"""Sessions: the intent before Antom is called, the lease while it is, the answer after.

No transaction spans the call. The intent's row is what a crash leaves behind; the lease says that
somebody is asking Antom, and for how long that may be believed. The answer is appended with other
members' news (facts.py): what that needs of the private data is at the end of this module.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import PaymentRequestIdReused, SessionInFlight
from antom_payments.payment import DEFAULT_SESSION_LIFE, Payment, PaymentState
from antom_payments.session import Session
from antom_payments.store.batch import Batch
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.members import PaymentKey, SessionResult
from antom_payments.store.private_data import DataCipher
from antom_payments.store.rows import payment_from_row, payment_to_row
from antom_payments.store.tables import payments, private_data

PRIVATE_DATA_WINDOW = timedelta(hours=1)
"""How long a session's private data outlives it unless set otherwise (antom-api 6.5)."""

# Made once: with its values in it, a statement costs eight times as much (measured: 228 to 29 µs).
_BEGIN: Mapping[str, Any] = {
    name: inserting(payments)
    .on_conflict_do_nothing(index_elements=["merchant_account", "payment_request_id"])
    .returning(payments.c.merchant_account, payments.c.payment_request_id)
    for name, inserting in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_KEEP_REQUEST = insert(private_data)


def _keyed_update(table: Any) -> Any:
    return update(table).where(
        table.c.merchant_account == bindparam("k_merchant_account"),
        table.c.payment_request_id == bindparam("k_payment_request_id"),
    )


_KEEP_SESSION = _keyed_update(private_data).values(
    session=bindparam("v_session"), erase_time=bindparam("v_erase_time")
)
_END_LEASE = _keyed_update(payments).values(lease_token=None, lease_until_time=None)


@dataclass(frozen=True, slots=True)
class Intent:
    """A session that Antom is to be asked for, before it is."""

    payment: Payment
    """In CREATING."""
    request: bytes = field(repr=False)
    """Antom's request body."""
    lease_token: str
    lease_seconds: float
    """How long nobody else may ask Antom for this payment."""
    until: float = math.inf
    """The time of the event loop until which somebody waits for it."""

    @property
    def is_waited_for(self) -> bool:
        """Whether it is to be begun: its lease would keep others waiting for nobody."""
        return asyncio.get_running_loop().time() < self.until

    @property
    def key(self) -> PaymentKey:
        """The payment that it is about."""
        return (self.payment.merchant_account, self.payment.payment_request_id)


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """What CreateSession found, and what is to be done."""

    payment: Payment
    session: Session | None = None
    """The live session, when there is one: nothing is to be sent."""
    lease_token: str = ""
    """The lease under which Antom may be asked; empty when nothing is to be sent."""
    request: bytes = field(default=b"", repr=False)
    """Antom's request body to send: the one first stored with this payment."""
    was_sent_before: bool = False
    """Whether an earlier call may have reached Antom: its refusal alone is no proof then."""


class Sessions:
    """Session steps, each within the caller's transaction.

    ``private_data_window`` is how long a session's private data outlives it: it must cover
    Antom's closing time and repeated calls.
    """

    def __init__(
        self,
        cipher: DataCipher,
        now: Callable[[], datetime],
        inquiries: Inquiries,
        private_data_window: timedelta = PRIVATE_DATA_WINDOW,
    ) -> None:
        self._cipher = cipher
        self._now = now
        self._inquiries = inquiries
        self._private_data_window = private_data_window

    async def begin(
        self, connection: AsyncConnection, intents: Sequence[Intent]
    ) -> list[SessionClaim | None]:
        """Store new intents with their leases; an answer for each, in order.

        None is for a payment that is known, or whose intent comes a second time: `begin_again`;
        and for an intent that nobody waits for any more.
        """
        now = self._now()
        first: dict[PaymentKey, Intent] = {}
        for intent in intents:
            if intent.is_waited_for:
                first.setdefault(intent.key, intent)
        if not first:
            return [None] * len(intents)
        # Sorted: another process's intents wait for these in the same order.
        rows = [
            payment_to_row(first[key].payment) | _lease(first[key], now) for key in sorted(first)
        ]
        inserted = await connection.execute(_BEGIN[connection.dialect.name], rows)
        stored = {(row.merchant_account, row.payment_request_id) for row in inserted}
        new = [first[key] for key in sorted(stored)]
        if new:
            await self._keep_requests(connection, new)
            await self._inquiries.follow(connection, [(None, intent.payment) for intent in new])
        return [
            SessionClaim(intent.payment, lease_token=intent.lease_token, request=intent.request)
            if intent.key in stored and first.get(intent.key) is intent
            else None
            for intent in intents
        ]

    async def begin_again(self, connection: AsyncConnection, intent: Intent) -> SessionClaim:
        """Find what became of a payment that is known; take the lease when Antom must be asked."""
        now = self._now()
        row = await self._locked(connection, intent.payment)
        payment = payment_from_row(row)
        _refuse_other_fingerprint(payment, intent.payment)
        if payment.state.is_final or payment.state is PaymentState.AUTHORIZED:
            return SessionClaim(payment)
        stored = await self._private(connection, payment)
        expiry = payment.payment_session_expiry_time
        if stored is not None and stored.session is not None and expiry and expiry > now:
            return SessionClaim(payment, session=self._cipher.decrypt_session(stored.session))
        until = row["lease_until_time"]
        if row["lease_token"] not in {None, intent.lease_token} and until > now:
            # One of a server whose clock is ahead may seem to last for hours.
            left = min((until - now).total_seconds(), intent.lease_seconds)
            raise SessionInFlight(payment.payment_request_id, left)
        await connection.execute(
            update(payments).where(*_is(payment)).values(**_lease(intent, now))
        )
        if stored is None:
            # Erased since: the caller's request is all there is.
            await self._keep_requests(connection, [intent])
        else:
            await self._keep_longer(connection, payment)
        kept = self._cipher.decrypt(stored.request) if stored else intent.request
        return SessionClaim(
            payment, lease_token=intent.lease_token, request=kept, was_sent_before=True
        )

    async def adopt(self, connection: AsyncConnection, payment: Payment) -> None:
        """Store a payment that was made elsewhere, unless it is known by now."""
        dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
        await connection.execute(
            dialect.insert(payments).values(payment_to_row(payment)).on_conflict_do_nothing()
        )
        await self._inquiries.follow(connection, [(None, payment)])

    async def _keep_requests(self, connection: AsyncConnection, intents: Sequence[Intent]) -> None:
        until = self._now() + DEFAULT_SESSION_LIFE + self._private_data_window
        await connection.execute(
            _KEEP_REQUEST,
            [
                {
                    "merchant_account": intent.payment.merchant_account,
                    "payment_request_id": intent.payment.payment_request_id,
                    "request": self._cipher.encrypt(intent.request),
                    "erase_time": until,
                }
                for intent in intents
            ],
        )

    async def _keep_longer(self, connection: AsyncConnection, payment: Payment) -> None:
        """Let the private data outlive the call that is about to begin: its answer goes there."""
        until = self._now() + DEFAULT_SESSION_LIFE + self._private_data_window
        await connection.execute(
            update(private_data)
            .where(
                private_data.c.merchant_account == payment.merchant_account,
                private_data.c.payment_request_id == payment.payment_request_id,
                private_data.c.erase_time < until,
            )
            .values(erase_time=until)
        )

    async def release(self, connection: AsyncConnection, claim: SessionClaim) -> None:
        """Give the lease back: nobody is asking Antom any more."""
        await connection.execute(
            update(payments)
            .where(*_is(claim.payment), payments.c.lease_token == claim.lease_token)
            .values(lease_token=None, lease_until_time=None)
        )

    async def _locked(self, connection: AsyncConnection, payment: Payment) -> Any:
        rows = await connection.execute(select(payments).where(*_is(payment)).with_for_update())
        return rows.mappings().one()

    async def _private(self, connection: AsyncConnection, payment: Payment) -> Any:
        rows = await connection.execute(
            select(private_data).where(
                private_data.c.merchant_account == payment.merchant_account,
                private_data.c.payment_request_id == payment.payment_request_id,
            )
        )
        return rows.one_or_none()


def _lease(intent: Intent, now: datetime) -> dict[str, Any]:
    return {
        "lease_token": intent.lease_token,
        "lease_until_time": now + timedelta(seconds=intent.lease_seconds),
    }


def _is(payment: Payment) -> tuple[Any, Any]:
    return (
        payments.c.merchant_account == payment.merchant_account,
        payments.c.payment_request_id == payment.payment_request_id,
    )


def _refuse_other_fingerprint(payment: Payment, intent: Payment) -> None:
    """Amount, method, capture mode and order make a payment; the rest is first-wins."""
    if payment.amount != intent.amount:
        raise PaymentRequestIdReused(payment.payment_request_id, "payment_amount")
    if payment.payment_method_type != intent.payment_method_type:
        raise PaymentRequestIdReused(payment.payment_request_id, "payment_method_type")
    if (payment.capture_mode or "AUTOMATIC") != (intent.capture_mode or "AUTOMATIC"):
        raise PaymentRequestIdReused(payment.payment_request_id, "capture_mode")
    if payment.reference_order_id != intent.reference_order_id:
        raise PaymentRequestIdReused(payment.payment_request_id, "reference_order_id")


async def read_session_ids(
    connection: AsyncConnection, batch: Batch, results: Sequence[SessionResult], cipher: DataCipher
) -> None:
    """Know which sessions are stored where a result comes without its lease: its repetition?"""
    repeated = {
        result.key
        for result in results
        if result.session and batch.leases.get(result.key) != result.lease_token
    }
    if not repeated:
        return
    key = (private_data.c.merchant_account, private_data.c.payment_request_id)
    rows = await connection.execute(
        select(*key, private_data.c.session).where(
            tuple_(*key).in_(sorted(repeated)), private_data.c.session.is_not(None)
        )
    )
    for merchant_account, payment_request_id, session in rows:
        stored = cipher.decrypt_session(session)
        batch.session_ids[merchant_account, payment_request_id] = stored.payment_session_id


async def write_sessions(
    connection: AsyncConnection, batch: Batch, cipher: DataCipher, private_data_window: timedelta
) -> None:
    """Store the sessions of the batch, and end the leases that they came under."""
    if batch.sessions:
        await connection.execute(
            _KEEP_SESSION,
            [
                _session_row(batch, key, cipher, private_data_window)
                for key in sorted(batch.sessions)
            ],
        )
    if batch.released:
        await connection.execute(
            _END_LEASE,
            [_key_row(key) for key in sorted(batch.released)],
        )


def _session_row(
    batch: Batch, key: PaymentKey, cipher: DataCipher, private_data_window: timedelta
) -> dict[str, Any]:
    expiry = batch.payments[key].payment_session_expiry_time
    assert expiry is not None  # noqa: S101 - a session sets it
    return {
        **_key_row(key),
        "v_session": cipher.encrypt_session(batch.sessions[key]),
        "v_erase_time": expiry + private_data_window,
    }


def _key_row(key: PaymentKey) -> dict[str, Any]:
    return {"k_merchant_account": key[0], "k_payment_request_id": key[1]}
