"""Notifications on their way: signed, delivered, and resent until they are acknowledged."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache, partial
from typing import Any

import httpx

from antom_payments import telemetry
from antom_payments.antom.signing import Signer
from antom_payments.emulator.faults import (
    OF_AN_ATTEMPT,
    OF_THE_SENDING,
    Faults,
    NotificationFault,
    NotificationFaultKind,
)
from antom_payments.emulator.messages import Message, encoded, of_another_amount
from antom_payments.emulator.options import EmulatorOptions
from antom_payments.emulator.payments import Payment
from antom_payments.emulator.signers import Signers
from antom_payments.emulator.timeline import Timeline
from antom_payments.emulator.times import time_text

RESEND_INTERVALS_SECONDS = (0, 120, 600, 600, 3600, 7200, 21600, 54000)
"""The documented attempts, each after the one before (antom-api 4.1); the first is at once."""

ACKNOWLEDGEMENT = {
    "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}
}
"""The only body that ends the resending (antom-api 1.9)."""

_MOST_ANSWER_BYTES = 64 * 1024
_MOST_AT_ONCE = 64
"""Attempts; the others wait their turn, which takes none of their time: thousands fall due at once
when the clock leaps."""

_log = telemetry.logger(__name__)


class DeliveryState(StrEnum):
    """How a notification fares."""

    WAITING = "WAITING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    GIVEN_UP = "GIVEN_UP"
    NO_NOTIFY_URL = "NO_NOTIFY_URL"
    WITHHELD = "WITHHELD"
    """A fault keeps it from ever being sent."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST and what came of it."""

    time: datetime
    status: int | None
    """The answer's HTTP status; None when there was no answer."""
    fault: str
    """Why it is no acknowledgement; empty when it is one."""
    spoilt: NotificationFaultKind | None = None
    """What went wrong with it on purpose."""


@dataclass(slots=True)
class Delivery:
    """A notification, its url, and the attempts to deliver it."""

    number: int
    client_id: str
    payment_request_id: str
    url: str
    notification: Message = field(repr=False)
    state: DeliveryState = DeliveryState.WAITING
    attempts: list[Attempt] = field(default_factory=list)
    next_attempt_time: datetime | None = None
    spoilt: NotificationFaultKind | None = None
    """What went wrong on purpose with its sending."""

    @property
    def notify_type(self) -> str:
        """PAYMENT_RESULT, for instance."""
        return str(self.notification["notifyType"])


