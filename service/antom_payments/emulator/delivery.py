"""Notifications on their way: signed, delivered, and resent until they are acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import httpx

from antom_payments import telemetry
from antom_payments.antom.signing import Signer
from antom_payments.emulator.messages import Message, encoded
from antom_payments.emulator.timeline import Timeline
from antom_payments.emulator.times import time_text

RESEND_INTERVALS_SECONDS = (0, 120, 600, 600, 3600, 7200, 21600, 54000)
"""The documented attempts, each after the one before (antom-api 4.1); the first is at once."""

ACKNOWLEDGEMENT = {
    "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}
}
"""The only body that ends the resending (antom-api 1.9)."""

_MOST_ANSWER_BYTES = 64 * 1024

_log = telemetry.logger(__name__)


class DeliveryState(StrEnum):
    """How a notification fares."""

    WAITING = "WAITING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    GIVEN_UP = "GIVEN_UP"
    NO_NOTIFY_URL = "NO_NOTIFY_URL"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST and what came of it."""

    time: datetime
    status: int | None
    """The answer's HTTP status; None when there was no answer."""
    fault: str
    """Why it is no acknowledgement; empty when it is one."""


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


class Courier:
    """Delivers notifications; keeps the log of all deliveries in ``deliveries``.

    Args:
        timeline: says when attempts are due.
        signers: by client id.
        timeout_seconds: longest wait for a whole answer, in time outside.
    """

    def __init__(
        self, timeline: Timeline, signers: Mapping[str, Signer], *, timeout_seconds: float
    ) -> None:
        self.deliveries: list[Delivery] = []
        self._timeline = timeline
        self._signers = signers
        self._timeout_seconds = timeout_seconds
        # An own transport: the environment's proxies would catch what is meant for loopback. No
        # connection is kept: one that a restarting receiver closes costs a resend, two minutes.
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(limits=limits),
            timeout=timeout_seconds,
            headers={"accept-encoding": "identity", "user-agent": "antom-payments-emulator"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def send(
        self, client_id: str, payment_request_id: str, url: str, notification: Message
    ) -> None:
        """Deliver ``notification``, now and on the documented schedule."""
        delivery = Delivery(
            number=len(self.deliveries) + 1,
            client_id=client_id,
            payment_request_id=payment_request_id,
            url=url,
            notification=notification,
        )
        self.deliveries.append(delivery)
        if not url:
            delivery.state = DeliveryState.NO_NOTIFY_URL
            _log.warning(
                "emulator.no_notify_url",
                payment_request_id=payment_request_id,
                notify_type=notification["notifyType"],
            )
            return
        self._attempt_at(delivery, self._timeline.now())

    def _attempt_at(self, delivery: Delivery, due: datetime) -> None:
        delivery.next_attempt_time = due
        self._timeline.at(due, lambda: self._timeline.start(self._attempt(delivery, due)))

    async def _attempt(self, delivery: Delivery, due: datetime) -> None:
        sent = self._timeline.now()
        status, fault = await self._post(delivery, time_text(sent))
        delivery.attempts.append(Attempt(sent, status, fault))
        delivery.next_attempt_time = None
        made = len(delivery.attempts)
        if not fault:
            delivery.state = DeliveryState.ACKNOWLEDGED
        elif made < len(RESEND_INTERVALS_SECONDS):
            self._attempt_at(delivery, due + timedelta(seconds=RESEND_INTERVALS_SECONDS[made]))
        else:
            delivery.state = DeliveryState.GIVEN_UP
        _log.info(
            "emulator.notified",
            payment_request_id=delivery.payment_request_id,
            notify_type=delivery.notification["notifyType"],
            attempt=made,
            status=status,
            fault=fault,
        )

    async def _post(self, delivery: Delivery, time: str) -> tuple[int | None, str]:
        """The answer's status, and why it is no acknowledgement."""
        body = encoded(delivery.notification)
        try:
            request = self._http.build_request("POST", delivery.url, content=body)
            # Path and query exactly as they are sent: that is what the receiver sees and verifies.
            uri = request.url.raw_path.decode("ascii")
            signer = self._signers[delivery.client_id]
            request.headers.update(_headers(signer, uri, time, body))
            async with asyncio.timeout(self._timeout_seconds):
                return await self._answer_to(request)
        except TimeoutError:
            return None, "no answer in time"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, f"not delivered: {type(error).__name__}"

    async def _answer_to(self, request: httpx.Request) -> tuple[int, str]:
        answer = await self._http.send(request, stream=True)
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
