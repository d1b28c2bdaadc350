"""What goes on in the town all the time: callers create and read payments, buyers act."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

import views
from antom_payments.client import ClientError, Payments
from antom_payments.client.terminal import SessionWish
from antom_payments.v1 import payment_pb2
from antom_payments.v1.payment_event_pb2 import PaymentEvent
from antom_payments.v1.payment_service_pb2 import CreateSessionRequest
from chaos import books
from chaos.town import Town
from invariants import Acknowledged
from worth import worth

MOST_AT_ONCE = 40
"""Payments under way: callers that wait for answers begin no new ones."""
CALL_SECONDS = 5.0
_UNEXPECTED = {
    *("INTERNAL", "UNKNOWN", "DATA_LOSS", "NOT_FOUND", "INVALID_ARGUMENT", "ALREADY_EXISTS"),
    *("FAILED_PRECONDITION", "OUT_OF_RANGE", "UNAUTHENTICATED", "PERMISSION_DENIED"),
    "UNIMPLEMENTED",
}
BUYER = "planted.buyer"
"""In the e-mail address of every buyer."""
_MOST_SESSIONS = 100
"""Of so many the data is looked for in what processes print."""
_USED_UP = "NEW_PAYMENT_REQUEST_ID_NEEDED"
"""Right of a payment that is over, unpaid, at Antom."""
_FOR_GOOD = {"SESSION_REFUSED", _USED_UP}
"""Reasons to take another id. Antom has none to refuse a session of ours: no fault makes it."""
_SHARED = 0.15
"""How many ids two callers share."""
_TIRED_SECONDS = 60.0
"""A caller that got no answer for so long gives up."""
FLOWING = 20.0
"""Operations a second that are waited for: the more there are, the more a fault proves."""
_FLOWING_SECONDS = 30.0
"""How long that is waited for. A slow machine never gets there: its faults are felt by fewer."""

_HABITS: tuple[tuple[int, str, tuple[dict[str, Any], ...]], ...] = (
    (35, "CARD", ({"action": "approve"},)),
    (10, "CARD", ({"action": "approve", "capture": {"order": "CAPTURE_FIRST"}},)),
    (10, "CARD", ({"action": "approve", "capture": {"order": "SAME_INSTANT"}},)),
    (5, "CARD", ({"action": "approve", "capture": {"resultCode": "NO_PAY_OPTIONS"}},)),
    (15, "GCASH", ({"action": "approve"},)),
    (10, "CARD", ({"action": "decline"},)),
    (5, "GCASH", ({"action": "pending"}, {"action": "approve"})),
    (5, "GCASH", ({"action": "abandon"},)),
    (5, "CARD", ()),
)
"""How buyers are: how many of a hundred, what they pay with, and their steps."""


@dataclass
class Load:
    """A steady load, and what came of it."""

    town: Town
    payments: Payments
    random: Random
    per_second: float
    created: list[str] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    """Answers that no fault explains."""
    refused: dict[str, str] = field(default_factory=dict)
    """Payments whose callers were told to take another id, and the reason."""
    given_up: list[str] = field(default_factory=list)
    """Payments whose callers got no answer."""
    submitted: set[str] = field(default_factory=set)
    """Payments whose buyer is known to have acted."""
    sessions: list[str] = field(default_factory=list)
    """The data of the first sessions: secrets of their buyers."""
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=4000))
    _wanted: dict[str, asyncio.Event] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """So many new payments each second while the block runs; then what was begun is ended."""
        stop = asyncio.Event()
        pacing = asyncio.create_task(self._keep_calling(stop))
        try:
            yield
        finally:
            stop.set()
            await pacing

    def rate(self, seconds: float = 2.0) -> float:
        """Operations that succeeded in each of the last seconds."""
        now = asyncio.get_running_loop().time()
        return sum(now - time <= seconds for time in self._recent) / seconds

    async def flowing(self) -> None:
        """Wait until there is traffic enough. Raises TimeoutError when there is none at all."""
        enough, began = min(FLOWING, self.per_second), asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_FLOWING_SECONDS):
                while self.rate() < enough:  # noqa: ASYNC110 - a rate has no event of its own
                    await asyncio.sleep(0.05)
        except TimeoutError:
            if not self._recent or self._recent[-1] < began:
                raise

    def noted(self, event: PaymentEvent) -> None:
        """A subscriber saw ``event``."""
        self._count("event")
        waiting = self._wanted.get(event.payment_request_id)
        if waiting and event.payment.state == payment_pb2.PAYMENT_STATE_SUCCEEDED:
            waiting.set()

    async def canary(self, name: str) -> bool:
        """One payment from its creation to a subscriber that hears of its money; False if not."""
        done = self._wanted[name] = asyncio.Event()
        try:
            if not await self._create(name, "CARD"):
                return False
            # The capture at once: waiting for it would make each fault a second longer.
            await self._act(name, {"action": "approve", "capture": {"order": "SAME_INSTANT"}})
            return await done.wait()
        finally:
            del self._wanted[name]

    async def _keep_calling(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        room = asyncio.Semaphore(MOST_AT_ONCE)
        number = 0
        async with asyncio.TaskGroup() as lives:
            while not stop.is_set():
                await room.acquire()
                number += 1
                life = lives.create_task(self._live(f"pay-{number}"))
                life.add_done_callback(lambda _: room.release())
                due = max(due + 1 / self.per_second, loop.time() - 1)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(0.0, due - loop.time()))

    async def _live(self, name: str) -> None:
        """A payment's life: created, looked at, and what its buyer does."""
        weights = [weight for weight, _, _ in _HABITS]
        _, method, steps = self.random.choices(_HABITS, weights)[0]
        looks = self.random.random()
        # Of some, two callers ask at once, of one server or of both.
        callers = 2 if self.random.random() < _SHARED else 1
        told = await asyncio.gather(*(self._create(name, method) for _ in range(callers)))
        if not any(told):
            return
        if looks < 0.8:
            await self._read(name, fresh=looks < 0.05)
        for step in steps:
            await self._act(name, step)
        if looks < 0.5:
            await self._read(name, fresh=False)

    async def _create(self, name: str, method: str) -> bool:
        """Create it, as often as it takes; whether that was acknowledged."""
        self.created.append(name)
        try:
            async with asyncio.timeout(_TIRED_SECONDS):
                error = await self._answered(name, _wish(name, method))
        except TimeoutError:
            self.given_up.append(name)
            return False
        if error is not None:
            # The caller has its answer: how long Antom's books take is no patience of its own.
            await self.sent_away(name, error)
        return error is None

    async def _answered(self, name: str, wish: CreateSessionRequest) -> ClientError | None:
        """Ask until there is an answer for good; the error when that is to take another id."""
        while True:
            try:
                answer = await self.payments.create_session(wish, timeout_seconds=CALL_SECONDS)
            except ClientError as error:
                if getattr(error, "reason", "") in _FOR_GOOD:
                    return error
                self._refused("create", error)
                told = getattr(error, "retry_after_seconds", None) or 0.0
                await asyncio.sleep(max(told, self.random.uniform(0.1, 0.5)))
                continue
            self._acknowledged(name, answer.payment)
            if answer.session.payment_session_data and len(self.sessions) < _MOST_SESSIONS:
                self.sessions.append(answer.session.payment_session_data)
            self._count("create")
            return None

    async def sent_away(self, name: str, error: ClientError) -> None:
        """Told to take another id; looked at now, for in the end everything is over at Antom."""
        self._refused("create", error)
        self.refused[name] = reason = getattr(error, "reason", "")
        if reason != _USED_UP:
            return  # unexpected anyway
        one = await books.page(self.town.http, name)
        if one is None or not books.is_over_unpaid(one, self.town.antom_now()):
            stands = one["paymentStatus"] or "not paid yet" if one else "not known"
            self.unexpected.append(f"{name} needs a new id, at Antom {stands}")

    async def _read(self, name: str, *, fresh: bool) -> None:
        try:
            answer = await self.payments.get_payment(
                payment_request_id=name, fresh=fresh, timeout_seconds=CALL_SECONDS
            )
        except ClientError as error:
            self._refused("read", error)
        else:
            self._acknowledged(name, answer.payment)
            self._count("read")

    async def _act(self, name: str, step: dict[str, Any]) -> None:
        """One step of the buyer, who talks to Antom and to nobody else."""
        while True:
            try:
                answer = await self.town.http.post(f"/buyer/{name}", json=step)
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
                continue
            break
        code = answer.json().get("error", {}).get("code") if answer.status_code != 200 else ""
        if code and code not in {"SESSION_EXPIRED", "PAYMENT_FINISHED", "PAYMENT_PENDING"}:
            self.unexpected.append(f"buyer of {name}: {answer.text}")
        if not code:
            self.submitted.add(name)
        self._count("buyer")

    def _acknowledged(self, name: str, payment: payment_pb2.Payment) -> None:
        shown = views.of_message(payment)
        self.acknowledged.append(Acknowledged(name, shown.version, shown=shown))

    def _refused(self, call: str, error: ClientError) -> None:
        code = getattr(error, "code", None)
        reason = getattr(error, "reason", "")
        name = f"{call} {code.name if code else type(error).__name__} {reason}".strip()
        self.refusals[name] += 1
        # An answer of Antom's that was spoilt on purpose is INTERNAL, too.
        is_explained = reason == "ANTOM_UNTRUSTED" or (call == "create" and reason == _USED_UP)
        if code and code.name in _UNEXPECTED and not is_explained:
            self.unexpected.append(f"{name}: {error}")

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if what != "event":
            self._recent.append(asyncio.get_running_loop().time())


def _wish(name: str, method: str) -> CreateSessionRequest:
    amount = worth(name)
    request = SessionWish(
        payment_request_id=name,
        minor_units=amount.minor_units,
        currency_code=amount.currency_code,
        reference_order_id=f"order-{name}",
        payment_method_type=method,
    ).request()
    request.order.buyer.buyer_email = f"{BUYER}@example.com"
    return request
