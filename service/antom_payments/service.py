"""PaymentService: one method per use case; owns the order of steps.

    create_session      intent stored → Antom asked → answer stored
    get_payment         read, or inquire first
    apply_notification  fact and notification stored, one event

A call that has left for Antom is never abandoned: it runs in a task of its own, so that a caller
that cancels or runs out of time does not leave a session behind that nobody recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from antom_payments import alarm, instruments, telemetry
from antom_payments.antom import AntomClient, SessionPolicy, session_body
from antom_payments.antom.messages import with_expiry_of
from antom_payments.caller import Caller
from antom_payments.errors import (
    AntomError,
    AntomSaidNo,
    AntomUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    LimitReached,
    MerchantNotFound,
    NewPaymentRequestIdNeeded,
    OutcomeUnknown,
    PaymentNotFound,
    StoreUnavailable,
)
from antom_payments.fact import Fact, Notification
from antom_payments.inquiry import Examined, Inquirer
from antom_payments.payment import Payment, PaymentState, Source
from antom_payments.payment_filter import PaymentFilter, PaymentOrder, Place
from antom_payments.sdk_event import NextStep, SdkEvent, SdkEventCode, next_step
from antom_payments.session import Session, SessionRequest
from antom_payments.store import Applied, Member, PaymentStore, SessionClaim, kept

T = TypeVar("T")

_sdk_events = instruments.counter(
    "antom_payments.sdk_events",
    "{report}",
    "Events of Antom's client SDKs that front ends reported, by code.",
    labels={"sdk_event_code": list(SdkEventCode)},
)

_LEASE_MARGIN_SECONDS = 5.0
"""A lease outlives the longest call by this much (design: call budget + 5 s)."""
_SHARED_INQUIRY_SECONDS = 1.0
"""Callers that want a fresh read share one inquiry per payment within this time."""
_WITHOUT_NEWS = frozenset({PaymentState.CREATING, PaymentState.AWAITING_BUYER})
"""Nothing but sessions is known of a payment."""


@dataclass(frozen=True, slots=True)
class Merchant:
    """A merchant account: how to ask Antom for it, and what its sessions must look like."""

    merchant_account: str
    antom: AntomClient
    policy: SessionPolicy


@dataclass(frozen=True, slots=True)
class PaymentKey:
    """One of a payment's ids."""

    merchant_account: str = ""
    payment_request_id: str = ""
    payment_id: str = ""
    reference_order_id: str = ""


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """A payment and its live session; no session once the payment is over."""

    payment: Payment
    session: Session | None
    event_id: str = field(default="", compare=False)
    """Of the payment's newest event, when this very call appended it: its cursor needs no look."""


