"""Asks Antom what became of a payment, and stores what it says.

A signed answer is the authority (design 7): its facts are applied like those of notifications, and
overrule them. Fresh reads, refusals in doubt and the reconciler all ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from antom_payments import alarm, telemetry
from antom_payments.antom import AntomClient
from antom_payments.antom.messages import InquiryAnswer
from antom_payments.errors import PaymentNotFound
from antom_payments.expiry import expired, expiry_due
from antom_payments.fact import Fact, FactKind
from antom_payments.payment import Payment, Source
from antom_payments.store import Applied, AppliedOutcome, Member, OrphanState, PaymentStore, kept

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Examined:
    """What an inquiry led to."""

    payment: Payment
    """As it stands after the answer."""
    exists: bool
    """Whether Antom knows it."""
    found: tuple[Applied, ...] = ()
    """What was news: each made an event."""


class OrphanEnd(StrEnum):
    """What became of news whose payment nobody knew here."""

    ADOPTED = "ADOPTED"
    FOREIGN = "FOREIGN"
    OPEN = "OPEN"
    """Antom does not know the payment (yet), or does not say whose it is."""


class Inquirer:
    """Asks Antom and stores its answers.

    Args:
        store: where the answers go.
        now: the wall clock, aware UTC.
        call_budget_seconds: longest one inquiry may take, retries included.
    """

    def __init__(
        self, store: PaymentStore, *, now: Callable[[], datetime], call_budget_seconds: float
    ) -> None:
        self._store = store
        self._now = now
        self._call_budget_seconds = call_budget_seconds

    async def ask(self, antom: AntomClient, payment: Payment) -> Examined:
        """Ask about one of our payments.

        Raises what `AntomClient.inquire_payment` raises: nothing is concluded then;
        StoreUnavailable when the answer could not be stored; and PaymentNotFound when the payment
        is gone, because the database was restored meanwhile: news waits as an orphan's, and that it
        lapsed is dropped.
        """
        with telemetry.quiet_span("inquire", links=telemetry.links_elsewhere(payment.traceparent)):
            asked_at = self._now()
            answer = await antom.inquire_payment(
                payment_request_id=payment.payment_request_id,
                merchant_account=payment.merchant_account,
                budget_seconds=self._call_budget_seconds,
            )
            found = await self._store_facts(self._facts(answer, payment, asked_at))
        stands = await self._store.payment(
            payment.merchant_account, payment_request_id=payment.payment_request_id
        )
        if stands is None:
            raise PaymentNotFound
        return Examined(stands, answer.exists, found)

    async def ask_about_orphan(
        self, antom: AntomClient, merchant_account: str, payment_id: str, *, adopt_foreign: bool
    ) -> OrphanEnd:
        """Ask whose payment it is that news came of, and let it be adopted.

        A payment's intent is stored before Antom hears of it: one that Antom knows and we do not
        was made elsewhere with the same client id, or lost in a restore. With ``adopt_foreign`` it
        becomes one of ours.

        Raises like `ask`.
        """
        answer = await antom.inquire_payment(
            payment_id=payment_id,
            merchant_account=merchant_account,
            budget_seconds=self._call_budget_seconds,
        )
        owner = answer.payment_request_id
        if not answer.exists or not owner:
            return OrphanEnd.OPEN
        ours = await self._store.payment(merchant_account, payment_request_id=owner)
        if ours is None and not adopt_foreign:
            await kept(
                lambda: self._store.end_orphans(merchant_account, payment_id, OrphanState.FOREIGN)
            )
            return OrphanEnd.FOREIGN
        if not answer.facts:
            return OrphanEnd.OPEN
        if ours is None:
            stranger = _stranger(answer, merchant_account, self._now())
            if stranger is None:
                return OrphanEnd.OPEN
            await kept(lambda: self._store.adopt_foreign(stranger))
        await self._store_facts(answer.facts)
        return OrphanEnd.ADOPTED

    def _facts(self, answer: InquiryAnswer, payment: Payment, asked_at: datetime) -> Sequence[Fact]:
        """What the answer tells; that an unpaid order lapsed, only time and answer together."""
        if answer.time is None and asked_at >= expiry_due(payment, self._store.cadence.closing):
            # It may never be concluded so, and nobody else would say why.
            _log.error(
                "antom_response_time_not_understood",
                merchant_account=payment.merchant_account,
                payment_request_id=payment.payment_request_id,
            )
        lapse = expired(
            payment,
            exists=answer.exists,
            facts=answer.facts,
            now=asked_at,
            answer_time=answer.time,
            closing=self._store.cadence.closing,
        )
        return (lapse,) if lapse else answer.facts

    async def _store_facts(self, facts: Sequence[Fact]) -> tuple[Applied, ...]:
        if not facts:
            return ()
        members = [Member(fact) for fact in facts]
        answers = await kept(lambda: self._store.apply(members))
        if any(_tells_what_waited(applied) for applied in answers):
            # The answer has the last word over news that it let be adopted; repeating is harmless.
            answers += await kept(lambda: self._store.apply(members))
        for applied in answers:
            alarm.sound(applied, Source.INQUIRY)
        return tuple(one for one in answers if one.outcome is AppliedOutcome.APPLIED)


def _tells_what_waited(applied: Applied) -> bool:
    """Whether a fact was concluded as news told it that waited for its payment, not as asked."""
    event = applied.event
    is_applied = applied.outcome is AppliedOutcome.APPLIED
    return is_applied and event is not None and event.source is not Source.INQUIRY


def _stranger(answer: InquiryAnswer, merchant_account: str, now: datetime) -> Payment | None:
    """A payment of ours out of what Antom says about one that was made elsewhere."""
    # A capture may be of a part, and an unknown status tells no payment: its amount is not known.
    told = next((fact for fact in answer.facts if fact.kind is FactKind.PAYMENT), None)
    if told is None or told.amount is None:
        return None
    return Payment(
        merchant_account=merchant_account,
        payment_request_id=answer.payment_request_id,
        amount=told.amount,
        reference_order_id="",
        payment_method_type="",
        capture_mode="",
        capture_expected=told.capture_expected,
        create_time=told.payment_create_time or now,
        update_time=now,
    )
