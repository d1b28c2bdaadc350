"""Antom's golden messages through the sidecar, byte for byte, each against a store of its own."""

from __future__ import annotations

import base64
import json

import pytest

from antom_payments.payment import CaptureState, EventType, PaymentState
from antom_payments.store import Applied, AppliedOutcome
from notifications.sidecars import GOLDEN, Headers, events_of, message, sample

VECTORS = json.loads((GOLDEN / "signing" / "notifications.json").read_text())["vectors"]


def headers_of(vector: dict) -> Headers:
    return [
        ("content-type", "application/json"),
        ("client-id", vector["client_id"]),
        ("request-time", vector["time"]),
        ("signature", vector["signature_header"]),
    ]


class Taking:
    """A service that takes everything; what is verified is all that counts here."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def apply_notification(self, notification, *_):
        self.bodies.append(notification.body)
        return Applied(AppliedOutcome.APPLIED)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_every_signing_vector_gets_its_verdict(start_sidecar, vector):
    body = base64.b64decode(vector["body_base64"])
    service = Taking()
    path = vector["uri"].partition("?")[0]
    async with start_sidecar(service, path=path) as sidecar:
        answer = await sidecar.post(body, headers_of(vector), target=vector["uri"])
    assert (answer.status, service.bodies) == (
        (200, [body]) if vector["expected_valid"] else (401, [])
    )


async def test_a_path_is_verified_as_it_is_configured_and_not_as_it_is_asked(start_sidecar):
    [vector] = [vector for vector in VECTORS if vector["name"] == "bad_mounted_under_prefix"]
    body = base64.b64decode(vector["body_base64"])
    async with start_sidecar(Taking(), path="/notify", public_path="/antom/notify") as sidecar:
        answer = await sidecar.post(body, headers_of(vector), target="/notify")
    assert answer.status == 200, "Antom signed the public path"


@pytest.mark.usefixtures("payment")
async def test_sample_03_authorises_the_payment_of_a_session_with_is_authorization(sidecar, store):
    assert (await sidecar.notify(sample("03"))).status == 200
    [_, event] = await events_of(store)
    assert event.type is EventType.PAYMENT_AUTHORIZED
    assert event.payment.state is PaymentState.AUTHORIZED
    assert event.payment.payment_id == "2020010123456789XXXX"
    assert event.payment.authorized_minor_units == 4200
    assert event.payment.captured_minor_units == 0


@pytest.mark.parametrize("name", ["06", "07"])
async def test_samples_06_and_07_name_an_unknown_payment(sidecar, store, name):
    assert (await sidecar.notify(sample(name))).status == 200
    assert await events_of(store) == []
    assert sidecar.metrics.outcomes() == {"orphaned": 1}


async def test_sample_07_is_adopted_as_a_failed_capture(sidecar, store, seed):
    await seed()
    await sidecar.notify(sample("07"))
    await sidecar.notify(message("03", paymentId="2022XXXXXXX"))
    event = (await events_of(store))[-1]
    assert event.type is EventType.CAPTURE_FAILED
    assert event.result_code == "PROCESS_FAIL"
    assert [capture.state for capture in event.payment.captures] == [CaptureState.FAILED]
    assert event.payment.state is PaymentState.AUTHORIZED