class Courier:
    """Delivers notifications; keeps the log of all deliveries in ``deliveries``.

    Args:
        options: where notifications go, and the longest wait for an acknowledgement.
        timeline: says when attempts are due.
        signers: sign them.
        faults: say what goes wrong.
    """

    def __init__(
        self, options: EmulatorOptions, timeline: Timeline, signers: Signers, faults: Faults
    ) -> None:
        self.deliveries: list[Delivery] = []
        self._held: dict[tuple[str, str], Delivery] = {}
        """By client id and payment_request_id: what waits for the payment's next notification."""
        self._timeline = timeline
        self._signers = signers
        self._faults = faults
        self._default_url = options.default_notify_url
        self._timeout_seconds = options.acknowledgement_timeout_seconds
        self._turn = asyncio.Semaphore(_MOST_AT_ONCE)
        # An own transport: the environment's proxies would catch what is meant for loopback. Of
        # each attempt: what a pool had under way when an attempt's time was over stays in it, and
        # fills it in the end (httpcore). A kept connection would cost a resend, two minutes, when
        # a restarting receiver closes it.
        self._transport = partial(httpx.AsyncHTTPTransport, verify=_authorities())

    def clear(self) -> None:
        """Forget all deliveries."""
        self.deliveries.clear()
        self._held.clear()

    def send(self, payment: Payment, notification: Message) -> None:
        """Deliver news of ``payment``, now and on the documented schedule, unless faults say."""
        delivery = self._listed(payment, notification)
        if not delivery.url:
            delivery.state = DeliveryState.NO_NOTIFY_URL
            _log.warning(
                "emulator.no_notify_url",
                payment_request_id=payment.payment_request_id,
                notify_type=delivery.notify_type,
            )
            return
        kinds = OF_THE_SENDING
        if _payment_of(delivery) in self._held:
            # This is the next one, for which the other waits.
            kinds -= {NotificationFaultKind.REORDER}
        fault = self._faults.of_notification(
            delivery.notify_type, payment.payment_request_id, kinds
        )
        if fault is None:
            self._attempt_at(delivery, self._timeline.now())
        else:
            self._send_wrongly(payment, delivery, fault)

    def _send_wrongly(self, payment: Payment, delivery: Delivery, fault: NotificationFault) -> None:
        now = self._timeline.now()
        later = now + timedelta(seconds=fault.delay_seconds or 0)
        delivery.spoilt = fault.fault
        match fault.fault:
            case NotificationFaultKind.WITHHOLD:
                delivery.state = DeliveryState.WITHHELD
            case NotificationFaultKind.REORDER:
                self._held[_payment_of(delivery)] = delivery
                delivery.next_attempt_time = later
                self._timeline.at(later, lambda: self._let_go(delivery))
            case NotificationFaultKind.OTHER_AMOUNT:
                delivery.notification = of_another_amount(payment, delivery.notification)
                self._attempt_at(delivery, now)
            case _:
                copies = range(fault.copies or 0)
                copied = [self._listed(payment, delivery.notification) for _ in copies]
                for one in (delivery, *copied):
                    one.spoilt = fault.fault
                    self._attempt_at(one, later)

    def _let_go(self, held: Delivery) -> None:
        """Send what was held back, unless that has happened."""
        if self._held.get(_payment_of(held)) is held:
            del self._held[_payment_of(held)]
            self._attempt_at(held, self._timeline.now())

    def _listed(self, payment: Payment, notification: Message) -> Delivery:
        delivery = Delivery(
            number=len(self.deliveries) + 1,
            client_id=payment.client_id,
            payment_request_id=payment.payment_request_id,
            url=payment.request.payment_notify_url or self._default_url,
            notification=notification,
        )
        self.deliveries.append(delivery)
        return delivery

    def _attempt_at(self, delivery: Delivery, due: datetime) -> None:
        delivery.next_attempt_time = due
        self._timeline.at(due, lambda: self._timeline.start(self._attempt(delivery, due)))

    async def _attempt(self, delivery: Delivery, due: datetime) -> None:
        async with self._turn:
            await self._attempted(delivery, due)

    async def _attempted(self, delivery: Delivery, due: datetime) -> None:
        sent = self._timeline.now()
        spoilt = self._faults.of_notification(
            delivery.notify_type, delivery.payment_request_id, OF_AN_ATTEMPT
        )
        kind = spoilt.fault if spoilt else None
        status, fault = await self._post(delivery, time_text(sent), kind)
        delivery.attempts.append(Attempt(sent, status, fault, kind))
        delivery.next_attempt_time = None
        made = len(delivery.attempts)
        if not fault:
            delivery.state = DeliveryState.ACKNOWLEDGED
        elif made < len(RESEND_INTERVALS_SECONDS):
            self._attempt_at(delivery, due + timedelta(seconds=RESEND_INTERVALS_SECONDS[made]))
        else:
            delivery.state = DeliveryState.GIVEN_UP
        if held := self._held.get(_payment_of(delivery)):
            self._let_go(held)
        _log.info(
            "emulator.notified",
            payment_request_id=delivery.payment_request_id,
            notify_type=delivery.notify_type,
            attempt=made,
            status=status,
            fault=fault,
        )

    async def _post(
        self, delivery: Delivery, time: str, spoilt: NotificationFaultKind | None
    ) -> tuple[int | None, str]:
        """The answer's status, and why it is no acknowledgement."""
        if spoilt is NotificationFaultKind.DROP:
            return None, "lost on the way"
        body = encoded(delivery.notification)
        async with self._connection() as http:
            try:
                request = http.build_request("POST", delivery.url, content=body)
                # Path and query exactly as sent: that is what the receiver sees and verifies.
                uri = request.url.raw_path.decode("ascii")
                signer = self._signer(delivery.client_id, spoilt)
                request.headers.update(_headers(signer, uri, time, body))
                async with asyncio.timeout(self._timeout_seconds):
                    return await _answer_to(http, request)
            except TimeoutError:
                return None, "no answer in time"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                return None, f"not delivered: {type(error).__name__}"

    def _connection(self) -> httpx.AsyncClient:
        """Of one attempt."""
        return httpx.AsyncClient(
            transport=self._transport(),
            trust_env=False,
            timeout=self._timeout_seconds,
            headers={"accept-encoding": "identity", "user-agent": "antom-payments-emulator"},
        )

    def _signer(self, client_id: str, spoilt: NotificationFaultKind | None) -> Signer:
        match spoilt:
            case NotificationFaultKind.BADLY_SIGNED:
                return self._signers.forger[client_id]
            case NotificationFaultKind.NEXT_KEY:
                return self._signers.next[client_id]
            case _:
                return self._signers.antom[client_id]


async def _answer_to(http: httpx.AsyncClient, request: httpx.Request) -> tuple[int, str]:
    answer = await http.send(request, stream=True)
    try:
        body = b""
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > _MOST_ANSWER_BYTES:
                return answer.status_code, "the answer is too long"
    finally:
        await answer.aclose()
    content_type = answer.headers.get("content-type", "")
    return answer.status_code, _fault_in(answer.status_code, content_type, body)


@cache
def _authorities() -> ssl.SSLContext:
    """Whom TLS trusts: once, for it takes milliseconds to load."""
    return httpx.create_ssl_context()


def _payment_of(delivery: Delivery) -> tuple[str, str]:
    return delivery.client_id, delivery.payment_request_id


def _headers(signer: Signer, uri: str, time: str, body: bytes) -> dict[str, str]:
    """A notification's headers, lower case like all of Antom's (antom-api 1.9)."""
    return {
        "client-id": signer.client_id,
        "request-time": time,
        "signature": signer.signature_header("POST", uri, time, body),
        "content-type": "application/json; charset=UTF-8",
    }


def _fault_in(status: int, content_type: str, body: bytes) -> str:
    """Why an answer is not Antom's acknowledgement; empty when it is."""
    if status != 200:
        return f"HTTP status {status}, 200 is needed"
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return "the content type is not application/json"
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "the body is not JSON"
    if told != ACKNOWLEDGEMENT:
        return "the body is not Antom's acknowledgement"
    return ""
