"""What the client does with answers that cannot be trusted or understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from antom.asking import (
    CREATE,
    PAID,
    RESPONSE_TIME,
    SESSION,
    create,
    error_of,
    fails,
    inquire,
    result,
    signed,
    unsigned,
)
from antom.golden import (
    FOLDER,
    SANDBOX_CLIENT_ID,
    private_key,
)
from antom.wires import Behaviour, Visit
from antom_payments.antom import AntomClient
from antom_payments.antom.client import MAX_ATTEMPTS
from antom_payments.antom.signing import Signer
from antom_payments.errors import (
    AntomUntrusted,
    OutcomeUnknown,
)


def _unsigned_vector(name: str) -> dict[str, Any]:
    found = json.loads((FOLDER / "signing" / "responses.json").read_text())["unsigned_responses"]
    return dict(next(response for response in found if response["name"] == name))


async def test_unsigned_responses_are_treated_as_the_vectors_say() -> None:
    bodies = {
        name: _unsigned_vector(name).get("body", SESSION.decode()).encode()
        for name in ("unsigned_S", "unsigned_F_invalid_signature", "unsigned_U", "http_500_html")
    }
    success, _ = await error_of(unsigned(bodies["unsigned_S"]))
    assert isinstance(success, AntomUntrusted)
    assert success.result_code == ""
    failure, _ = await error_of(unsigned(bodies["unsigned_F_invalid_signature"]))
    assert isinstance(failure, AntomUntrusted)
    assert failure.result_code == "INVALID_SIGNATURE"
    unknown, server = await error_of(unsigned(bodies["unsigned_U"]))
    assert isinstance(unknown, OutcomeUnknown)
    assert unknown.result_code == "UNKNOWN_EXCEPTION"
    assert len(server.requests) == MAX_ATTEMPTS
    broken, _ = await error_of(fails)
    assert isinstance(broken, OutcomeUnknown)
    for half in ({"response_time": ""}, {"signature": ""}):
        error, _ = await error_of(signed(SESSION, **half))
        assert isinstance(error, AntomUntrusted)


@pytest.mark.parametrize(
    "behaviour",
    [
        unsigned(SESSION),
        unsigned(result("F", "PARAM_ILLEGAL")),
        unsigned(b"<html>captive portal</html>"),
        unsigned(b""),
        unsigned(SESSION, client_id=SANDBOX_CLIENT_ID),
        unsigned(SESSION, response_time=RESPONSE_TIME, client_id=SANDBOX_CLIENT_ID),
        signed(SESSION, client_id="5J5XSU7Y2Y182W01981"),
        signed(SESSION, client_id=SANDBOX_CLIENT_ID, **{"client-id": ""}),
        signed(SESSION, **{"client-id": f"{SANDBOX_CLIENT_ID}, {SANDBOX_CLIENT_ID}"}),
        signed(SESSION, key="merchant_private"),
        signed(SESSION, response_time="2026-03-02T17:30:01+08:00"),
        signed(SESSION, signature="algorithm=RSA256,keyVersion=1,signature=AAAA"),
        signed(SESSION, signature="garbage"),
    ],
    ids=[
        *("unsigned S", "unsigned F", "html", "nothing", "client id only", "time only"),
        *("another client id", "no client id", "two client ids", "our own key"),
        *("another time", "another signature", "no signature"),
    ],
)
@pytest.mark.parametrize("call", [create, inquire])
async def test_what_antom_did_not_sign_concludes_nothing_and_is_not_repeated(
    behaviour: Behaviour, call: Callable[[AntomClient], Any]
) -> None:
    error, server = await error_of(behaviour, call=call)
    assert isinstance(error, AntomUntrusted)
    assert len(server.requests) == 1


async def test_an_answer_altered_by_one_byte_is_not_trusted() -> None:
    async def altering(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        signature = signer.signature_header("POST", visit.request.path, RESPONSE_TIME, PAID)
        headers = {
            "client-id": SANDBOX_CLIENT_ID,
            "response-time": RESPONSE_TIME,
            "signature": signature,
        }
        await visit.answer(PAID.replace(b"4200", b"4201"), headers)

    error, _ = await error_of(altering, call=inquire)
    assert isinstance(error, AntomUntrusted)


async def test_an_answer_to_another_operation_is_not_trusted() -> None:
    """The path is signed: a session's answer cannot pass for an inquiry's."""

    async def crossing(visit: Visit) -> None:
        signer = Signer(private_key("antom_private"), SANDBOX_CLIENT_ID)
        headers = {
            "client-id": SANDBOX_CLIENT_ID,
            "response-time": RESPONSE_TIME,
            "signature": signer.signature_header("POST", CREATE, RESPONSE_TIME, PAID),
        }
        await visit.answer(PAID, headers)

    error, _ = await error_of(crossing, call=inquire)
    assert isinstance(error, AntomUntrusted)


async def test_an_answer_about_another_payment_is_not_trusted() -> None:
    async def call(client: AntomClient) -> Any:
        return await inquire(client, "another")

    error, server = await error_of(signed(PAID), call=call)
    assert isinstance(error, AntomUntrusted)
    assert len(server.requests) == 1


async def test_a_code_that_nobody_vouches_for_is_repeated_only_when_it_is_a_code() -> None:
    error, _ = await error_of(unsigned(result("F", "4111 1111 1111 1111")))
    assert str(error) == "Antom's answer cannot be trusted"


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b'{"a":1,"a":2}', b"{}", b'{"result":{"resultStatus":"S"}}'],
)
async def test_a_signed_answer_that_cannot_be_understood_concludes_nothing(body: bytes) -> None:
    error, _ = await error_of(signed(body))
    assert isinstance(error, OutcomeUnknown)


async def test_an_inquiry_whose_amount_cannot_be_read_concludes_nothing() -> None:
    error, _ = await error_of(signed(PAID.replace(b'"4200"', b"42.00")), call=inquire)
    assert isinstance(error, OutcomeUnknown)
