"""Signed notifications that were changed on the way: none is accepted, none is looked into."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import unquote_to_bytes

from antom_payments.notifications import Sender
from fuzz.mutation import (
    SECRET,
    encoded,
    mutated_bytes,
    mutated_message,
    mutated_signature,
    mutated_text,
    neutral_signature,
    respelled,
)
from fuzz.sidecar_app import (
    NOW,
    Answer,
    Profile,
    SidecarApp,
    antom_signer,
    antom_verifier,
    asked,
    sidecar_app,
)
from fuzz.target import Input, Kind, Target, must, raw
from notifications.sidecars import ACKNOWLEDGEMENT, CLIENT_ID, GOLDEN, PATH, seed_payment

REFUSED = Answer(401, [(b"www-authenticate", b"Signature"), (b"content-length", b"0")])
NOT_FOUND = Answer(404, [(b"content-length", b"0")])
OTHER_CLIENT_ID = "SANDBOX_5X00000000000001"
_SIGNED = ("client-id", "request-time", "signature")
_PROFILE_EVERY = 64


@dataclass(frozen=True)
class Original:
    """A notification that Antom signed."""

    uri: str
    client_id: str
    time: str
    signature_header: str
    body: bytes

    @property
    def signature(self) -> bytes:
        return signature_of(self.signature_header)

    def given(self) -> Input:
        return {
            "method": "POST",
            "target": self.uri,
            "headers": [
                ["content-type", "application/json; charset=UTF-8"],
                ["client-id", self.client_id],
                ["request-time", self.time],
                ["signature", self.signature_header],
            ],
            "body": self.body.decode("latin-1"),
        }


def signature_of(header: str) -> bytes:
    """The signature, read as leniently as anybody might: the oracle's own reader."""
    found = re.search(r"signature\s*=\s*\"?([^,\"]+)", header, re.IGNORECASE)
    encoded_bytes = unquote_to_bytes(found[1].strip()) if found else b""
    letters = bytes(byte for byte in encoded_bytes if byte in _BASE64)
    with contextlib.suppress(ValueError):
        return base64.b64decode(letters + b"=" * (-len(letters) % 4))
    return b""


_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def originals() -> list[Original]:
    """The golden vectors for our path, and the seed's messages, signed here."""
    vectors = json.loads((GOLDEN / "signing" / "notifications.json").read_text())["vectors"]
    found = [
        Original(
            *(vector["uri"], vector["client_id"], vector["time"], vector["signature_header"]),
            base64.b64decode(vector["body_base64"]),
        )
        for vector in vectors
        if vector["expected_valid"] and vector["uri"].partition("?")[0] == PATH
    ]
    samples = [*(GOLDEN / "samples" / "seed").glob("0[367]_*.json")]
    samples += (GOLDEN / "samples" / "modelled").glob("notify*.json")
    for file in sorted(samples):
        for client_id in (CLIENT_ID, OTHER_CLIENT_ID):
            body, time = file.read_bytes(), "2026-01-02T03:05:00Z"
            header = antom_signer(client_id).signature_header("POST", PATH, time, body)
            found.append(Original(PATH, client_id, time, header, body))
    return found


def is_unchanged(given: Input, known: Sequence[Original]) -> bool:
    """Whether every signed byte, and the signature itself, are those of one original."""
    values: dict[str, str] = {}
    for name, value in given["headers"]:
        if name.lower() in _SIGNED:
            if name.lower() in values:
                return False
            values[name.lower()] = value.strip()
    if set(values) != set(_SIGNED) or given["method"] != "POST":
        return False
    path = given["target"].partition("?")[0]
    signature = signature_of(values["signature"])
    return any(
        (one.client_id, one.time) == (values["client-id"], values["request-time"])
        and one.body == raw(given["body"])
        and one.uri in (given["target"], path)
        and one.signature == signature
        for one in known
    )


def _header(given: Input, name: str) -> list[str]:
    """The header as a pair to change in place."""
    for pair in given["headers"]:
        if pair[0].lower() == name:
            return pair  # type: ignore[no-any-return] # JSON
    given["headers"].append([name, ""])
    return given["headers"][-1]  # type: ignore[no-any-return] # JSON


def _body(random: Random, given: Input, known: Sequence[Original]) -> None:
    body = raw(given["body"])
    match random.randrange(4):
        case 0:
            body = respelled(random, body)
        case 1:
            try:
                body = encoded(random, mutated_message(random, json.loads(body)))
            except (ValueError, RecursionError):
                body += b" "
        case 2:
            body = random.choice(known).body
        case _:
            body = mutated_bytes(random, body, [one.body for one in known[:8]])
    given["body"] = body.decode("latin-1")


def _moved(random: Random, given: Input, _: Sequence[Original]) -> None:
    """The same signed bytes, cut into parts at other places."""
    time, client, body = _header(given, "request-time"), _header(given, "client-id"), given["body"]
    match random.randrange(4):
        case 0:
            cut = body.find(".") + 1 or 5
            time[1], given["body"] = f"{time[1]}.{body[: cut - 1]}", body[cut:]
        case 1:
            head, _, tail = time[1].rpartition(".")
            time[1], given["body"] = head, f"{tail or time[1]}.{body}"
        case 2:
            head, _, tail = client[1].partition("_")
            client[1], time[1] = head, f"{tail}.{time[1]}"
        case _:
            given["target"] = f"{PATH}\n{client[1]}.{time[1]}"


