"""Who may call and what is answered: held to the golden vectors and to the official SDK's bytes."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from antom_payments.antom.signing import load_public_key
from antom_payments.emulator import EmulatorOptions, emulator_app
from antom_payments.errors import ConfigurationError
from emulator.conftest import Started
from emulator.world import (
    CREATE,
    GOLDEN,
    INQUIRE,
    LIVE_ID,
    SANDBOX_ID,
    Answer,
    Json,
    Merchant,
    golden,
    is_signed,
    sample,
    serving,
    session_request,
)

VECTORS = golden("signing/requests.json")["vectors"]
CAPTURES = golden("wire/official_python_sdk_1.7.1.json")["captures"]
LIVE_CREATE = CREATE.replace("/sandbox", "")


async def send_golden(merchant: Merchant, vector: Json) -> Answer:
    headers = {
        "Client-Id": vector["client_id"],
        "Request-Time": vector["time"],
        "Signature": vector["signature_header"],
    }
    body = base64.b64decode(vector["body_base64"])
    return await merchant.send(vector["method"], vector["uri"], headers, body)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if "public_key" not in vector],
    ids=lambda vector: vector["name"],
)
async def test_an_answer_is_signed_exactly_when_the_vector_is_valid(
    merchant: Merchant, vector: Json
) -> None:
    answer = await send_golden(merchant, vector)

    assert answer.status == 200
    assert answer.signed is vector["expected_valid"]
    if answer.signed:
        assert answer.code in {*("SUCCESS", "ORDER_NOT_EXIST", "PARAM_ILLEGAL", "NO_INTERFACE_DEF")}
    else:
        assert answer.json["result"]["resultStatus"] == "F"
        assert not {"signature", "client-id", "response-time"} & set(answer.headers)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if "public_key" in vector],
    ids=lambda vector: vector["name"],
)
async def test_only_the_client_s_own_keys_verify(started: Started, vector: Json) -> None:
    key = load_public_key(vector["public_key"], setting="unrelated")
    async with started(merchant_public_keys={vector["client_id"]: [key]}) as merchant:
        answer = await send_golden(merchant, vector)

    assert vector["expected_valid"] is False
    assert (answer.code, answer.signed) == ("INVALID_SIGNATURE", False)


async def on_the_wire(port: int, request: bytes) -> tuple[httpx.Headers, bytes]:
    """Send bytes as they are; give the answer's headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = httpx.Headers([line.split(": ", 1) for line in head.split("\r\n")[1:] if line])
    body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    await writer.wait_closed()
    return headers, body


@pytest.mark.parametrize("server", ["httptools", "h11"])
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda c: f"{c['api']}-{c['client_id']}")
async def test_the_official_sdk_s_bytes_are_accepted_as_they_are(
    options: Callable[..., EmulatorOptions], antom_public: RSAPublicKey, capture: Json, server: Any
) -> None:
    assert capture["request_target_form"] == "absolute"
    lines = [capture["request_line"], *(f"{name}: {value}" for name, value in capture["headers"])]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + base64.b64decode(capture["body_base64"])
    config = uvicorn.Config(emulator_app(options()), http=server, log_config=None)

    async with serving(config) as port:
        headers, body = await on_the_wire(port, request)

    expected = "SUCCESS" if capture["api"] == "createPaymentSession" else "ORDER_NOT_EXIST"
    assert json.loads(body)["result"]["resultCode"] == expected
    assert is_signed(antom_public, headers, "response-time", capture["signed_uri"], body)


async def test_the_documentation_s_sample_is_accepted_unchanged(merchant: Merchant) -> None:
    path = GOLDEN / "samples" / "seed" / "01_createPaymentSession_request.json"

    answer = await merchant.call(CREATE, path.read_bytes())

    expected = sample("02_createPaymentSession_response")
    assert answer.json["result"] == expected["result"]
    assert answer.json.keys() == expected.keys()
    assert answer.json["paymentSessionData"].endswith("==&&SG&&111")
    assert len(answer.json["paymentSessionData"]) == len(expected["paymentSessionData"])
    assert len(answer.json["paymentSessionId"]) == len(expected["paymentSessionId"])
    assert answer.json["paymentSessionExpiryTime"] == "2026-03-02T10:30:00Z"


