"""Asks Antom: signs, sends, verifies before parsing, and repeats what may be repeated.

What becomes of a call, by what came back (antom-api 1.8, 5):

    nothing was sent                         AntomUnavailable    repeated
    timeout, cut, garbage, not HTTP 200      OutcomeUnknown      repeated
    result U, signed or not                  OutcomeUnknown      repeated
    signed S that cannot be understood       OutcomeUnknown
    signed F                                 AntomRefused, or NewPaymentRequestIdNeeded
    signed F about our key or client id      AntomUntrusted
    unsigned F or S, half signed, badly
      signed, another client id or payment   AntomUntrusted

Only a signed answer concludes anything. OutcomeUnknown, AntomUnavailable and AntomUntrusted leave
the payment as it was: whoever asked repeats with the same id, or inquires.

An Antom that does not answer is left alone for a while, by a breaker for each operation: what ails
sessions must not cut off inquiries, nor the other way round. When one of them is mended, the other
tries at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from opentelemetry.trace import Span, SpanKind, StatusCode

from antom_payments import telemetry
from antom_payments.antom import measures
from antom_payments.antom.breaker import Breaker, BreakerOptions, BreakerState
from antom_payments.antom.endpoints import Operation, operation_path
from antom_payments.antom.messages import (
    InquiryAnswer,
    NotUnderstood,
    inquiry_body,
    is_about,
    parse_inquiry,
    parse_session,
    parse_time,
    read_message,
)
from antom_payments.antom.messages.inquiry import ORDER_NOT_EXIST
from antom_payments.antom.messages.reading import JsonObject, Result, ResultStatus
from antom_payments.antom.signing import SignatureInvalid, Signer, Verifier
from antom_payments.antom.wire import Answer, Budgets, Wire, WireFailure, open_wire
from antom_payments.errors import (
    AntomError,
    AntomRefused,
    AntomUnavailable,
    AntomUntrusted,
    NewPaymentRequestIdNeeded,
    OutcomeUnknown,
)
from antom_payments.session import Session

MAX_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0
_SHORTEST_ATTEMPT_SECONDS = 0.05

# Antom does not accept who we are: nothing is said about the payment, and operators must act.
_NOT_ACCEPTED = frozenset(
    {"INVALID_SIGNATURE", "SIGNATURE_INVALID", "KEY_NOT_FOUND", "CLIENT_INVALID"}
)
# The id belongs to an order that is over, or to another payment (antom-api 5.2 pay, 5.6).
_ID_USED_UP = frozenset({"ORDER_IS_CLOSED", "ORDER_IS_CANCELED", "REPEAT_REQ_INCONSISTENT"})

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A verified answer."""

    result: Result
    message: JsonObject
    time: datetime | None
    """Of the answer, by Antom's clock."""
    was_sent_before: bool = False
    """Whether an earlier attempt of the same call left its outcome unknown."""


