"""Asks Antom about whatever stayed open, until the truth is known (design 10).

The store says what is due (its rows outlive a crash and are shared by replicas under leases), the
inquirer asks and stores, and the cadence says when to ask next. Nothing here concludes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from antom_payments import alarm, instruments, telemetry
from antom_payments.cadence import Phase
from antom_payments.errors import AntomError, PaymentsError, StoreUnavailable
from antom_payments.inquiry import Inquirer, OrphanEnd
from antom_payments.payment import EventType, PaymentState, Source
from antom_payments.service import Merchant
from antom_payments.store import (
    UNADOPTED,
    InquiryClaim,
    InquiryKind,
    OrphanState,
    PaymentStore,
    Rate,
)

T = TypeVar("T")

_LEASE_MARGIN_SECONDS = 5.0
"""A lease outlives the longest inquiry by this much."""
_SWEPT_AT_ONCE = 500
"""In one transaction; as much as this, and there is probably more."""
_WHOLE_SWEEP = 60
"""Each sixtieth sweep also looks at orphans that were ended: they may be many."""

_asked = instruments.counter(
    "antom_payments.inquiries",
    "{inquiry}",
    "Inquiries of the reconciler, by what became of them.",
    labels={
        "phase": list(Phase),
        "outcome": (
            *("news", "nothing_new", "not_known", "no_answer", "not_stored", "failed", "gone"),
            *(f"orphan_{end.value.lower()}" for end in OrphanEnd),
            "unattributed",
        ),
    },
    alert="ReconcileFailing",
)
_found = instruments.counter(
    "antom_payments.inquiry.found",
    "{event}",
    "Events that an inquiry found before a notification told them: notifications do not arrive.",
    labels={"event_type": list(EventType)},
    alert="ReconcileFoundMissed",
)
_overdue = instruments.gauge(
    "antom_payments.inquiry.overdue",
    "s",
    "How long the oldest unexamined inquiry has been due: Antom is silent, or the rate too low.",
    alert="PaymentsUnexamined",
)
_open = instruments.gauge(
    "antom_payments.inquiry.open",
    "{payment}",
    "Inquiries that are planned, of payments, settled ones too, and of orphans, by phase; counted "
    "each minute.",
    labels={"phase": list(Phase)},
)
_open_payments = instruments.gauge(
    "antom_payments.payments.open",
    "{payment}",
    "Payments that are not settled, or of which an inquiry is wanted, by state; counted each "
    "minute.",
    labels={"state": list(PaymentState)},
    alert="PaymentsStuck",
)

_last_counted = instruments.gauge(
    "antom_payments.inquiry.last_counted.timestamp",
    "s",
    "When what is open was last searched and counted, in Unix time: the counts are as old.",
    alert="PaymentsUnexamined, PaymentsStuck",
)

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcileOptions:
    """How much the reconciler asks. Times in seconds.

    Attributes:
        rate: of each merchant, all replicas together.
        at_once: most inquiries under way in this process.
        look_seconds: how often the store is asked whether something is due.
        retry_seconds: after an inquiry that brought no answer.
        sweep_seconds: how often the nets are drawn: what is open and not asked about, orphans
            whose payment is known by now.
        adopt_foreign: whether payments that were made elsewhere with the merchant's client id
            become ours when news of them comes.
    """

    rate: Rate = field(default_factory=Rate)
    at_once: int = 16
    look_seconds: float = 1.0
    retry_seconds: float = 15.0
    sweep_seconds: float = 60.0
    adopt_foreign: bool = False


class Reconciler:
    """Examines what is due, until cancelled.

    Args:
        store: says what is due.
        inquirer: asks Antom, and stores.
        merchants: by merchant account; others' inquiries are left to who can make them.
        now: the wall clock, aware UTC.
        call_budget_seconds: longest one inquiry may take.
        options: see `ReconcileOptions`.
    """

    def __init__(
        self,
        store: PaymentStore,
        inquirer: Inquirer,
        merchants: Mapping[str, Merchant],
        *,
        now: Callable[[], datetime],
        call_budget_seconds: float,
        options: ReconcileOptions | None = None,
    ) -> None:
        self._store = store
        self._inquirer = inquirer
        self._merchants = merchants
        self._now = now
        self._lease_seconds = call_budget_seconds + _LEASE_MARGIN_SECONDS
        self._options = options or ReconcileOptions()
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._sweeps = 0

    async def run(self) -> None:
        """Examine what is due again and again; survives whatever Antom and the database do."""
        try:
            async with asyncio.TaskGroup() as loops:
                # Apart: nets that cannot be drawn must not keep what is due from being asked.
                loops.create_task(self._keep_sweeping())
                loops.create_task(self._keep_asking())
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def run_due(self) -> int:
        """Examine what is due now, as much as rates and capacity allow; how many were asked."""
        begun = await self._begin_due()
        if begun:
            await asyncio.wait(begun)
        return len(begun)

    async def _begin_due(self) -> list[asyncio.Task[None]]:
        """Begin to examine what is due; an inquiry that hangs keeps its place, and no other."""
        overdue_since = await self._store.has_due_inquiry()
        now = self._now()
        _overdue.set((now - overdue_since).total_seconds() if overdue_since else 0.0)
        if overdue_since is None:
            return []
        begun: list[asyncio.Task[None]] = []
        for merchant_account in self._merchants:
            if (places := self._places(merchant_account)) > 0:
                claims = await self._store.claim_inquiries(
                    merchant_account,
                    limit=places,
                    rate=self._options.rate,
                    lease_seconds=self._lease_seconds,
                )
                begun += map(self._begin, claims)
        return begun

    def _begin(self, claim: InquiryClaim) -> asyncio.Task[None]:
        task = asyncio.create_task(self._examine(claim))
        self._under_way[task] = claim.merchant_account
        task.add_done_callback(self._under_way.pop)
        return task

    def _places(self, merchant_account: str) -> int:
        """How many more of a merchant's inquiries may be under way: each has its share."""
        share = max(1, self._options.at_once // len(self._merchants))
        return share - list(self._under_way.values()).count(merchant_account)

    async def _keep_asking(self) -> None:
        while True:
            begun = await _surviving(self._begin_due())
            if not begun:
                await asyncio.sleep(self._options.look_seconds)
            elif all(self._places(merchant_account) <= 0 for merchant_account in self._merchants):
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def _keep_sweeping(self) -> None:
        failures = 0
        while True:
            brought = await _surviving(self.sweep())
            failures = failures + 1 if brought is None else 0
            pause = self._options.sweep_seconds
            if failures:
                # Soon again after a moment's outage, rarely when the search takes too long.
                pause = min(self._options.look_seconds * 2.0 ** min(failures, 16), pause)
            elif brought and brought >= _SWEPT_AT_ONCE:
                pause = self._options.look_seconds
            await asyncio.sleep(pause)

    async def sweep(self) -> int:
        """Draw the nets: begin inquiries that are missing, adopt orphans whose payment is known.

        How much they brought.
        """
        states = (OrphanState.WAITING,) if self._sweeps % _WHOLE_SWEEP else UNADOPTED
        begun = await self._store.adopt_missing_inquiries(limit=_SWEPT_AT_ONCE)
        adopted = await self._store.sweep_orphans(limit=_SWEPT_AT_ONCE, states=states)
        self._sweeps += 1
        for applied in adopted:
            alarm.sound(applied, applied.event.source if applied.event else Source.NOTIFICATION)
        if begun or adopted:
            _log.warning("reconcile_swept", inquiries_begun=begun, orphans_adopted=len(adopted))
        counts = await self._store.inquiries_by_phase()
        for phase in Phase:
            # Also those that are empty by now: a gauge keeps what it was told last.
            _open.set(counts.get(phase.value, 0), {"phase": phase.value})
        open_payments = await self._store.open_payments_by_state()
        for state in PaymentState:
            _open_payments.set(open_payments.get(state.value, 0), {"state": state.value})
        _last_counted.set(self._now().timestamp())
        return begun + len(adopted)

    async def _examine(self, claim: InquiryClaim) -> None:
        """Ask, store, and say when to ask next; an error only postpones."""
        retry_seconds: float | None = None
        try:
            outcome = await self._ask(claim)
        except AntomError as error:
            outcome = "no_answer"
            retry_seconds = max(self._options.retry_seconds, error.retry_after_seconds or 0.0)
        except PaymentsError:
            # The lease ends by itself, and the answer is still to be had at Antom.
            _asked.add(1, {"outcome": "not_stored", "phase": claim.phase.value})
            return
        except Exception as error:  # noqa: BLE001 - a bug that one payment meets is that payment's
            _log.error(
                "inquiry_failed",
                merchant_account=claim.merchant_account,
                subject_id=claim.subject_id,
                exc_info=error,
            )
            outcome, retry_seconds = "failed", self._options.retry_seconds
        _asked.add(1, {"outcome": outcome, "phase": claim.phase.value})
        try:
            await self._store.settle_inquiry(claim, retry_seconds=retry_seconds)
        except StoreUnavailable:
            _log.warning("inquiry_not_settled", merchant_account=claim.merchant_account)

    async def _ask(self, claim: InquiryClaim) -> str:
        """What an inquiry led to, in a bounded word."""
        merchant = self._merchants[claim.merchant_account]
        if claim.kind is InquiryKind.ORPHAN:
            return await self._ask_about_orphan(merchant, claim)
        if claim.payment is None:
            return "gone"
        examined = await self._inquirer.ask(merchant.antom, claim.payment)
        for applied in examined.found:
            event = applied.event
            if event is not None:
                _found.add(1, {"event_type": event.type.value})
                _log.info(
                    "found_by_inquiry",
                    event_type=event.type.value,
                    event_id=event.event_id,
                    merchant_account=event.merchant_account,
                    payment_request_id=event.payment_request_id,
                )
        if examined.found:
            return "news"
        return "nothing_new" if examined.exists else "not_known"

    async def _ask_about_orphan(self, merchant: Merchant, claim: InquiryClaim) -> str:
        """Look for the payment of an orphan; after its time it is nobody's."""
        with telemetry.quiet_span("inquire"):
            end = await self._inquirer.ask_about_orphan(
                merchant.antom,
                claim.merchant_account,
                claim.subject_id,
                adopt_foreign=self._options.adopt_foreign,
            )
        is_over = self._now() - claim.since_time >= self._store.cadence.orphan_life
        # Also when Antom names one of ours: what contradicts it binds nothing, and adopts nothing.
        if is_over and end is not OrphanEnd.FOREIGN:
            ended = await self._store.end_orphans(
                claim.merchant_account, claim.subject_id, OrphanState.UNATTRIBUTED
            )
            if ended:
                self._alert(claim, OrphanState.UNATTRIBUTED)
                return "unattributed"
        if end is OrphanEnd.FOREIGN:
            self._alert(claim, OrphanState.FOREIGN)
        return f"orphan_{end.value.lower()}"

    def _alert(self, claim: InquiryClaim, state: OrphanState) -> None:
        """Money news that belongs to none of our payments: somebody must look."""
        _log.error(
            "orphan_ended",
            orphan_state=state.value,
            merchant_account=claim.merchant_account,
            payment_id=claim.subject_id,
        )


async def _surviving(work: Coroutine[None, None, T]) -> T | None:
    """What ``work`` brings; None when it fails: the next look may go better."""
    try:
        return await work
    except StoreUnavailable:
        return None
    except Exception as error:  # noqa: BLE001 - a bug in one look must not end all looks
        _log.error("reconcile_failed", exc_info=error)
        return None
