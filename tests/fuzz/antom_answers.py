"""Antom's answers, changed on the way or signed and odd: no false success, no false refusal."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from antom.asking import RESPONSE_TIME, Pauses, client_of
from antom.golden import MODELLED, SANDBOX_CLIENT_ID, SEED, private_key
from antom.wires import Visit, serving
from antom_payments.antom import AntomClient
from antom_payments.antom.breaker import BreakerOptions
from antom_payments.antom.messages import InquiryAnswer
from antom_payments.antom.signing import Signer
from antom_payments.antom.wire import open_wire
from antom_payments.errors import AntomError, AntomRefused, NewPaymentRequestIdNeeded
from antom_payments.session import Session
from fuzz.mutation import (
    encoded,
    mutated_bytes,
    mutated_message,
    mutated_signature,
    mutated_text,
)
from fuzz.notifications import signature_of
from fuzz.sidecar_app import listening
from fuzz.target import Input, Kind, Target, must, raw

REQUEST_ID = "paymentRequestId01"
_NAMES = ("client-id", "response-time", "signature")
_CODES = (
    *("PARAM_ILLEGAL", "ORDER_IS_CLOSED", "ORDER_NOT_EXIST", "REPEAT_REQ_INCONSISTENT"),
    *("INVALID_SIGNATURE", "UNKNOWN_EXCEPTION", "PROCESS_FAIL", "", "4111 1111 1111 1111"),
)
_NEVER_SHUT = BreakerOptions(failures=10**6)


def _templates() -> dict[str, list[dict[str, Any]]]:
    sessions = [SEED / "02_createPaymentSession_response.json"]
    sessions += sorted(MODELLED.glob("createPaymentSession_response*.json"))
    inquiries = [SEED / "05_inquiryPayment_response_success_transactions_null.json"]
    inquiries += sorted(MODELLED.glob("inquiryPayment_response*.json"))
    errors = sorted(MODELLED.glob("gateway_error*.json"))
    about = {"paymentRequestId": REQUEST_ID}
    return {
        "create": [json.loads(file.read_text()) for file in sessions + errors],
        "inquire": [json.loads(file.read_text()) | about for file in inquiries + errors],
    }


def _make(random: Random, templates: dict[str, list[dict[str, Any]]]) -> Input:
    call = random.choice(list(templates))
    message = copy.deepcopy(random.choice(templates[call]))
    if random.random() < 0.3:
        message["result"] = {
            "resultStatus": random.choice("SFUA"),
            "resultCode": random.choice(_CODES),
            "resultMessage": "m",
        }
    given: Input = {"call": call, "status": 200, "headers": {}}
    kind = random.choice(("odd but signed", "odd but signed", "changed", "headers", "http"))
    if kind == "odd but signed":
        for _ in range(random.choice((0, 1, 1, 2, 4))):
            message = mutated_message(random, message)
        given["body"] = encoded(random, message).decode("latin-1")
        return given
    body = json.dumps(message).encode()
    given["body"] = body.decode("latin-1")
    if kind == "http":
        given["status"] = random.choice((100, 201, 204, 301, 302, 400, 401, 429, 500, 503, 999))
        given["headers"]["location"] = "http://127.0.0.1:1/"
    elif kind == "changed":
        given["sent"] = mutated_bytes(random, body).decode("latin-1")
    else:
        name = random.choice(_NAMES)
        given["headers"][name] = random.choice(("", "0", "a" * 100, "mutated", "other"))
        given["garble"] = random.random()
    return given


class AntomAnswers:
    """A client in front of an Antom that answers each input."""

    def __init__(self, client: AntomClient) -> None:
        self._client = client
        self._given: Input = {}
        self._signature = b""
        self._sent: dict[str, str] = {}

    async def answer(self, visit: Visit) -> None:
        """The input at hand as an answer."""
        given, path = self._given, visit.request.path
        body = raw(given["body"])
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        own = {
            "client-id": SANDBOX_CLIENT_ID,
            "response-time": RESPONSE_TIME,
            "signature": signer.signature_header("POST", path, RESPONSE_TIME, body),
        }
        self._signature = signature_of(own["signature"])
        self._sent = self._changed(own)
        sent = raw(given.get("sent", given["body"]))
        status = f"{given['status']} As told"
        await visit.answer(sent, {k: v for k, v in self._sent.items() if v}, status)
        if given["status"] != 200:
            visit.writer.close()

    def _changed(self, own: dict[str, str]) -> dict[str, str]:
        random = Random(self._given.get("garble", 0))
        headers = dict(own)
        for name, change in self._given["headers"].items():
            value = headers.get(name, change)
            if change == "mutated":
                change = mutated_text(random, value)  # noqa: PLW2901 - the header's own value
            elif change == "other" and name == "signature":
                change = mutated_signature(random, value)  # noqa: PLW2901 - see above
            letters = (letter for letter in change if letter.isprintable())
            headers[name] = "".join(letters).strip()
        return headers

    def _is_signed(self) -> bool:
        """Whether what was sent is what Antom signed: the oracle's own comparison."""
        return (
            self._given["status"] == 200
            and self._given.get("sent", self._given["body"]) == self._given["body"]
            and self._sent["client-id"] == SANDBOX_CLIENT_ID
            and self._sent["response-time"] == RESPONSE_TIME
            and signature_of(self._sent["signature"]) == self._signature
        )

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        self._given = given
        try:
            if given["call"] == "create":
                told: Any = await self._client.create_payment_session(b"{}", budget_seconds=20)
            else:
                told = await self._client.inquire_payment(
                    merchant_account="m", payment_request_id=REQUEST_ID, budget_seconds=20
                )
        except AntomError as error:
            return self._refused(error)
        must(self._is_signed(), "an answer was believed that nobody signed")
        return self._session(told) if isinstance(told, Session) else self._inquiry(told)

    def _refused(self, error: AntomError) -> str:
        if isinstance(error, AntomRefused | NewPaymentRequestIdNeeded):
            must(self._is_signed(), "a refusal was believed that nobody signed")
            must(self._letter() == "F", "a refusal without an F")
        return f"refused: {type(error).__name__}"

    def _session(self, session: Session) -> str:
        message = json.loads(raw(self._given["body"]))
        must(self._letter() == "S", "a session without an S")
        said = message.get("paymentSessionData") or ""
        # A number or a boolean where text should be is read as JSON spells it (antom-api 2).
        expected = said if isinstance(said, str) else json.dumps(said)
        must(session.payment_session_data == expected, "other session data than Antom's")
        return "accepted: a session"

    def _inquiry(self, told: InquiryAnswer) -> str:
        message = json.loads(raw(self._given["body"]))
        if not told.exists:
            code = message["result"]["resultCode"]
            must((self._letter(), code) == ("F", "ORDER_NOT_EXIST"), "unknown, says nobody")
            return "accepted: an inquiry of an unknown payment"
        must(self._letter() == "S", "an inquiry without an S")
        must(str(message.get("paymentRequestId")) == REQUEST_ID, "about another payment")
        amounts = [message.get("paymentAmount")]
        amounts += (
            [
                one.get("transactionAmount")
                for one in message.get("transactions") or []
                if isinstance(one, dict)
            ]
            if isinstance(message.get("transactions"), list)
            else []
        )
        if isinstance(message.get("transactions"), dict):
            amounts.append(message["transactions"].get("transactionAmount"))
        named = [
            (amount.get("currency"), int(str(amount.get("value"))))
            for amount in amounts
            if isinstance(amount, dict) and str(amount.get("value")).isdigit()
        ]
        for fact in told.facts:
            if fact.amount is not None:
                pair = (fact.amount.currency_code, fact.amount.minor_units)
                must(pair in named, "an amount that Antom did not name")
        return "accepted: an inquiry"

    def _letter(self) -> str:
        return str(json.loads(raw(self._given["body"]))["result"]["resultStatus"])


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The real client, over a real socket, whose repetitions follow at once."""
    templates = _templates()
    feeding: AntomAnswers

    async def answer(visit: Visit) -> None:
        await feeding.answer(visit)

    async with serving(answer) as server, open_wire(server.origin()) as wire:
        with listening() as ears:
            pauses = Pauses()
            feeding = AntomAnswers(client_of(wire, pauses, breaker=_NEVER_SHUT))

            async def check(given: Input) -> str:
                for kept in (server.requests, pauses.asked, pauses.highest):
                    kept.clear()
                return await feeding.check(given)

            async def end() -> None:
                must(not ears.leaks, f"a secret was logged: {ears.leaks[:1]}")

            yield Target(lambda random: _make(random, templates), check, end)


KIND = Kind("antom_answers", opened)
