"""What operators do by command: one method each, audited by the store.

orphans, quarantined, show      look
replay, discard                 end what is quarantined
erase                           a payment's personal data
inquire, reinquire              ask Antom now, or have it asked
audit                           what was done
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from antom_payments import alarm
from antom_payments.caller import EVERYONE
from antom_payments.errors import OutcomeUnknown, PaymentNotFound
from antom_payments.fact import OUTSIDE_WINDOW
from antom_payments.notifications import Window, understand
from antom_payments.payment import Payment, Source
from antom_payments.redaction import redact
from antom_payments.service import PaymentKey, PaymentService
from antom_payments.store import (
    UNADOPTED,
    AppliedOutcome,
    AuditRecord,
    Erased,
    Member,
    Orphan,
    OrphanState,
    PaymentStore,
    StoredNotification,
)

LONGEST_WHY = 500
"""Characters of an operator's reason."""
_PAGE = 500


class OperationRefused(RuntimeError):
    """What an operator asked for cannot be done; says why."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one notification of a replay."""

    notification_id: str
    result: str
    """An outcome of the store, or why it was not replayed: `HELD_BACK`, `NOT_FOUND`, `ERASED`,
    `NOT_QUARANTINED`."""
    event_type: str = ""
    """Of the event that tells its fact: `APPLIED` alone does not say that an amount differs."""
    reason: str = ""
    event_id: str = ""
    payment_request_id: str = ""

    @property
    def was_replayed(self) -> bool:
        """Whether it was read again and, as far as it is understood, applied."""
        return self.result in set(AppliedOutcome)