@pytest.mark.parametrize(
    "name",
    [
        "createPaymentSession_request_card_manual_capture",
        "createPaymentSession_request_card_token",
        "createPaymentSession_request_hosted_checkout",
        "createPaymentSession_request_jpy_zero_decimal",
    ],
)
async def test_every_modelled_session_request_is_accepted(merchant: Merchant, name: str) -> None:
    answer = await merchant.create(sample(name))

    assert (answer.code, answer.signed) == ("SUCCESS", True)


async def test_headers_of_answers_are_lower_case_and_the_time_is_iso_with_offset(
    merchant: Merchant,
) -> None:
    answer = await merchant.create(session_request())

    names = {name for name, _ in answer.raw_headers}
    assert {b"client-id", b"response-time", b"signature", b"content-type"} <= names
    assert all(name == name.lower() for name in names)
    assert answer.headers["client-id"] == SANDBOX_ID
    assert answer.headers["response-time"] == "2026-03-02T17:30:00+08:00"


@pytest.mark.parametrize(
    "time",
    [
        "1685599933871",
        "2026-11-23T08:39:00+00:00",
        "2026-01-02T03:04:05.1234567Z",
        "2026-01-02T11:04:05+0800",
        "2019-01-01T01:01:01Z",
    ],
)
async def test_every_sdk_s_form_of_time_is_accepted(merchant: Merchant, time: str) -> None:
    answer = await merchant.call(CREATE, session_request(), time=time)

    assert answer.code == "SUCCESS"


@pytest.mark.parametrize("time", ["now", "1685599933", "2026-01-02", "2026-01-02T03:04:05"])
async def test_a_time_of_no_documented_form_is_illegal(merchant: Merchant, time: str) -> None:
    answer = await merchant.call(CREATE, session_request(), time=time)

    assert (answer.code, answer.signed) == ("PARAM_ILLEGAL", True)
    assert "Request-Time" in answer.message


async def test_header_case_and_a_blank_after_the_commas_do_not_matter(merchant: Merchant) -> None:
    body = json.dumps(session_request()).encode()
    signature = merchant.signature("POST", CREATE, "1685599933871", body).replace(",", ", ")
    headers = {
        "CLIENT-ID": SANDBOX_ID,
        "request-TIME": "1685599933871",
        "sIGNATURE": signature,
        "agent-token": "",
        "SDK-VERSION": "x",
    }

    answer = await merchant.send("POST", CREATE, headers, body)

    assert (answer.code, answer.signed) == ("SUCCESS", True)


async def test_an_unknown_client_is_told_so_unsigned(merchant: Merchant) -> None:
    answer = await merchant.signed_as("SANDBOX_nobody").create(session_request())

    assert (answer.status, answer.code, answer.signed) == (200, "CLIENT_INVALID", False)


async def test_a_changed_body_is_an_invalid_signature_and_changes_nothing(
    merchant: Merchant,
) -> None:
    body = json.dumps(session_request()).encode()
    signature = merchant.signature("POST", CREATE, "1685599933871", body)

    answer = await merchant.call(CREATE, body + b" ", headers={"Signature": signature})

    assert (answer.status, answer.code, answer.signed) == (200, "INVALID_SIGNATURE", False)
    assert (await merchant.http.get("/emulator/payments")).json() == {"payments": []}


@pytest.mark.parametrize("name", ["Client-Id", "Request-Time", "Signature"])
async def test_no_header_may_be_missing(merchant: Merchant, name: str) -> None:
    answer = await merchant.call(CREATE, session_request(), headers={name: ""})

    assert answer.code == ("CLIENT_INVALID" if name == "Client-Id" else "INVALID_SIGNATURE")
    assert not answer.signed


