"""The sidecar's application: verify, apply, acknowledge, in this order and no other.

Antom takes exactly one answer for "delivered" and sends everything else again (antom-api 1.9), so
the acknowledgement leaves only after the commit, and every other answer is as small as it can be.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from antom_payments import sampling, telemetry
from antom_payments.alarm import ALARMING
from antom_payments.errors import StoreOverloaded, StoreUnavailable
from antom_payments.fact import OUTSIDE_WINDOW, Fact, Notification
from antom_payments.notifications.outcomes import OF_APPLIED, Counts, Outcome
from antom_payments.notifications.request_time import Window, age
from antom_payments.notifications.understanding import understand
from antom_payments.notifications.verification import NotVerified, Proof, Sender, prove
from antom_payments.store import Applied

ACKNOWLEDGEMENT = (
    b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'
)
"""The one answer that Antom takes for "delivered", byte for byte (antom-api 1.9)."""

_log = telemetry.logger("antom_payments.notifications")

_STATUS = {
    Outcome.BAD_SIGNATURE: 401,
    Outcome.NOT_FOUND: 404,
    Outcome.DRAINING: 503,
    Outcome.OVERLOADED: 503,
    Outcome.ERROR: 503,
}
"""The answer to each outcome; to the others, the acknowledgement."""


class AppliesNotifications(Protocol):
    """What the sidecar needs of the service."""

    async def apply_notification(
        self, notification: Notification, fact: Fact | None, not_understood: str = ""
    ) -> Applied:
        """Commit a verified notification and what follows from it.

        With ``not_understood`` set nothing follows but, for a fact known already, a duplicate.

        Raises:
            StoreOverloaded: too much waits for the database; nothing was done.
            StoreUnavailable: nothing was committed, or nobody knows.
        """


@dataclass(frozen=True, slots=True)
class _Told:
    """What became of one notification."""

    outcome: Outcome
    reason: str = ""
    notification: Notification | None = None
    applied: Applied | None = None
    error: Exception | None = None


class NotificationApp:
    """The ASGI application; see `notification_app`."""

    def __init__(
        self,
        service: AppliesNotifications,
        senders: Mapping[str, Sender],
        *,
        path: str,
        public_path: str,
        clock: Callable[[], datetime],
        window: Window,
        deadline_seconds: float,
        max_in_flight: int,
        counts: Counts,
    ) -> None:
        self._service = service
        self._senders = senders
        self._path = path.encode("ascii")
        self._public_path = public_path
        self._clock = clock
        self._window = window
        self._deadline_seconds = deadline_seconds
        self._max_in_flight = max_in_flight
        self._counts = counts
        self._under_way: set[asyncio.Task[_Told]] = set()
        self._is_draining = False

    async def drain(self) -> None:
        """Take no new work, and wait for what is under way.

        From now on requests get 503, and their connections are closed after it.
        """
        self._is_draining = True
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            # To the end, whatever the answer: an answer to half a request is cut off by a reset.
            body = await request.body()
        except ClientDisconnect:
            return
        response = await self._respond(request, body)
        await response(scope, receive, send)

    async def _respond(self, request: Request, body: bytes) -> Response:
        """Admit the request, or not; handle it; count it."""
        scope = request.scope
        if scope["method"] != "POST" or scope["raw_path"] != self._path:
            return self._turned_away(Outcome.NOT_FOUND)
        if self._is_draining:
            return self._turned_away(Outcome.DRAINING)
        if len(self._under_way) >= self._max_in_flight:
            return self._turned_away(Outcome.OVERLOADED)
        began = time.monotonic()
        told = await self._traced(request, body)
        # Of a reason such as "missing:paymentId" the first part is bounded, hence a label.
        seconds = time.monotonic() - began
        self._counts.add(told.outcome, told.reason.partition(":")[0], seconds)
        return _response(told.outcome)

    def _turned_away(self, outcome: Outcome) -> Response:
        self._counts.add(outcome)
        return _response(outcome)

    async def _traced(self, request: Request, body: bytes) -> _Told:
        """Handle the request in a trace of its own: a stranger's headers begin no trace here."""
        path = self._path.decode("ascii")
        with telemetry.quiet_span(
            f"POST {path}",
            SpanKind.SERVER,
            # Whose payment it is about is known later, and with that whether the trace is kept.
            context=sampling.undecided(Context()),
            attributes={
                "http.request.method": "POST",
                "http.route": path,
                "url.path": path,
                "url.scheme": "http",
            },
        ) as span:
            told = await self._within_deadline(request, body)
            _describe(span, told)
            _write_log(told)
            return told

    async def _within_deadline(self, request: Request, body: bytes) -> _Told:
        """Handle the request for as long as its sender can be kept waiting.

        The work goes on after that: cancelling it would wait for the database, too, and what it
        commits late is a duplicate when Antom sends it again.
        """
        work = asyncio.create_task(self._outcome(request, body))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait({work}, timeout=self._deadline_seconds)
        return work.result() if done else _Told(Outcome.ERROR, "deadline")

    async def _outcome(self, request: Request, body: bytes) -> _Told:
        """Handle the request; whatever goes wrong becomes an outcome."""
        try:
            return await self._take(request, body)
        except NotVerified as refused:
            return _Told(Outcome.BAD_SIGNATURE, refused.reason)
        except StoreOverloaded as overloaded:
            return _Told(Outcome.OVERLOADED, overloaded.metadata["limit"])
        except StoreUnavailable:
            return _Told(Outcome.ERROR, "store_unavailable")
        except Exception as error:  # noqa: BLE001 - the edge of the process: Antom sends it again
            return _Told(Outcome.ERROR, "unexpected", error=error)

    async def _take(self, request: Request, body: bytes) -> _Told:
        """Verify, understand and commit."""
        uris = self._signed_uris(request.scope["query_string"])
        began = time.perf_counter()
        proof = prove(request.headers.raw, body, uris=uris, senders=self._senders)
        verified = time.perf_counter()
        notification = self._notification(proof, body)
        age_seconds = age(notification.request_time, notification.received_time)
        self._counts.verified(verified - began, age_seconds)
        fact, not_understood = understand(notification, self._window)
        began = time.perf_counter()
        applied = await self._service.apply_notification(notification, fact, not_understood)
        self._counts.stored(time.perf_counter() - began)
        outcome = OF_APPLIED[applied.outcome]
        if outcome is Outcome.ACCEPTED:
            self._counts.accepted(notification.merchant_account, notification.received_time)
        if outcome is Outcome.QUARANTINED and not_understood == OUTSIDE_WINDOW:
            return _Told(Outcome.STALE, notification=notification, applied=applied)
        reason = not_understood if outcome is Outcome.QUARANTINED else _alarm(applied, outcome)
        return _Told(outcome, reason, notification, applied)

    def _signed_uris(self, query: bytes) -> Iterator[str]:
        """What Antom may have signed: whether it signs a query is not documented (1.5)."""
        if query:
            yield f"{self._public_path}?{query.decode('latin-1')}"
        yield self._public_path

    def _notification(self, proof: Proof, body: bytes) -> Notification:
        return Notification(
            notification_id=str(uuid.uuid4()),
            merchant_account=proof.merchant_account,
            body=body,
            client_id=proof.client_id,
            request_time=proof.request_time,
            received_time=self._clock(),
            key_fingerprint=proof.key_fingerprint,
        )


