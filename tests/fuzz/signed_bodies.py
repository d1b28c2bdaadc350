"""Notifications that Antom signed and nobody expects: kept, acknowledged, and never believed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from antom_payments.notifications import Sender
from antom_payments.payment import Payment
from fuzz.mutation import encoded, mutated_bytes, mutated_message
from fuzz.sidecar_app import NOW, SidecarApp, antom_signer, antom_verifier, asked, sidecar_app
from fuzz.target import Input, Kind, Target, must, raw
from notifications.sidecars import ACKNOWLEDGEMENT, GOLDEN, PATH, seed_payment

REQUEST_ID, PAYMENT_ID = "paymentRequestId01", "P-fuzz"
CURRENCY, MINOR_UNITS = "SGD", 4200
TIME = "2026-01-02T03:05:00Z"
_ODD_TIMES = (
    *("1767323100000", "2026-01-01T19:05:00-08:00", "2026-W01-5", "99999999999999", "0", "-1"),
    *("9999-12-31T23:59:59Z", "2026-01-02T03:05:00", "2026-01-02T03:05:00+99:00", "x" * 40),
)


def _templates() -> list[dict[str, Any]]:
    """Messages of every type that Antom sends, about our payment where they name one."""
    files = [*(GOLDEN / "samples" / "seed").glob("0[367]_*.json")]
    files += (GOLDEN / "samples" / "modelled").glob("notify*.json")
    found = []
    for file in sorted(files):
        message = json.loads(file.read_text()) | {"paymentId": PAYMENT_ID}
        if "paymentRequestId" in message:
            message["paymentRequestId"] = REQUEST_ID
        for name in ("paymentAmount", "captureAmount"):
            if name in message:
                message[name] = {"currency": CURRENCY, "value": str(MINOR_UNITS)}
        found.append(message)
    return found


def _make(random: Random, templates: list[dict[str, Any]]) -> Input:
    message = random.choice(templates)
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        message = mutated_message(random, message)
    body = encoded(random, message)
    if random.random() < 0.15:
        body = mutated_bytes(random, body)
    return {
        "body": body.decode("latin-1"),
        "time": random.choice(_ODD_TIMES) if random.random() < 0.1 else TIME,
        "was_paid": random.random() < 0.3,
        "with_another": random.random() < 0.2,
    }


def _plainly(body: bytes) -> dict[str, Any]:
    """The oracle's reader: the fields of a JSON object, none of them twice; else nothing."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        message = json.loads(body.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _says(message: dict[str, Any], letter: str) -> bool:
    result = message.get("result")
    return isinstance(result, dict) and result.get("resultStatus") == letter


def _tells_our_amount(message: dict[str, Any], name: str) -> bool:
    amount = message.get(name)
    if not isinstance(amount, dict) or amount.get("currency") != CURRENCY:
        return False
    value = str(amount.get("value"))
    return value.isascii() and value.isdigit() and int(value) == MINOR_UNITS