def _header_changes(random: Random, given: Input, known: Sequence[Original]) -> None:
    name = random.choice((*_SIGNED, "content-type"))
    pair = _header(given, name)
    match random.randrange(6):
        case 0:
            given["headers"].remove(pair)
        case 1:
            twice = random.choice((pair[1], SECRET, ""))
            given["headers"].insert(random.randrange(5), [name.title(), twice])
        case 2:
            pair[1] = random.choice(("", SECRET, "0", pair[1].lower(), pair[1].upper(), "a" * 9000))
        case 3:
            pair[0] = name.replace("-", "_")
        case 4:
            pair[1] = next(
                (value for key, value in random.choice(known).given()["headers"] if key == name), ""
            )
        case _:
            pair[1] = mutated_text(random, pair[1])


def _signature(random: Random, given: Input, _: Sequence[Original]) -> None:
    pair = _header(given, "signature")
    pair[1] = mutated_signature(random, pair[1])


def _target(random: Random, given: Input, _: Sequence[Original]) -> None:
    match random.randrange(4):
        case 0:
            given["method"] = random.choice(("GET", "PUT", "post", "HEAD", "PATCH"))
        case 1:
            given["target"] = random.choice(
                (f"{PATH}/", f"{PATH}?a=b", f"/{PATH}", "/antom/%6eotify", "/", f"{PATH}%3Fa", "*")
            )
        case 2:
            given["target"] += f"?tenant=a&{SECRET}"
        case _:
            given["target"] = mutated_text(random, given["target"])


def _replay(random: Random, given: Input, known: Sequence[Original]) -> None:
    """The signature of another message, to another client or of another time."""
    other = random.choice(known)
    for name, value in other.given()["headers"]:
        if random.random() < 0.5:
            _header(given, name)[1] = value


def _neutral(random: Random, given: Input, _: Sequence[Original]) -> None:
    """What a proxy or another HTTP library may change, and nobody signed."""
    match random.randrange(5):
        case 0:
            random.shuffle(given["headers"])
        case 1:
            given["headers"].append([f"x-{random.randrange(99)}", SECRET])
        case 2:
            pair = _header(given, "signature")
            pair[1] = neutral_signature(random, pair[1])
        case 3:
            _header(given, "content-type")[1] = random.choice(
                ("application/json", "", "APPLICATION/JSON")
            )
        case _:
            for pair in given["headers"]:
                pair[0] = pair[0].title()


_CHANGES = (_body, _body, _moved, _header_changes, _signature, _signature, _target, _replay)


def make(random: Random, known: Sequence[Original]) -> Input:
    """One notification with one to three changes; one in thirty with such as nobody signed."""
    given = _made(random, known)
    for pair in given["headers"]:
        # Some letters have no upper case in latin-1, in which headers are sent.
        pair[1] = pair[1].encode("latin-1", "replace").decode("latin-1")
    return given


def _made(random: Random, known: Sequence[Original]) -> Input:
    given = random.choice(known).given()
    if random.random() < 0.03:
        given["must_be_accepted"] = True
        for _ in range(random.randrange(3)):
            _neutral(random, given, known)
        return given
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        random.choice(_CHANGES)(random, given, known)
    while is_unchanged(given, known):
        random.choice(_CHANGES)(random, given, known)
    return given


class Notifications:
    """Feeds the application, and holds each answer against the oracle."""

    def __init__(self, sidecar: SidecarApp, known: Sequence[Original]) -> None:
        self._sidecar = sidecar
        self._known = known
        self._events = 0
        self._count = 0

    async def begin(self) -> None:
        """Let every original be accepted once."""
        for one in self._known:
            answer = await asked(self._sidecar.app, one.given())
            must(answer.status == 200, f"an original was answered {answer.status}")
        self._events = await self._log_length()

    async def check(self, given: Input) -> str:
        """What becomes of one."""
        watch = self._sidecar.watch
        watch.statements = watch.parsed = 0
        self._count += 1
        profile = Profile()
        if self._count % _PROFILE_EVERY:
            answer = await asked(self._sidecar.app, given)
        else:
            with profile:
                answer = await asked(self._sidecar.app, given)
        if answer.status == 200:
            return await self._accepted(given, answer)
        must(not given.get("must_be_accepted"), f"a genuine one was answered {answer.status}")
        must(answer in (REFUSED, NOT_FOUND), f"an answer that tells something: {answer}")
        must(not watch.statements, f"{watch.statements} statements for one that was refused")
        must(not watch.parsed, "one that was refused was looked into")
        must(not profile.entered, f"code that ran before the proof: {sorted(profile.entered)}")
        return "refused: not proven" if answer.status == 401 else "refused: not found"

    async def _accepted(self, given: Input, answer: Answer) -> str:
        must(is_unchanged(given, self._known), "a forged notification was accepted")
        must(answer.body == ACKNOWLEDGEMENT, "an acknowledgement that Antom does not take")
        must(await self._log_length() == self._events, "a duplicate made an event")
        return "accepted: every signed byte as it was"

    async def _log_length(self) -> int:
        [row] = await self._sidecar.rows("SELECT count(*) FROM events")
        return int(row[0])


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Target]:
    """The application with all originals delivered."""
    known = originals()
    sender = Sender("default", antom_verifier())
    senders: dict[str, Any] = {CLIENT_ID: sender, OTHER_CLIENT_ID: sender}
    async with sidecar_app(senders) as sidecar:
        await seed_payment(sidecar.store, NOW)
        feeding = Notifications(sidecar, known)
        await feeding.begin()
        yield Target(lambda random: make(random, known), feeding.check, sidecar.end)


KIND = Kind("notifications", opened)
