"""Callers of the service, buyers and operators: what they do, and what was promised to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar

import views
from antom_payments.antom import SessionPolicy, session_body
from antom_payments.caller import EVERYONE, Caller
from antom_payments.emulator import (
    BuyerAction,
    Cancellation,
    CaptureWish,
    Emulator,
    ManualCapture,
    NotPossible,
    Step,
)
from antom_payments.emulator import Refused as AntomRefuses
from antom_payments.emulator.requests import SessionRequest as EmulatedRequest
from antom_payments.emulator.requests import parse
from antom_payments.errors import (
    AntomError,
    AntomSaidNo,
    DeadlineExceeded,
    InvalidRequest,
    PaymentNotFound,
    PaymentRequestIdReused,
    SessionInFlight,
    StoreUnavailable,
)
from antom_payments.money import Money
from antom_payments.payment import Payment
from antom_payments.sdk_event import SdkEvent, SdkEventCode
from antom_payments.service import PaymentKey
from antom_payments.session import Buyer, Order, PaymentMethod, SessionRequest
from invariants import Acknowledged, states_of
from simulation.history import History
from simulation.network import Cut, Network, Refused
from simulation.owed import Owed
from simulation.replicas import MERCHANTS, NOTIFY_URL, Server
from simulation.truth import Truth, was_paid
from worth import worth

T = TypeVar("T")

SECRET = "planted.secret"
_TRIES = 4
_REPEATED = (Refused, Cut, TimeoutError, StoreUnavailable, DeadlineExceeded, SessionInFlight)


def session_request(words: dict[str, Any], now: datetime) -> SessionRequest:
    """A caller's request, by the words of a step."""
    method = words["method"]
    amount = worth(words["id"])
    if words.get("other_amount"):
        amount = Money(amount.currency_code, amount.minor_units + 100)
    card = method in {"automatic", "manual"}
    kind = {"wallet": "GCASH", "hosted": "", "default": "ALIPAY_HK"}.get(method, "CARD")
    life = words.get("life") or 0
    return SessionRequest(
        payment_request_id=words["id"],
        merchant_account=words["merchant"],
        payment_amount=amount,
        order=Order(
            reference_order_id=f"order-{words['id']}",
            order_description="Two tickets",
            order_amount=amount,
            buyer=Buyer(reference_buyer_id="buyer-1", buyer_email=f"{SECRET}@example.com"),
        ),
        payment_method=PaymentMethod(payment_method_type=kind) if kind else None,
        product_scene="" if kind else "CHECKOUT_PAYMENT",
        payment_redirect_url="https://shop.example/return",
        is_authorization=True if card else None,
        capture_mode="MANUAL" if method == "manual" else "",
        payment_session_expiry_time=now + timedelta(seconds=life) if life else None,
        metadata={"basket": "7"},
    )


@dataclass
class Promises:
    """What callers were told, and may rely on: what was acknowledged is not lost."""

    answers: Owed[Acknowledged] = field(default_factory=Owed)
    """All that anybody was shown."""
    refused: Owed[tuple[str, str]] = field(default_factory=Owed)
    """Payments whose callers were told to take another id."""

    def told(self, key: tuple[str, str], payment: Payment, now: float) -> None:
        """Somebody who asked for ``key`` was shown ``payment``."""
        shown = views.of_answer(payment)
        self.answers.owe(Acknowledged(key[1], shown.version, key[0], shown), now)

    def version(self, key: tuple[str, str]) -> int | None:
        """The newest version of a payment that anybody was shown; None when nobody was."""
        return max((one.version for one in self.answers if one.key == key), default=None)

    def taken_back(self, dump_time: float) -> None:
        """A restore: only what was told before the dump still holds."""
        self.answers.take_back(dump_time)
        self.refused.take_back(dump_time)