class PaymentService:
    """The use cases, over a store and Antom.

    Args:
        store: payments and their event log.
        merchants: by merchant account; empty in a process that never asks Antom.
        now: the wall clock, aware UTC.
        call_budget_seconds: longest one call to Antom may take, retries included.
        antom_in_flight: most calls to Antom at one time.
    """

    def __init__(
        self,
        store: PaymentStore,
        merchants: Mapping[str, Merchant],
        *,
        now: Callable[[], datetime],
        call_budget_seconds: float = 20.0,
        antom_in_flight: int = 64,
    ) -> None:
        self._store = store
        self.inquirer = Inquirer(store, now=now, call_budget_seconds=call_budget_seconds)
        """Asks Antom what became of a payment."""
        self._merchants = merchants
        self._now = now
        self._call_budget_seconds = call_budget_seconds
        self._antom_in_flight = antom_in_flight
        self._calls: set[asyncio.Task[Any]] = set()
        self._inquiries: dict[tuple[str, str], tuple[float, asyncio.Task[Examined]]] = {}

    async def create_session(
        self, caller: Caller, request: SessionRequest, *, budget_seconds: float
    ) -> SessionAnswer:
        """Create a payment and its session, or find those that an earlier call made.

        Raises:
            InvalidRequest: Antom would certainly refuse it; nothing was stored or sent.
            PaymentRequestIdReused, SessionInFlight: see the store's begin_session.
            AntomRefused, NewPaymentRequestIdNeeded: definite; a new id is needed.
            OutcomeUnknown, AntomUnavailable, AntomUntrusted, DeadlineExceeded: repeat with the
                same id.
            LimitReached: too many calls are under way; nothing was stored or sent.
        """
        merchant = self._merchant(caller, request.merchant_account)
        now = self._now()
        body = await self._body(merchant, request, now)
        intent = _intent(request, merchant.merchant_account, now)
        # From the intent on in a task of its own: a caller that leaves early holds no lease either.
        budget = min(self._call_budget_seconds, budget_seconds)
        call = self._start(self._create(merchant, intent, body, budget))
        return await self._within(call, budget_seconds)

    async def get_payment(
        self, caller: Caller, key: PaymentKey, *, fresh: bool, budget_seconds: float
    ) -> Payment:
        """Read a payment; ``fresh`` asks Antom first and stores what it says.

        Raises PaymentNotFound, and for a fresh read LimitReached and what the inquiry raises.
        """
        merchant_account = self._merchant(caller, key.merchant_account).merchant_account
        payment = await self._store.payment(
            merchant_account,
            payment_request_id=key.payment_request_id,
            payment_id=key.payment_id,
            reference_order_id=key.reference_order_id,
        )
        if payment is None:
            raise PaymentNotFound
        if not fresh:
            return payment
        examined = await self._within(self._shared_inquiry(payment), budget_seconds)
        return examined.payment

    async def list_payments(
        self,
        caller: Caller,
        wanted: PaymentFilter,
        order: PaymentOrder,
        *,
        after: Place | None,
        limit: int,
    ) -> list[Payment]:
        """At most ``limit`` payments in order, after a place; raises MerchantNotFound."""
        mine = self.named_scope(caller, wanted.merchant_accounts)
        wanted = replace(wanted, merchant_accounts=mine)
        return await self._store.listing.page(wanted, order, after=after, limit=limit)

    async def report_sdk_event(
        self, caller: Caller, key: PaymentKey, reported: SdkEvent
    ) -> tuple[Payment, NextStep]:
        """Tell what a front end heard from Antom's client SDK; the payment, and what is next.

        The payment is found by its `payment_request_id`. Nothing is concluded, and Antom is asked
        by the reconciler alone. Raises PaymentNotFound.
        """
        merchant_account = self._merchant(caller, key.merchant_account).merchant_account
        payment = await self._store.report_sdk_event(
            merchant_account, key.payment_request_id, reported
        )
        if payment is None:
            raise PaymentNotFound
        _sdk_events.add(1, {"sdk_event_code": reported.code})
        return payment, next_step(payment, reported.code, self._now())

    async def apply_notification(
        self, notification: Notification, fact: Fact | None, not_understood: str = ""
    ) -> Applied:
        """Store a verified notification and what it tells; committed when this returns.

        With ``not_understood`` set, which is the reason, it is quarantined; nothing follows but,
        for a fact that is known already, a duplicate. Raises StoreUnavailable.
        """
        [applied] = await self._store.apply([Member(fact, notification, not_understood)])
        alarm.sound(applied, Source.NOTIFICATION)
        return applied

    def scope(self, caller: Caller, wanted: Collection[str]) -> frozenset[str] | None:
        """The merchants whose events a caller gets: those wanted, within those it may touch.

        None means all. Raises MerchantNotFound for one that is not configured or not the caller's.
        """
        mine = frozenset(self._merchant(caller, one).merchant_account for one in wanted)
        return mine or caller.merchant_accounts

    def named_scope(self, caller: Caller, wanted: Collection[str]) -> frozenset[str]:
        """The same by name: of all, those that are configured. Rows are found by merchant first."""
        scope = self.scope(caller, wanted)
        return frozenset(self._merchants) if scope is None else scope

    async def drain(self) -> None:
        """Wait until every call that left for Antom has been recorded."""
        while self._calls:
            await asyncio.wait(self._calls)

    def _merchant(self, caller: Caller, merchant_account: str) -> Merchant:
        """The merchant by name; empty is the only one configured that the caller may touch."""
        if merchant_account:
            merchant = self._merchants.get(merchant_account)
            if merchant is None or not caller.may_touch(merchant_account):
                raise MerchantNotFound(merchant_account)
            return merchant
        mine = [
            merchant
            for merchant in self._merchants.values()
            if caller.may_touch(merchant.merchant_account)
        ]
        if len(mine) != 1:
            raise MerchantNotFound("")
        return mine[0]

    async def _body(self, merchant: Merchant, request: SessionRequest, now: datetime) -> bytes:
        """Antom's request; an expiry that has passed is no fault of a repeated call."""
        try:
            return session_body(request, policy=merchant.policy, now=now)
        except InvalidRequest:
            if not await self._is_known(merchant.merchant_account, request.payment_request_id):
                raise
            repeated = replace(request, payment_session_expiry_time=None, payment_expiry_time=None)
            return session_body(repeated, policy=merchant.policy, now=now)

    async def _is_known(self, merchant_account: str, payment_request_id: str) -> bool:
        """Whether an intent was ever stored under the id."""
        known = await self._store.payment(merchant_account, payment_request_id=payment_request_id)
        return known is not None

    async def _create(
        self, merchant: Merchant, intent: Payment, body: bytes, budget_seconds: float
    ) -> SessionAnswer:
        """Store the intent, and ask Antom unless somebody did.

        A new payment is not begun while Antom is left alone; one that is known may have its answer.
        """
        try:
            merchant.antom.refuse_while_shut()
        except AntomUnavailable:
            if not await self._is_known(intent.merchant_account, intent.payment_request_id):
                raise
        claim = await self._store.begin_session(
            intent, body, lease_seconds=self._call_budget_seconds + _LEASE_MARGIN_SECONDS
        )
        if not claim.lease_token:
            return SessionAnswer(claim.payment, claim.session)
        claim = replace(claim, request=with_expiry_of(claim.request, body, now=self._now()))
        try:
            return await self._ask_for_session(merchant, claim, budget_seconds)
        except PaymentNotFound as error:
            # The database was restored while Antom was asked, and the intent is gone from it.
            raise OutcomeUnknown from error

    async def _ask_for_session(
        self, merchant: Merchant, claim: SessionClaim, budget_seconds: float
    ) -> SessionAnswer:
        """Ask Antom under the lease, and store whatever it says."""
        try:
            session = await merchant.antom.create_payment_session(
                claim.request, budget_seconds=budget_seconds
            )
        except AntomSaidNo as refusal:
            return await self._refused(merchant, claim, refusal)
        except AntomError:
            await kept(lambda: self._store.release_session(claim))
            raise
        stored = await kept(lambda: self._store.confirm_session(claim, session))
        is_over = stored.payment.state.is_final
        return SessionAnswer(stored.payment, None if is_over else session, stored.event_id)

    async def _refused(
        self, merchant: Merchant, claim: SessionClaim, refusal: AntomSaidNo
    ) -> SessionAnswer:
        """Conclude from a refusal, when it is proof.

        After a send whose outcome is unknown, the refusal may be about the repetition only, and an
        id that is used up was used for something: Antom is asked what it has first.
        """
        is_used_up = isinstance(refusal, NewPaymentRequestIdNeeded)
        was_sent_before = claim.was_sent_before or refusal.was_sent_before
        if was_sent_before or is_used_up:
            try:
                examined = await self.inquirer.ask(merchant.antom, claim.payment)
            except AntomError as error:
                await kept(lambda: self._store.release_session(claim))
                raise OutcomeUnknown(refusal.result_code) from error
            # Of an id that was never sent, and is used up all the same: this payment, lost in a
            # restore, or another one. "Use a new id" would pay the first one twice.
            is_ours = was_sent_before or examined.payment.state not in _WITHOUT_NEWS
            if examined.exists and is_ours:
                await kept(lambda: self._store.release_session(claim))
                return SessionAnswer(examined.payment, None)
        if is_used_up:
            # About an order that is over, which an inquiry tells; not about this payment's session.
            await kept(lambda: self._store.release_session(claim))
            raise refusal
        payment, counts = await kept(lambda: self._store.refuse_session(claim, refusal.result_code))
        if counts:
            raise refusal
        if payment.state in _WITHOUT_NEWS:
            # Another call took over: "refused for good" would make two payments of what may work.
            raise OutcomeUnknown(refusal.result_code)
        return SessionAnswer(payment, None)

    def _shared_inquiry(self, payment: Payment) -> asyncio.Task[Examined]:
        """The inquiry that callers of the same second share."""
        now = time.monotonic()
        for key, (since, task) in list(self._inquiries.items()):
            has_failed = task.done() and (task.cancelled() or task.exception())
            if has_failed or now - since >= _SHARED_INQUIRY_SECONDS:
                del self._inquiries[key]
        key = (payment.merchant_account, payment.payment_request_id)
        if key not in self._inquiries:
            merchant = self._merchants[payment.merchant_account]
            self._inquiries[key] = (now, self._start(self._ask_fresh(merchant, payment)))
        return self._inquiries[key][1]

    async def _ask_fresh(self, merchant: Merchant, payment: Payment) -> Examined:
        """Ask for somebody who waits: an open payment is asked about again soon."""
        examined = await self.inquirer.ask(merchant.antom, payment)
        with suppress(StoreUnavailable):
            await self._store.hasten_inquiry(examined.payment)
        return examined

    async def _within(self, task: asyncio.Task[T], budget_seconds: float) -> T:
        """Wait for ``task`` as long as the caller does; it goes on in any case."""
        done, _ = await asyncio.wait({task}, timeout=budget_seconds)
        if not done:
            raise DeadlineExceeded
        return task.result()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work``, which calls Antom, to its end. Raises LimitReached."""
        if len(self._calls) >= self._antom_in_flight:
            work.close()
            raise LimitReached("antom_in_flight")
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may be waiting any more


def _intent(request: SessionRequest, merchant_account: str, now: datetime) -> Payment:
    """The payment in CREATING, as it is stored before Antom is called."""
    return Payment(
        merchant_account=merchant_account,
        payment_request_id=request.payment_request_id,
        amount=request.payment_amount,
        reference_order_id=request.order.reference_order_id,
        payment_method_type=request.payment_method_type,
        capture_mode=request.capture_mode,
        capture_expected=request.capture_expected,
        create_time=now,
        update_time=now,
        metadata=dict(request.metadata),
        traceparent=telemetry.current_traceparent(),
    )