@pytest.mark.parametrize(
    ("client_id", "uri"),
    [
        (SANDBOX_ID, LIVE_CREATE),
        (LIVE_ID, CREATE),
        (SANDBOX_ID, CREATE + "/"),
        (SANDBOX_ID, "/ams/sandbox/api/v1/payments/"),
        (SANDBOX_ID, "/ams/sandbox/api/v1/payments/pay"),
        (SANDBOX_ID, "/v1/payments/createPaymentSession"),
        (SANDBOX_ID, "/"),
    ],
)
async def test_a_wrong_path_is_no_interface(merchant: Merchant, client_id: str, uri: str) -> None:
    answer = await merchant.signed_as(client_id).call(uri, session_request())

    assert (answer.status, answer.code, answer.signed) == (200, "NO_INTERFACE_DEF", True)


async def test_production_ids_use_the_production_path(merchant: Merchant) -> None:
    answer = await merchant.signed_as(LIVE_ID).call(LIVE_CREATE, session_request())

    assert (answer.code, answer.signed) == ("SUCCESS", True)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_is_supported(merchant: Merchant, method: str) -> None:
    answer = await merchant.call(CREATE, session_request(), method=method)
    stranger = await merchant.send(method, CREATE, {}, b"")

    assert answer.code == stranger.code == "METHOD_NOT_SUPPORTED"
    assert not stranger.signed


async def test_only_json_is_acceptable(merchant: Merchant) -> None:
    answer = await merchant.call(
        INQUIRE, {"paymentRequestId": "x"}, headers={"Content-Type": "text/xml"}
    )

    assert (answer.code, answer.signed) == ("MEDIA_TYPE_NOT_ACCEPTABLE", True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b'"text"', b"[" * 5000])
async def test_what_is_no_json_object_is_illegal(merchant: Merchant, body: bytes) -> None:
    answer = await merchant.call(INQUIRE, body)

    assert (answer.code, answer.signed) == ("PARAM_ILLEGAL", True)


async def test_a_request_may_be_signed_with_any_key_of_its_client(
    started: Started, antom_public: RSAPublicKey, merchant_private: Any
) -> None:
    keys = {SANDBOX_ID: [antom_public, merchant_private.public_key()]}
    async with started(merchant_public_keys=keys) as merchant:
        answer = await merchant.create(session_request())

    assert answer.code == "SUCCESS"


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"merchant_public_keys": {}}, "merchant_public_keys"),
        ({"merchant_public_keys": {SANDBOX_ID: []}}, "merchant_public_keys"),
        ({"clock_scale": -1.0}, "clock_scale"),
        ({"clock_scale": float("nan")}, "clock_scale"),
        ({"closing_seconds": -1.0}, "closing_seconds"),
        ({"capture_delay_seconds": -1.0}, "capture_delay_seconds"),
        ({"capture_result_code": "MAYBE"}, "capture_result_code"),
        ({"acknowledgement_timeout_seconds": 0.0}, "acknowledgement_timeout_seconds"),
    ],
)
def test_a_wrong_option_is_named(
    options: Callable[..., EmulatorOptions], changes: Json, setting: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        options(**changes)

    assert refused.value.setting == setting


def test_a_client_id_that_antom_could_not_give_is_named(
    options: Callable[..., EmulatorOptions], antom_public: RSAPublicKey
) -> None:
    with pytest.raises(ConfigurationError, match="client id"):
        emulator_app(options(merchant_public_keys={"a b": [antom_public]}))


async def test_it_speaks_tls(
    options: Callable[..., EmulatorOptions], merchant: Merchant, certificate: tuple[Path, Path]
) -> None:
    from antom_payments.emulator import server_config

    certificate_file, private_key_file = certificate
    config = server_config(
        options(), certificate_file=certificate_file, private_key_file=private_key_file
    )
    trust = ssl.create_default_context(cafile=str(certificate_file))
    async with (
        serving(config) as port,
        httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=trust) as http,
    ):
        merchant.http, plain = http, merchant.http
        answer = await merchant.create(session_request())
        merchant.http = plain

    assert (answer.code, answer.signed) == ("SUCCESS", True)
