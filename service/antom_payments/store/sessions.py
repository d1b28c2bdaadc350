"""Sessions: the intent before Antom is called, the lease while it is, the answer after.

No transaction spans the call. The intent's row is what a crash leaves behind; the lease says that
somebody is asking Antom, and for how long that may be believed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antom_payments.errors import PaymentRequestIdReused, SessionInFlight
from antom_payments.payment import (
    Decision,
    Payment,
    PaymentState,
    Source,
    with_refusal,
    with_session,
)
from antom_payments.payment_event import PaymentEvent
from antom_payments.session import Session
from antom_payments.store.facts import save_payments
from antom_payments.store.inquiries import Inquiries
from antom_payments.store.log import append
from antom_payments.store.private_data import DataCipher
from antom_payments.store.rows import payment_from_row, payment_to_row
from antom_payments.store.tables import payments, private_data

_DEFAULT_SESSION_LIFE = timedelta(hours=1)
"""Antom's default (antom-api 6.5), for an answer that names no expiry."""
PRIVATE_DATA_WINDOW = timedelta(hours=1)
"""How long a session's private data outlives it unless set otherwise (antom-api 6.5)."""


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """What CreateSession found, and what is to be done."""

    payment: Payment
    session: Session | None = None
    """The live session, when there is one: nothing is to be sent."""
    lease_token: str = ""
    """The lease under which Antom may be asked; empty when nothing is to be sent."""
    request: bytes = b""
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
        self,
        connection: AsyncConnection,
        intent: Payment,
        request: bytes,
        lease_token: str,
        lease_seconds: float,
    ) -> SessionClaim:
        """Store the intent, or find what became of it; take the lease when Antom must be asked."""
        now = self._now()
        lease = {
            "lease_token": lease_token,
            "lease_until_time": now + timedelta(seconds=lease_seconds),
        }
        dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
        inserted = await connection.execute(
            dialect.insert(payments)
            .values({**payment_to_row(intent), **lease})
            .on_conflict_do_nothing(index_elements=["merchant_account", "payment_request_id"])
        )
        if inserted.rowcount:
            await self._keep_request(connection, intent, request)
            await self._inquiries.follow(connection, [(None, intent)])
            return SessionClaim(intent, lease_token=lease_token, request=request)
        row = await self._locked(connection, intent.merchant_account, intent.payment_request_id)
        payment = payment_from_row(row)
        _refuse_other_fingerprint(payment, intent)
        if payment.state.is_final or payment.state is PaymentState.AUTHORIZED:
            return SessionClaim(payment)
        stored = await self._private(connection, payment)
        expiry = payment.payment_session_expiry_time
        if stored is not None and stored.session is not None and expiry and expiry > now:
            return SessionClaim(payment, session=self._cipher.decrypt_session(stored.session))
        until = row["lease_until_time"]
        if row["lease_token"] not in {None, lease_token} and until > now:
            raise SessionInFlight(payment.payment_request_id, (until - now).total_seconds())
        await connection.execute(update(payments).where(*_is(payment)).values(**lease))
        if stored is None:
            # Erased since: the caller's request is all there is.
            await self._keep_request(connection, payment, request)
        kept = self._cipher.decrypt(stored.request) if stored else request
        return SessionClaim(payment, lease_token=lease_token, request=kept, was_sent_before=True)

    async def adopt(self, connection: AsyncConnection, payment: Payment) -> None:
        """Store a payment that was made elsewhere, unless it is known by now."""
        dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
        await connection.execute(
            dialect.insert(payments).values(payment_to_row(payment)).on_conflict_do_nothing()
        )
        await self._inquiries.follow(connection, [(None, payment)])

    async def _keep_request(
        self, connection: AsyncConnection, payment: Payment, request: bytes
    ) -> None:
        await connection.execute(
            insert(private_data).values(
                merchant_account=payment.merchant_account,
                payment_request_id=payment.payment_request_id,
                request=self._cipher.encrypt(request),
                erase_time=self._now() + _DEFAULT_SESSION_LIFE + self._private_data_window,
            )
        )

    async def confirm(
        self,
        connection: AsyncConnection,
        claim: SessionClaim,
        session: Session,
    ) -> tuple[Payment, list[PaymentEvent]]:
        """Store Antom's session. Repeated with the same lease, it changes nothing."""
        payment, mine = await self._claimed(connection, claim)
        if not mine:
            stored = await self._private(connection, payment)
            if stored and stored.session:
                known = self._cipher.decrypt_session(stored.session)
                if known.payment_session_id == session.payment_session_id:
                    return payment, []
        now = self._now()
        expiry = session.payment_session_expiry_time or now + _DEFAULT_SESSION_LIFE
        await connection.execute(
            update(private_data)
            .where(
                private_data.c.merchant_account == payment.merchant_account,
                private_data.c.payment_request_id == payment.payment_request_id,
            )
            .values(
                session=self._cipher.encrypt_session(session),
                erase_time=expiry + self._private_data_window,
            )
        )
        decision = with_session(payment, expiry, now)
        return await self._tell(connection, payment, decision, mine=mine)

    async def refuse(
        self, connection: AsyncConnection, claim: SessionClaim, result_code: str
    ) -> tuple[Payment, list[PaymentEvent], bool]:
        """Store Antom's refusal: the payment failed, unless it went on already.

        Also says whether the refusal counts. Without the lease somebody else may have a session by
        now, or get one: nothing is concluded then, unless this refusal was stored before.
        """
        payment, mine = await self._claimed(connection, claim)
        if not mine:
            stored = payment.state is PaymentState.FAILED and payment.result_code == result_code
            return payment, [], stored
        decision = with_refusal(payment, result_code, self._now())
        if decision is None:
            await self._release(connection, payment, mine=mine)
            return payment, [], payment.version == claim.payment.version
        return *await self._tell(connection, payment, decision, mine=mine), True

    async def release(self, connection: AsyncConnection, claim: SessionClaim) -> None:
        """Give the lease back: nobody is asking Antom any more."""
        payment, mine = await self._claimed(connection, claim)
        await self._release(connection, payment, mine=mine)

    async def _tell(
        self, connection: AsyncConnection, before: Payment, decision: Decision, *, mine: bool
    ) -> tuple[Payment, list[PaymentEvent]]:
        """Save the payment and append the event of a step of this API."""
        await self._release(connection, decision.payment, mine=mine)
        await self._inquiries.follow(connection, [(before, decision.payment)])
        draft = PaymentEvent(
            event_id=str(uuid.uuid4()),
            type=decision.type,
            payment=decision.payment,
            state_before=decision.state_before,
            source=Source.API,
            result_code=decision.payment.result_code,
        )
        appended = await append(connection, [draft], self._now)
        payment = replace(decision.payment, last_sequence=appended[0].sequence)
        await save_payments(connection, [payment])
        return payment, appended

    async def _claimed(
        self, connection: AsyncConnection, claim: SessionClaim
    ) -> tuple[Payment, bool]:
        """The payment under its lock, and whether the claim's lease still holds."""
        row = await self._locked(
            connection, claim.payment.merchant_account, claim.payment.payment_request_id
        )
        return payment_from_row(row), row["lease_token"] == claim.lease_token

    async def _locked(
        self, connection: AsyncConnection, merchant_account: str, payment_request_id: str
    ) -> Any:
        rows = await connection.execute(
            select(payments)
            .where(
                payments.c.merchant_account == merchant_account,
                payments.c.payment_request_id == payment_request_id,
            )
            .with_for_update()
        )
        return rows.mappings().one()

    async def _private(self, connection: AsyncConnection, payment: Payment) -> Any:
        rows = await connection.execute(
            select(private_data).where(
                private_data.c.merchant_account == payment.merchant_account,
                private_data.c.payment_request_id == payment.payment_request_id,
            )
        )
        return rows.one_or_none()

    async def _release(self, connection: AsyncConnection, payment: Payment, *, mine: bool) -> None:
        if mine:
            await connection.execute(
                update(payments)
                .where(*_is(payment))
                .values(lease_token=None, lease_until_time=None)
            )


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