class Operations:
    """The commands of an operator, over the store and, where Antom is asked, the service.

    Args:
        store: the database.
        service: asks Antom; only `inquire` needs it.
        actor: who is recorded to have done it.
        window: how old a notification may have been when it came.
    """

    def __init__(
        self,
        store: PaymentStore,
        service: PaymentService | None = None,
        *,
        actor: str,
        window: Window | None = None,
    ) -> None:
        self._store = store
        self._office = store.back_office
        self._service = service
        self._actor = actor
        self._window = window or Window()

    async def audit(self, since: datetime | None, limit: int) -> Sequence[AuditRecord]:
        """What operators did at or after ``since``: the newest ``limit`` records, oldest first."""
        return await self._office.audit(since, limit)

    async def orphans(self, state: OrphanState | None, limit: int) -> Sequence[Orphan]:
        """Orphans in a state, oldest first; without one, those that no payment has adopted."""
        states = UNADOPTED if state is None else (state,)
        return await self._office.orphans(states, limit, actor=self._actor)

    async def quarantined(self, reason: str, limit: int) -> Sequence[StoredNotification]:
        """Quarantined notifications, oldest first; ``reason`` may be its part before the colon."""
        return await self._office.quarantined(reason, limit, actor=self._actor)

    async def show(
        self, notification_id: str, *, with_body: bool
    ) -> tuple[StoredNotification, bytes]:
        """One stored notification, whatever became of it; its body only when asked for.

        Raises OperationRefused when there is none, or its body was erased.
        """
        found = await self._office.show_notification(
            notification_id, with_body=with_body, actor=self._actor
        )
        if found is None:
            raise _no_notification(notification_id)
        if with_body and found[0].is_erased:
            raise OperationRefused(f"the body of {notification_id} was erased")
        return found

    async def replay(self, notification_id: str, *, accept_late: bool = False) -> Replay:
        """Read a quarantined notification again, and apply it as if it had come now.

        Its signature was verified before it was stored. What came from outside the window stays,
        because an inquiry is the way to confirm it, unless ``accept_late`` says otherwise.
        """
        found = await self._office.notification(notification_id)
        if found is None:
            return Replay(notification_id, "NOT_FOUND")
        stored, notification = found
        if not stored.is_quarantined:
            return Replay(notification_id, "NOT_QUARANTINED", event_id=stored.event_id)
        if notification is None:
            return Replay(notification_id, "ERASED", reason=stored.reason)
        fact, not_understood = understand(notification, self._window)
        if accept_late and not_understood == OUTSIDE_WINDOW:
            not_understood = ""
        member = Member(fact, notification, not_understood)
        replayed = await self._office.replay(member, actor=self._actor)
        if replayed is None or replayed.applied is None:
            # Somebody was faster, between our two looks.
            return Replay(notification_id, "NOT_QUARANTINED")
        applied = replayed.applied
        alarm.sound(applied, Source.NOTIFICATION)
        is_held = applied.outcome is AppliedOutcome.QUARANTINED and not_understood == OUTSIDE_WINDOW
        return Replay(
            notification_id,
            "HELD_BACK" if is_held else applied.outcome.value,
            event_type=applied.event.type.value if applied.event else "",
            reason=replayed.stored.reason,
            event_id=applied.event.event_id if applied.event else "",
            payment_request_id=applied.payment.payment_request_id if applied.payment else "",
        )

    async def replay_all(self, reason: str, *, accept_late: bool = False) -> AsyncIterator[Replay]:
        """Replay everything that is quarantined, or of one reason, oldest first; each by itself."""
        after = None
        while page := await self._office.quarantine_page(reason, after=after, limit=_PAGE):
            for stored in page:
                yield await self.replay(stored.notification_id, accept_late=accept_late)
            after = page[-1]

    async def discard(self, notification_id: str, why: str) -> StoredNotification:
        """Set a quarantined notification aside for good; it stays stored.

        Raises OperationRefused when it is not quarantined, or when ``why`` is no reason to keep.
        """
        why = why.strip()
        if not 1 <= len(why) <= LONGEST_WHY:
            raise OperationRefused(f"the reason must have 1 to {LONGEST_WHY} characters")
        if redact(why) != why or not why.isprintable():
            raise OperationRefused(
                "the reason is kept in the clear: no card numbers, e-mail addresses, keys or "
                "control characters"
            )
        found = await self._office.discard(notification_id, why, actor=self._actor)
        if found is None:
            raise _no_notification(notification_id)
        stored, is_done = found
        if not is_done:
            raise OperationRefused(f"{notification_id} is {stored.outcome}, not QUARANTINED")
        return stored

    async def erase(self, merchant_account: str, payment_request_id: str) -> Erased:
        """Erase a payment's personal data; repeated, there is nothing left to erase.

        Raises PaymentNotFound.
        """
        erased = await self._office.erase_payment(
            merchant_account, payment_request_id, actor=self._actor
        )
        if erased is None:
            raise PaymentNotFound
        return erased

    async def inquire(self, key: PaymentKey, *, budget_seconds: float) -> tuple[Payment, Payment]:
        """Ask Antom about a payment now, as a fresh read does; the payment before and after.

        Recorded before Antom is asked. Raises what a fresh read raises, and OperationRefused when
        no payment is known by the `payment_id` of ``key``, or Antom did not answer.
        """
        assert self._service is not None  # noqa: S101 - composed with one for this
        try:
            before = await self._service.get_payment(
                EVERYONE, key, fresh=False, budget_seconds=budget_seconds
            )
        except PaymentNotFound:
            if not key.payment_id:
                raise
            raise OperationRefused(
                f"no payment is known by the payment_id {key.payment_id}; a notification's body may"
                " tell its payment_request_id: `antom-payments quarantine show ID --body`"
            ) from None
        detail = {"state": before.state.value, "version": before.version}
        await self._office.record(self._actor, "inquire", before, detail)
        try:
            after = await self._service.get_payment(
                EVERYONE, key, fresh=True, budget_seconds=budget_seconds
            )
        except OutcomeUnknown as error:
            # A question changes nothing: there is no outcome to be unsure of.
            raise OperationRefused("Antom did not answer: try again") from error
        return before, after

    async def reinquire(
        self, since: datetime, *, merchant_account: str = "", limit: int | None = None
    ) -> int:
        """Have Antom asked about every payment created or changed since; how many.

        Final ones included. Schedules only: the reconciler asks, at its pace. Page by page, each
        its own transaction and record.
        """
        count, after = 0, None
        while limit is None or count < limit:
            page = _PAGE if limit is None else min(_PAGE, limit - count)
            scheduled = await self._office.schedule_inquiries(
                since,
                merchant_account=merchant_account,
                after=after,
                limit=page,
                actor=self._actor,
            )
            count, after = count + scheduled.count, scheduled.last
            if scheduled.count < page:
                break
        return count


def _no_notification(notification_id: str) -> OperationRefused:
    return OperationRefused(f"there is no notification {notification_id}")