class Callers:
    """All who use the service, and the buyers."""

    def __init__(
        self,
        *,
        random: Random,
        network: Network,
        emulator: Emulator,
        truth: Truth,
        history: History,
        now: Callable[[], datetime],
        servers: Callable[[], list[Server]],
    ) -> None:
        self.promises = Promises()
        self.most_skew = timedelta(seconds=1)
        """More than any server's clock was ever off."""
        self.epoch = 0
        """Of the database: a restore begins another."""
        self.foreign_payments: set[tuple[str, str]] = set()
        """What another system made."""
        self._amounts: dict[tuple[str, str], set[Money]] = {}
        """What was ever asked for, by payment."""
        self._random = random
        self._network = network
        self._emulator = emulator
        self._truth = truth
        self._history = history
        self._now = now
        self._servers = servers

    def restored(self, dump_time: float) -> None:
        """The database was brought back to an older point."""
        self.epoch += 1
        self.promises.taken_back(dump_time)

    async def create(self, words: dict[str, Any]) -> None:
        """Create a session, as a careful client does: with the same id until it is clear."""
        request = session_request(words, self._now())
        key = (request.merchant_account, request.payment_request_id)
        self._amounts.setdefault(key, set()).add(request.payment_amount)
        for _ in range(_TRIES):
            epoch = self.epoch
            try:
                answer = await self._asked(
                    lambda server: server.service.create_session(
                        Caller("shop"), request, budget_seconds=8.0
                    ),
                    words["patience"],
                )
            except _REPEATED as error:
                self._history.count(f"create {type(error).__name__}")
            except AntomSaidNo as error:
                self._sent_away(request, error, epoch)
                return
            except AntomError as error:
                self._history.count(f"create {type(error).__name__}")
            except PaymentRequestIdReused:
                self._history.count("create with another amount refused")
                if len(self._amounts[key]) < 2:
                    self._history.violated("a sound request is taken", f"{key} is no other")
                return
            except InvalidRequest:
                self._expired(request, epoch)
                return
            else:
                self._created(request, answer.payment, answer.session, epoch)
                return
            await asyncio.sleep(self._random.uniform(0.2, 20.0))

    def _sent_away(self, request: SessionRequest, error: AntomSaidNo, epoch: int) -> None:
        """Told to take another id: what has this one must be over, or be another payment."""
        self._history.count(f"create {type(error).__name__}")
        name = request.payment_request_id
        if name not in self._truth.refused:
            self._history.violated("who is sent away was refused", name)
        known = self._truth.at_antom(name)
        amount = request.payment_amount
        is_other = known and (known.currency_code, known.minor_units) != (
            amount.currency_code,
            amount.minor_units,
        )
        if epoch == self.epoch and not is_other:
            key = (request.merchant_account, name)
            self.promises.refused.owe(key, self._network.loop.time())

    def _created(self, request: SessionRequest, payment: Payment, session: Any, epoch: int) -> None:
        name = request.payment_request_id
        self._history.count("session" if session else "payment without session")
        if epoch != self.epoch:
            return
        key = (request.merchant_account, name)
        self.promises.told(key, payment, self._network.loop.time())
        known = self._truth.payment(name)
        ids = {one.session_id for one in known.sessions} if known else set()
        if session is not None and session.payment_session_id not in ids:
            self._history.violated("sessions are Antom's", name)

    def _expired(self, request: SessionRequest, epoch: int) -> None:
        """A repeated request's own expiry has passed: refused only when nothing was stored."""
        self._history.count("create after its expiry refused")
        expiry = request.payment_session_expiry_time
        if expiry is None or self._now() < expiry - self.most_skew:
            self._history.violated("a sound request is taken", request.payment_request_id)
        key = (request.merchant_account, request.payment_request_id)
        if epoch == self.epoch and self.promises.version(key) is not None:
            self._history.violated("what was told is not lost", f"{key[1]} is unknown")

    async def read(self, words: dict[str, Any]) -> None:
        """Read a payment; a fresh read tells what Antom has."""
        name, fresh = words["id"], words["fresh"]
        key = PaymentKey(merchant_account=words["merchant"], payment_request_id=name)
        before, epoch = states_of(self._truth.at_antom(name)), self.epoch
        known = self.promises.version((words["merchant"], name))
        try:
            payment = await self._asked(
                lambda server: server.service.get_payment(
                    EVERYONE, key, fresh=fresh, budget_seconds=8.0
                ),
                12.0,
            )
        except PaymentNotFound:
            self._history.count("read of nothing")
            if known is not None and epoch == self.epoch:
                self._history.violated("what was told is not lost", name)
            return
        except (*_REPEATED, AntomError) as error:
            self._history.count(f"read {type(error).__name__}")
            return
        self._history.count("fresh read" if fresh else "read")
        if epoch != self.epoch:
            return
        if known is not None and payment.version < known:
            self._history.violated(
                "what was told is not lost", f"{name}: {payment.version} < {known}"
            )
        self.promises.told((words["merchant"], name), payment, self._network.loop.time())
        truth = self._truth.payment(name)
        after = states_of(self._truth.at_antom(name))
        is_settled = (
            truth is not None
            and was_paid(truth)
            and before == after
            # A restore forgot the payment, and its id was taken for another amount since.
            and int(truth.amount.value) == payment.amount.minor_units
        )
        if fresh and is_settled and payment.state not in before:
            self._history.violated("a fresh read is Antom's word", f"{name}: {payment.state}")

    async def report(self, words: dict[str, Any]) -> None:
        """A front end reports what Antom's SDK told it."""
        key = PaymentKey(merchant_account=words["merchant"], payment_request_id=words["id"])
        reported = SdkEvent(SdkEventCode(words["code"]))
        try:
            await self._asked(
                lambda server: server.service.report_sdk_event(EVERYONE, key, reported), 12.0
            )
        except (*_REPEATED, PaymentNotFound) as error:
            self._history.count(f"report {type(error).__name__}")
        else:
            self._history.count("sdk event reported")

    async def buyer(self, words: dict[str, Any]) -> None:
        """The buyer acts, once there is a session to act on."""
        about = words.get("capture")
        action = BuyerAction(
            action=Step(words["action"]), capture=CaptureWish(**about) if about else None
        )
        for _ in range(3):
            if self._truth.payment(words["id"]):
                break
            await asyncio.sleep(20.0)
        self._at_antom(
            f"buyer: {words['action']}", lambda: self._emulator.play_buyer(words["id"], action)
        )

    async def capture(self, words: dict[str, Any]) -> None:
        """Somebody captures in Antom's dashboard."""
        payment = self._truth.payment(words["id"])
        if payment is None:
            return
        part = int(payment.amount.value) // words["parts"]
        amount = payment.amount.model_copy(update={"value": str(part)})
        wish = ManualCapture(
            capture_amount=amount,
            result_code=words["result_code"],
            in_process_seconds=words.get("in_process_seconds", 0),
        )
        kind = "capture" if words["parts"] == 1 else "partial capture"
        self._at_antom(
            f"dashboard: {kind}", lambda: self._emulator.capture_payment(words["id"], wish)
        )

    async def cancel(self, words: dict[str, Any]) -> None:
        """Somebody cancels in Antom's dashboard; no notification tells it."""
        wish = Cancellation(force=words["force"])
        self._at_antom(
            "dashboard: cancel", lambda: self._emulator.cancel_payment(words["id"], wish)
        )

    async def foreign(self, words: dict[str, Any]) -> None:
        """A payment that another system makes with the same client id."""
        request = session_request(words | {"method": "wallet"}, self._now())
        body = session_body(request, policy=SessionPolicy(notify_url=NOTIFY_URL), now=self._now())
        client_id = MERCHANTS[words["merchant"]]
        self.foreign_payments.add((words["merchant"], words["id"]))
        self._emulator.create_payment_session(client_id, parse(EmulatedRequest, body))
        self._at_antom(
            "foreign payment",
            lambda: self._emulator.play_buyer(words["id"], BuyerAction(action=Step.APPROVE)),
        )

    def _at_antom(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except (NotPossible, AntomRefuses) as error:
            self._history.count(f"{what} not possible")
            self._history.note(f"{error}")
        else:
            self._history.count(what)

    async def _asked(self, work: Callable[[Server], Awaitable[T]], patience: float) -> T:
        """What some server answers, for as long as the caller waits."""
        servers = self._servers()
        if not servers:
            raise Refused
        server = self._random.choice(servers)
        async with asyncio.timeout(patience):
            return await self._network.call(server.process, lambda: work(server))