class AntomClient:
    """One merchant's way to Antom: one client id, one pair of keys, a pool of connections.

    Args:
        wire: connections to Antom's origin.
        signer: signs as the merchant's client id.
        verifier: knows Antom's public keys.
        now: the wall clock, aware; it dates requests.
        sleep: waits that many seconds before a repetition.
        jitter: a random number of seconds between its two arguments.
        breaker: when an Antom that does not answer is left alone.
        monotonic: the clock of the breakers, in seconds.
    """

    def __init__(
        self,
        wire: Wire,
        signer: Signer,
        verifier: Verifier,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
        breaker: BreakerOptions | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._signer = signer
        self._verifier = verifier
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        options = breaker or BreakerOptions()
        self._patience_seconds = options.patience_seconds
        self._breakers = _breakers_of(signer.client_id, options, monotonic)

    def refuse_while_shut(self) -> None:
        """Return when a session may be asked for now; else raise AntomUnavailable."""
        seconds = self._breakers[Operation.CREATE_PAYMENT_SESSION].seconds_shut()
        if seconds:
            raise AntomUnavailable(seconds)

    async def create_payment_session(self, body: bytes, *, budget_seconds: float) -> Session:
        """Ask for a session with the exact bytes of `messages.session_body`.

        Repeated with the same id while the outcome is unknown and ``budget_seconds`` last: Antom
        takes `paymentRequestId` as its idempotency key. A refusal is never repeated.

        Raises:
            AntomRefused: a signed F. `was_sent_before` tells whether an earlier attempt of this
                call may have worked all the same: then only an inquiry proves the refusal.
            NewPaymentRequestIdNeeded: the id is used up.
            OutcomeUnknown, AntomUnavailable, AntomUntrusted: nothing is concluded. At once, and
                with the time after which it helps to ask again, while Antom is left alone.
        """
        reply = await self._ask(Operation.CREATE_PAYMENT_SESSION, body, budget_seconds)
        if reply.result.status is ResultStatus.FAILED:
            raise _refusal(reply)
        try:
            return parse_session(reply.message)
        except NotUnderstood as fault:
            raise self._not_understood(Operation.CREATE_PAYMENT_SESSION, fault) from None

    async def inquire_payment(
        self,
        *,
        merchant_account: str,
        payment_request_id: str = "",
        payment_id: str = "",
        budget_seconds: float,
    ) -> InquiryAnswer:
        """Ask what became of a payment, by either id or both.

        Antom not knowing the payment is an answer (`exists` False), not an error: before the buyer
        submits, it is the usual one.

        Args:
            merchant_account: whose payment it is; the facts carry it.
            payment_request_id: the merchant's id.
            payment_id: Antom's id; Antom prefers it when it is given both.
            budget_seconds: for all attempts together.

        Raises:
            AntomUntrusted: also for an answer about another payment.
            OutcomeUnknown, AntomUnavailable: nothing is concluded; also when Antom does not answer
                this question (F): that says nothing about the payment. At once while Antom is left
                alone, as for a session.
            ValueError: both ids are empty.
        """
        body = inquiry_body(payment_request_id=payment_request_id, payment_id=payment_id)
        reply = await self._ask(Operation.INQUIRY_PAYMENT, body, budget_seconds)
        if reply.result.status is ResultStatus.FAILED:
            if reply.result.code == ORDER_NOT_EXIST:
                return InquiryAnswer(exists=False, time=reply.time, result_code=ORDER_NOT_EXIST)
            raise OutcomeUnknown(reply.result.code)
        try:
            if not is_about(
                reply.message, payment_request_id=payment_request_id, payment_id=payment_id
            ):
                _log.error("antom_answer_untrusted", reason="another_payment")
                raise AntomUntrusted
            return parse_inquiry(
                reply.message,
                time=reply.time,
                merchant_account=merchant_account,
                payment_request_id=payment_request_id,
            )
        except NotUnderstood as fault:
            raise self._not_understood(Operation.INQUIRY_PAYMENT, fault) from None

    async def _ask(self, operation: Operation, body: bytes, budget_seconds: float) -> _Reply:
        """The first answer that settles the call; repeats until then, as long as time lasts."""
        now = asyncio.get_running_loop().time
        deadline = now() + budget_seconds
        breaker = self._breakers[operation]
        doubt: OutcomeUnknown | AntomUnavailable = AntomUnavailable()
        for attempt in range(MAX_ATTEMPTS):
            left = deadline - now()
            if left < _SHORTEST_ATTEMPT_SECONDS:
                break
            if seconds := breaker.seconds_shut():
                # What an earlier attempt did stays unknown; either way there is time to wait.
                doubt.retry_after_seconds = seconds
                break
            try:
                reply = await self._attempt(operation, body, left, attempt)
                return replace(reply, was_sent_before=isinstance(doubt, OutcomeUnknown))
            except OutcomeUnknown as unknown:
                doubt = unknown
            except AntomUnavailable as unavailable:
                # What an earlier attempt did stays unknown when a later one cannot connect.
                doubt = doubt if isinstance(doubt, OutcomeUnknown) else unavailable
            pause = self._jitter(0, min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt))
            if attempt + 1 == MAX_ATTEMPTS or pause >= deadline - now():
                break
            if not breaker.seconds_shut():
                await self._sleep(pause)
        if isinstance(doubt, OutcomeUnknown):
            measures.count_unknown(operation)
        raise doubt

    async def _attempt(
        self, operation: Operation, body: bytes, seconds: float, attempt: int
    ) -> _Reply:
        """One request and its verified answer, S or F, in a span of its own."""
        # Own span, and no propagation: our trace ids are none of Antom's business.
        path = operation_path(operation, self._signer.client_id)
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "url.full": f"{self._wire.origin}{path}",
            "server.address": self._wire.host,
            "server.port": self._wire.port,
            "antom.operation": operation.value,
        }
        if attempt:
            attributes["http.request.resend_count"] = attempt
        with telemetry.quiet_span(f"POST {path}", SpanKind.CLIENT, attributes=attributes) as span:
            try:
                with measures.timed(operation):
                    return await self._exchange(operation, body, seconds, span)
            except AntomError as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    async def _exchange(
        self, operation: Operation, body: bytes, seconds: float, span: Span
    ) -> _Reply:
        """Send one signed request; return the verified answer, unless it is U.

        The name of the operation, the cause and Antom's code are all that logs hear of it.
        """
        path = operation_path(operation, self._signer.client_id)
        request_time = str(round(self._now().timestamp() * 1000))
        headers = self._signer.headers("POST", path, request_time, body)
        with self._breakers[operation].attempt() as attempt:
            try:
                answer = await self._wire.post(path, body, headers, seconds=seconds)
            except WireFailure as failure:
                if seconds >= self._patience_seconds or not failure.timed_out:
                    attempt.silent()
                _log.warning("antom_call_failed", operation=operation.value, cause=failure.cause)
                if failure.status_code:
                    span.set_attribute("http.response.status_code", failure.status_code)
                raise failure.error from None
            span.set_attribute("http.response.status_code", 200)
            told_at = self._verify(path, answer)
            attempt.answered()
        try:
            message = read_message(answer.body)
            result = message.result()
        except NotUnderstood as fault:
            raise self._not_understood(operation, fault) from None
        span.set_attribute("antom.result_code", result.code)
        span.set_attribute("antom.result_status", result.status.value)
        if result.status is ResultStatus.UNKNOWN:
            raise OutcomeUnknown(result.code)
        if result.status is ResultStatus.FAILED and result.code in _NOT_ACCEPTED:
            _log.error("antom_rejects_us", operation=operation.value, result_code=result.code)
            raise AntomUntrusted(result.code)
        return _Reply(result, message, told_at)

    def _verify(self, path: str, answer: Answer) -> datetime | None:
        """When Antom signed this answer for our client id, None when that is no time we can read.

        Returns only when it did.

        Raises OutcomeUnknown for an unsigned U, else AntomUntrusted: that ends the call.
        """
        signature = answer.headers.get("signature", "")
        response_time = answer.headers.get("response-time", "")
        if not signature and not response_time:
            raise _unsigned(answer)
        client_id = answer.headers.get("client-id", "")
        if client_id != self._signer.client_id:
            _log.error("antom_answer_untrusted", reason="another_client_id")
            raise AntomUntrusted
        try:
            self._verifier.verify(
                method="POST",
                uri=path,
                client_id=client_id,
                time=response_time,
                body=answer.body,
                signature_header=signature,
            )
        except SignatureInvalid as fault:
            _log.error("antom_answer_untrusted", reason=fault.reason.value)
            raise AntomUntrusted from None
        return parse_time(response_time)

    def _not_understood(self, operation: Operation, fault: NotUnderstood) -> OutcomeUnknown:
        """A signed answer that cannot be read: it may say anything, so nothing is concluded."""
        _log.error("antom_answer_not_understood", operation=operation.value, reason=fault.reason)
        return OutcomeUnknown()