def notification_app(
    service: AppliesNotifications,
    senders: Mapping[str, Sender],
    *,
    path: str,
    public_path: str = "",
    clock: Callable[[], datetime],
    window: Window | None = None,
    deadline_seconds: float = 5.0,
    max_in_flight: int = 256,
    counts: Counts,
) -> NotificationApp:
    """The ASGI application that takes Antom's notifications.

    Args:
        service: commits them.
        senders: by Antom's client id.
        path: where the listener is asked, undecoded, as in `/antom/notify`.
        public_path: the path of the notify URL that Antom calls and signs, when a proxy in
            between rewrites it; else ``path``. Never taken from a request.
        clock: aware UTC.
        window: how old or new a `request-time` may be.
        deadline_seconds: from a whole request to its answer; then 503.
        max_in_flight: notifications handled at the same time; one more gets 503 before any work.
        counts: where outcomes are counted.
    """
    return NotificationApp(
        service,
        senders,
        path=path,
        public_path=public_path or path,
        clock=clock,
        window=window or Window(),
        deadline_seconds=deadline_seconds,
        max_in_flight=max_in_flight,
        counts=counts,
    )


def _response(outcome: Outcome) -> Response:
    """The answer: of one outcome always the same bytes."""
    status = _STATUS.get(outcome)
    if status is None:
        return Response(ACKNOWLEDGEMENT, media_type="application/json")
    headers = {}
    if outcome is Outcome.DRAINING:
        headers["connection"] = "close"
    if outcome is Outcome.BAD_SIGNATURE:
        headers["www-authenticate"] = "Signature"  # RFC 9110 15.5.2 wants one
    return Response(status_code=status, headers=headers)


def _alarm(applied: Applied, outcome: Outcome) -> str:
    """The reason to look at an accepted notification, if there is one."""
    event = applied.event
    if outcome is Outcome.ACCEPTED and event is not None and event.type in ALARMING:
        return event.type.value.lower()
    return ""


def _fields(told: _Told) -> dict[str, str]:
    """What may be said of it: named one by one, and nothing of the body or the headers."""
    fields = {"outcome": told.outcome.value, "reason": told.reason}
    if told.notification is not None:
        fields["notification_id"] = told.notification.notification_id
        fields["merchant_account"] = told.notification.merchant_account
        fields["key_fingerprint"] = told.notification.key_fingerprint
    if told.applied is not None and told.applied.payment is not None:
        fields["payment_request_id"] = told.applied.payment.payment_request_id
    if told.applied is not None and told.applied.event is not None:
        fields["event_id"] = told.applied.event.event_id
        fields["event_type"] = told.applied.event.type.value
    return {name: value for name, value in fields.items() if value}


def _describe(span: Span, told: _Told) -> None:
    """Tell the span the outcome, and link it to the trace that created the session."""
    for name, value in _fields(told).items():
        span.set_attribute(f"antom_payments.{name}", value)
    status = _STATUS.get(told.outcome, 200)
    span.set_attribute("http.response.status_code", status)
    if told.applied is not None and told.applied.payment is not None:
        telemetry.link_elsewhere(told.applied.payment.traceparent)
    if status >= 500:
        span.set_attribute("error.type", told.reason)
        span.set_status(StatusCode.ERROR)


def _write_log(told: _Told) -> None:
    """One line for each notification; that it contradicts what is stored, the alarm tells."""
    if told.outcome.is_alarming:
        _log.error("notification", **_fields(told), exc_info=told.error)
    elif told.outcome in {Outcome.BAD_SIGNATURE, Outcome.ORPHANED}:
        _log.warning("notification", **_fields(told))
    else:
        _log.info("notification", **_fields(told))
