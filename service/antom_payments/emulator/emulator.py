"""Antom as merchants see it: its two operations, its buyers, its clock. No HTTP server here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from antom_payments.antom.signing import Signer, Verifier
from antom_payments.emulator import messages, results
from antom_payments.emulator.buyer import BuyerAction, BuyerCannot, Checkout
from antom_payments.emulator.delivery import Courier, Delivery
from antom_payments.emulator.ids import Ids
from antom_payments.emulator.messages import Message
from antom_payments.emulator.options import BeforeSubmission, EmulatorOptions
from antom_payments.emulator.payments import Payment, PaymentStatus, Session
from antom_payments.emulator.requests import InquiryRequest, SessionRequest
from antom_payments.emulator.results import Refused
from antom_payments.emulator.timeline import Timeline
from antom_payments.errors import ConfigurationError

SESSION_LIFETIME = timedelta(hours=1)
"""Of a session whose request names no expiry, and the longest there is (antom-api 6.5)."""


class Emulator:
    """A local Antom. Use it within ``running()``; it belongs to that event loop.

    Raises:
        ConfigurationError: a client id is none that Antom could give.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        self.options = options
        self.timeline = Timeline(options.clock, options.clock_scale)
        try:
            self.signers = {
                client_id: Signer(options.antom_private_key, client_id)
                for client_id in options.merchant_public_keys
            }
        except ValueError as error:
            raise ConfigurationError("merchant_public_keys", str(error)) from None
        self.verifiers = {
            client_id: Verifier(keys) for client_id, keys in options.merchant_public_keys.items()
        }
        self._ids = Ids(options.seed)
        self._courier = Courier(
            self.timeline, self.signers, timeout_seconds=options.acknowledgement_timeout_seconds
        )
        self._checkout = Checkout(options, self.timeline, self._courier, self._ids)
        self._payments: dict[tuple[str, str], Payment] = {}
        self._payments_by_id: dict[tuple[str, str], Payment] = {}
        self._payments_by_session: dict[str, Payment] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Emulator]:
        """Let time pass: notifications leave, orders close. Ends without waiting for deliveries."""
        passing = asyncio.create_task(self.timeline.run())
        try:
            yield self
        finally:
            passing.cancel()
            with suppress(asyncio.CancelledError):
                await passing
            await self.timeline.clear()
            await self._courier.close()

    @property
    def payments(self) -> Iterable[Payment]:
        """All payments, oldest first."""
        return self._payments.values()

    @property
    def deliveries(self) -> Iterable[Delivery]:
        """All notifications and what became of them, oldest first."""
        return self._courier.deliveries

    async def reset(self) -> None:
        """Forget everything, as after a new start; the clock is the one outside again."""
        await self.timeline.clear()
        self._payments.clear()
        self._payments_by_id.clear()
        self._payments_by_session.clear()
        self._courier.deliveries.clear()
        self._ids.reset()

    def create_payment_session(self, client_id: str, request: SessionRequest) -> Message:
        """A session of a new payment, or one more of the same unpaid payment.

        Antom does not document what a repeated `paymentRequestId` gives (antom-api 5.6); here one
        id is one payment, whatever happens.

        Raises:
            Refused: PARAM_ILLEGAL for an impossible expiry, REPEAT_REQ_INCONSISTENT for another
                amount or method under the same id, ORDER_IS_CLOSED when the payment is over.
        """
        now = self.timeline.now()
        expiry_time = _session_expiry(request, now)
        key = (client_id, request.payment_request_id)
        payment = self._payments.get(key) or self._new_payment(client_id, request, now)
        if differing := request.differs_from(payment.request):
            raise Refused(results.REPEAT_REQ_INCONSISTENT.because(f"{differing} differs."))
        if payment.status and payment.status.is_final:
            raise Refused(results.ORDER_IS_CLOSED)
        self._payments[key] = self._payments_by_id[client_id, payment.payment_id] = payment
        session = Session(self._ids.session_id(), self._ids.session_data(), expiry_time)
        payment.sessions.append(session)
        self._payments_by_session[session.session_id] = payment
        last = max(one.expiry_time for one in payment.sessions)
        self._checkout.close_at(payment, last + timedelta(seconds=self.options.closing_seconds))
        return messages.session_created(session)

    def inquire_payment(self, client_id: str, request: InquiryRequest) -> Message:
        """Where a payment stands.

        Raises:
            Refused: ORDER_NOT_EXIST when the client has no such payment, or the buyer has not
                submitted it.
        """
        if request.payment_id:
            payment = self._payments_by_id.get((client_id, request.payment_id))
        else:
            payment = self._payments.get((client_id, request.payment_request_id or ""))
        if payment is None:
            raise Refused(results.ORDER_NOT_EXIST)
        if payment.status:
            return messages.payment_inquired(payment, payment.status)
        if self.options.before_submission is BeforeSubmission.ORDER_NOT_EXIST:
            raise Refused(results.ORDER_NOT_EXIST)
        return messages.payment_inquired(payment, PaymentStatus.PROCESSING)

    def play_buyer(self, reference: str, action: BuyerAction) -> Payment:
        """Let a buyer act on the payment with that `paymentRequestId` or `paymentSessionId`.

        Raises:
            BuyerCannot: there is no such payment, or the action does not fit it.
        """
        by_request = ((client_id, reference) for client_id in self.options.merchant_public_keys)
        found = [self._payments[key] for key in by_request if key in self._payments]
        if reference in self._payments_by_session:
            found = [self._payments_by_session[reference]]
        if not found:
            raise BuyerCannot("PAYMENT_NOT_FOUND", "no payment has this id or session id")
        if len(found) > 1:
            raise BuyerCannot("PAYMENT_AMBIGUOUS", "several clients use this id: name the session")
        self._checkout.submit(found[0], action)
        return found[0]

    def _new_payment(self, client_id: str, request: SessionRequest, now: datetime) -> Payment:
        return Payment(
            client_id=client_id,
            payment_id=self._ids.number(now),
            request=request,
            create_time=now,
        )


def _session_expiry(request: SessionRequest, now: datetime) -> datetime:
    wanted = request.payment_session_expiry_time
    if wanted is None:
        return now + SESSION_LIFETIME
    if not now < wanted <= now + SESSION_LIFETIME:
        raise Refused(
            results.PARAM_ILLEGAL.because(
                "paymentSessionExpiryTime: must be within 1 hour after creation"
            )
        )
    return wanted