@asynccontextmanager
async def open_client(
    origin: str,
    signer: Signer,
    verifier: Verifier,
    *,
    budgets: Budgets | None = None,
    ca_file: str | None = None,
    breaker: BreakerOptions | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[AntomClient]:
    """A client with a pool of its own; see `wire.open_wire` for the arguments of the connection."""
    async with open_wire(origin, budgets=budgets, ca_file=ca_file) as wire:
        yield AntomClient(wire, signer, verifier, now=now, breaker=breaker)


def _breakers_of(
    client_id: str, options: BreakerOptions, clock: Callable[[], float]
) -> Mapping[Operation, Breaker]:
    """A breaker for each operation. One that closes ends the waits of the others."""
    breakers: dict[Operation, Breaker] = {}

    def changed(operation: Operation, old: BreakerState, new: BreakerState) -> None:
        seconds = round(breakers[operation].seconds_shut(), 1)
        tell = _log.warning if new is BreakerState.OPEN else _log.info
        tell("antom_breaker", operation=operation.value, old=old.value, new=new.value, wait=seconds)
        labels = {"antom.operation": operation.value, "antom.client_id": client_id}
        measures.breakers.add(-1, labels | {"state": old.value})
        measures.breakers.add(1, labels | {"state": new.value})
        measures.breaker_changes.add(1, labels | {"state": new.value})
        if new is BreakerState.CLOSED:
            for breaker in breakers.values():
                breaker.end_wait()

    for operation in Operation:
        breakers[operation] = Breaker(options, partial(changed, operation), clock=clock)
        labels = {"antom.operation": operation.value, "antom.client_id": client_id}
        measures.breakers.add(1, labels | {"state": breakers[operation].state.value})
        for state in BreakerState:
            measures.breaker_changes.add(0, labels | {"state": state.value})
    return breakers


def _refusal(reply: _Reply) -> AntomError:
    """What a signed F to createPaymentSession means; by its letter first (antom-api 5.2)."""
    if reply.result.code in _ID_USED_UP:
        return NewPaymentRequestIdNeeded(reply.result.code, was_sent_before=reply.was_sent_before)
    return AntomRefused(reply.result.code, was_sent_before=reply.was_sent_before)


def _unsigned(answer: Answer) -> AntomError:
    """What an answer without signature means: a failure that nobody vouches for (antom-api 1.8)."""
    try:
        result = read_message(answer.body).result()
    except NotUnderstood:
        result = Result(ResultStatus.SUCCESS, "")  # no better: not to be believed
    if result.status is ResultStatus.UNKNOWN:
        return OutcomeUnknown(result.code)
    # A success must not lend its code to the error.
    code = result.code if result.status is ResultStatus.FAILED else ""
    _log.error("antom_answer_untrusted", reason="unsigned", result_code=code)
    return AntomUntrusted(code)
