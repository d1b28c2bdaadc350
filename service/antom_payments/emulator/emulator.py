"""Antom as merchants see it: operations, buyers, dashboard, clock, faults. No HTTP server here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from antom_payments.antom.signing import Verifier
from antom_payments.emulator import messages, results
from antom_payments.emulator.buyer import BuyerAction, Checkout
from antom_payments.emulator.captures import Captures
from antom_payments.emulator.dashboard import Cancellation, Dashboard, ManualCapture
from antom_payments.emulator.delivery import Courier, Delivery
from antom_payments.emulator.faults import FaultPlan, Faults
from antom_payments.emulator.ids import Ids
from antom_payments.emulator.ledger import Ledger, NotPossible
from antom_payments.emulator.messages import Message
from antom_payments.emulator.options import BeforeSubmission, EmulatorOptions
from antom_payments.emulator.payments import Payment, PaymentStatus, Session
from antom_payments.emulator.requests import InquiryRequest, SessionRequest
from antom_payments.emulator.results import Refused
from antom_payments.emulator.signers import Signers
from antom_payments.emulator.timeline import Timeline

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
        self.signers = Signers(options)
        self.verifiers = {
            client_id: Verifier(keys) for client_id, keys in options.merchant_public_keys.items()
        }
        self.faults = Faults(options.faults, options.seed)
        self._ids = Ids(options.seed)
        self._courier = Courier(options, self.timeline, self.signers, self.faults)
        captures = Captures(self.timeline, self._courier, self._ids)
        self._checkout = Checkout(options, self.timeline, self._courier, self._ids, captures)
        self._dashboard = Dashboard(self.timeline, captures)
        self._ledger = Ledger(options.merchant_public_keys)

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

    @property
    def payments(self) -> Iterable[Payment]:
        """All payments, oldest first."""
        return self._ledger

    @property
    def deliveries(self) -> Iterable[Delivery]:
        """All notifications and what became of them, oldest first."""
        return self._courier.deliveries

    async def reset(self) -> None:
        """Forget everything, as after a new start: its faults, and the clock outside."""
        await self.timeline.clear()
        self._ledger.clear()
        self._courier.clear()
        self._ids.reset()
        self.faults.reset()

    def create_payment_session(self, client_id: str, request: SessionRequest) -> Message:
        """A session of a new payment, or one more of the same unpaid payment.

        Antom does not document what a repeated `paymentRequestId` gives (antom-api 5.6); here one
        id is one payment, whatever happens.

        Raises:
            Refused: PARAM_ILLEGAL for an impossible expiry, REPEAT_REQ_INCONSISTENT for another
                amount or method under the same id, ORDER_IS_CLOSED when the payment is over, and
                ORDER_IS_CANCELED when it is cancelled.
        """
        now = self.timeline.now()
        expiry_time = _session_expiry(request, now)
        payment = self._ledger.with_request_id(client_id, request.payment_request_id)
        payment = payment or self._new_payment(client_id, request, now)
        if differing := request.differs_from(payment.request):
            raise Refused(results.REPEAT_REQ_INCONSISTENT.because(f"{differing} differs."))
        if payment.status is PaymentStatus.CANCELLED:
            raise Refused(results.ORDER_IS_CANCELED)
        if payment.status and payment.status.is_final:
            raise Refused(results.ORDER_IS_CLOSED)
        session = Session(self._ids.session_id(), self._ids.session_data(), expiry_time)
        self._ledger.add(payment, session)
        last = max(one.expiry_time for one in payment.sessions)
        self._checkout.close_at(payment, last + timedelta(seconds=self.options.closing_seconds))
        return messages.session_created(
            session, is_hosted=request.product_scene == "CHECKOUT_PAYMENT"
        )

    def inquire_payment(self, client_id: str, request: InquiryRequest) -> Message:
        """Where a payment stands.

        Raises:
            Refused: ORDER_NOT_EXIST when the client has no such payment, or the buyer has not
                submitted it.
        """
        if request.payment_id:
            payment = self._ledger.with_payment_id(client_id, request.payment_id)
        else:
            payment = self._ledger.with_request_id(client_id, request.payment_request_id or "")
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
            NotPossible: there is no such payment, or the action does not fit it.
        """
        payment = self._ledger.find(reference)
        self._checkout.submit(payment, action)
        return payment

    def cancel_payment(self, reference: str, wish: Cancellation) -> Payment:
        """Cancel a payment in Antom's dashboard; inquiry tells it, no notification does.

        Raises:
            NotPossible: there is no such payment.
            Refused: Antom refuses (antom-api 6.3), and ``wish`` does not force it.
        """
        payment = self._ledger.find(reference)
        self._dashboard.cancel(payment, wish)
        return payment

    def capture_payment(self, reference: str, wish: ManualCapture) -> Payment:
        """Capture an authorised payment in Antom's dashboard, well or badly.

        Raises:
            NotPossible: there is no such payment.
            Refused: there is nothing to capture, or not so much, or not once more.
        """
        payment = self._ledger.find(reference)
        self._dashboard.capture(payment, wish)
        return payment

    def add_faults(self, plan: FaultPlan) -> None:
        """Let more go wrong from now on; ``faults`` shows and clears what does.

        Raises:
            NotPossible: a NEXT_KEY is asked for, and there is none.
        """
        if plan.needs_the_next_key and not self.signers.next:
            raise NotPossible("NO_NEXT_KEY", "the emulator was given no key to rotate to")
        self.faults.add(plan)

    def payment_request_id(self, client_id: str, payment_id: str) -> str:
        """The merchant's id of the payment with Antom's id; empty when there is none."""
        payment = self._ledger.with_payment_id(client_id, payment_id)
        return payment.payment_request_id if payment else ""

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