class SignedBodies:
    """Each input comes to a merchant of its own, so that what follows is all its own."""

    def __init__(self, sidecar: SidecarApp, senders: dict[str, Sender]) -> None:
        self._sidecar = sidecar
        self._senders = senders
        self._numbers = itertools.count(1)
        self._signer = antom_signer()
        self._verifier = antom_verifier()
        [paid] = (GOLDEN / "samples" / "seed").glob("03_*.json")
        self._paid = json.loads(paid.read_text()) | {
            "paymentId": PAYMENT_ID,
            "paymentRequestId": REQUEST_ID,
            "paymentAmount": {"currency": CURRENCY, "value": str(MINOR_UNITS)},
        }

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        merchant = await self._merchant()
        body = raw(given["body"])
        if given["was_paid"]:
            await self._notify(merchant, json.dumps(self._paid).encode(), TIME)
        before = await self._payment(merchant)
        events = await self._events(merchant)
        work = [self._notify(merchant, body, given["time"])]
        if given["with_another"]:
            work.append(self._another_is_paid())
        await asyncio.gather(*work)
        after = await self._payment(merchant)
        made = await self._events(merchant) - events
        must(made <= 1, f"one notification made {made} events")
        self._judge(before, after, body)
        outcome = await self._outcome(merchant, events_made=made)
        self._senders.pop(merchant)
        return outcome

    def _judge(self, before: Payment, after: Payment, body: bytes) -> None:
        """No state that the message does not say plainly."""
        if (before.state, before.captured_minor_units) == (after.state, after.captured_minor_units):
            return
        message = _plainly(body)
        known = (None, "", str(message.get("paymentId")))
        must(before.payment_id in known, "moved by news of another payment")
        match after.state.value:
            case "AUTHORIZED":
                must(_says(message, "S"), "authorised by a message that says no S")
                must(_tells_our_amount(message, "paymentAmount"), "authorised a wrong amount")
            case "SUCCEEDED":
                must(_says(message, "S"), "succeeded by a message that says no S")
                named = "captureAmount" if is_about_a_capture(message) else "paymentAmount"
                must(_tells_our_amount(message, named), "succeeded with a wrong amount")
            case "FAILED":
                must(_says(message, "F"), "failed by a message that says no F")
            case "PROCESSING":
                must(_says(message, "U") or message.get("notifyType") == "PAYMENT_PENDING", "pends")
            case other:
                must(False, f"a notification led to {other}")

    async def _merchant(self) -> str:
        """A merchant with a payment whose buyer is awaited; its client id has the same name."""
        name = f"m{next(self._numbers)}"
        self._senders[name] = Sender(name, self._verifier)
        await seed_payment(self._sidecar.store, NOW, merchant_account=name)
        return name

    async def _notify(self, merchant: str, body: bytes, time: str) -> None:
        self._signer.client_id = merchant
        headers = [
            ["client-id", merchant],
            ["request-time", time],
            ["signature", self._signer.signature_header("POST", PATH, time, body)],
        ]
        text = body.decode("latin-1")
        given = {"method": "POST", "target": PATH, "headers": headers, "body": text}
        answer = await asked(self._sidecar.app, given)
        must(
            (answer.status, answer.body) == (200, ACKNOWLEDGEMENT),
            f"a genuine notification was answered {answer.status}",
        )

    async def _another_is_paid(self) -> None:
        """At the same time, so that one transaction may hold both: it must not suffer."""
        merchant = await self._merchant()
        await self._notify(merchant, json.dumps(self._paid).encode(), TIME)
        state = (await self._payment(merchant)).state.value
        must(state == "AUTHORIZED", f"a sound notification beside it led to {state}")
        self._senders.pop(merchant)

    async def _payment(self, merchant: str) -> Payment:
        found = await self._sidecar.store.payment(merchant, payment_request_id=REQUEST_ID)
        must(found, "the payment is gone")
        return found  # type: ignore[return-value] # see above

    async def _events(self, merchant: str) -> int:
        query = "SELECT count(*) FROM events WHERE merchant_account = :merchant"
        [row] = await self._sidecar.rows(query, merchant=merchant)
        return int(row[0])

    async def _outcome(self, merchant: str, *, events_made: int) -> str:
        query = (
            "SELECT outcome, reason FROM notifications "
            "WHERE merchant_account = :merchant ORDER BY rowid DESC LIMIT 1"
        )
        found = await self._sidecar.rows(query, merchant=merchant)
        must(found, "an acknowledged notification is not kept")
        outcome, reason = found[0]
        if outcome == "APPLIED" and not events_made:
            outcome = "DUPLICATE"  # the row is that of the first to tell it
        kind = str(reason).partition(":")[0]
        return f"accepted: {outcome}{f' {kind}' if kind else ''}".lower()


def is_about_a_capture(message: dict[str, Any]) -> bool:
    """Whether the message tells of a capture."""
    return message.get("notifyType") == "CAPTURE_RESULT"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The application, to which every sender is known."""
    senders: dict[str, Sender] = {}
    templates = _templates()
    async with sidecar_app(senders) as sidecar:
        feeding = SignedBodies(sidecar, senders)
        yield Target(lambda random: _make(random, templates), feeding.check, sidecar.end)


KIND = Kind("signed_bodies", opened)
