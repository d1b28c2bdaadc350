"""Signatures: byte for byte what Antom's are, and stricter than the official SDKs in verifying."""

from __future__ import annotations

import base64
import json
import string
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from antom.golden import (
    FOLDER,
    SANDBOX_CLIENT_ID,
    all_vectors,
    captures,
    keys,
    private_key,
    public_key,
)
from antom_payments.antom.signing import (
    MAX_KEY_BITS,
    MIN_KEY_BITS,
    SignatureFault,
    SignatureInvalid,
    Signer,
    Verifier,
    _refuse_unusable_size,
    fingerprint,
    load_private_key,
    load_public_key,
    refuse_own_key,
    signature_in,
)
from antom_payments.errors import ConfigurationError

URI = "/ams/sandbox/api/v1/payments/inquiryPayment"
TIME = "1685599933871"
SIGNER = Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID)
VERIFIER = Verifier([public_key("merchant_public")])


def _verify(
    header: str,
    body: bytes = b"{}",
    *,
    method: str = "POST",
    uri: str = URI,
    client_id: str = SANDBOX_CLIENT_ID,
    time: str = TIME,
) -> str:
    return VERIFIER.verify(
        method=method,
        uri=uri,
        client_id=client_id,
        time=time,
        body=body,
        signature_header=header,
    )


def _fault(header: str, **parts: Any) -> SignatureFault:
    with pytest.raises(SignatureInvalid) as refused:
        _verify(header, **parts)
    return refused.value.reason


def _value(header: str) -> str:
    return header.partition("signature=")[2]


@pytest.mark.parametrize("vector", all_vectors())
def test_every_verdict_is_the_golden_one(vector: dict[str, Any]) -> None:
    key = vector.get("public_key") or keys()[vector["verify_with"]]
    verifier = Verifier([load_public_key(key, setting=vector["verify_with"])])
    try:
        verifier.verify(
            method=vector["method"],
            uri=vector["uri"],
            client_id=vector["client_id"],
            time=vector["time"],
            body=vector["body"],
            signature_header=vector["signature_header"],
        )
        valid = True
    except SignatureInvalid:
        valid = False
    assert valid is vector["expected_valid"]


@pytest.mark.parametrize("vector", all_vectors(only_valid=True))
def test_signatures_are_byte_for_byte_the_golden_ones(vector: dict[str, Any]) -> None:
    signer = Signer(private_key(vector["signed_with"]), vector["client_id"])
    header = signer.signature_header(
        vector["method"], vector["uri"], vector["time"], vector["body"]
    )
    encoded = vector["signature_value_url_encoded"]
    assert header == f"algorithm=RSA256,keyVersion=1,signature={encoded}"
    assert base64.b64encode(signature_in(header)).decode() == vector["signature_value_base64"]


@pytest.mark.parametrize("capture", captures())
def test_what_the_official_sdk_put_on_the_wire_verifies(capture: dict[str, Any]) -> None:
    headers = {name.lower(): value for name, value in capture["headers"]}
    Verifier([public_key(capture["verify_with"])]).verify(
        method="POST",
        uri=capture["signed_uri"],
        client_id=headers["client-id"],
        time=headers["request-time"],
        body=base64.b64decode(capture["body_base64"]),
        signature_header=headers["signature"],
    )
    assert capture["expected_valid"]


def test_a_request_carries_the_four_headers() -> None:
    assert SIGNER.headers("POST", URI, TIME, b"{}") == {
        "Content-Type": "application/json; charset=UTF-8",
        "Client-Id": SANDBOX_CLIENT_ID,
        "Request-Time": TIME,
        "Signature": SIGNER.signature_header("POST", URI, TIME, b"{}"),
    }


def test_the_key_version_is_configurable() -> None:
    signer = Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID, key_version="2")
    header = signer.signature_header("POST", URI, TIME, b"{}")
    assert header.startswith("algorithm=RSA256,keyVersion=2,signature=")
    _verify(header)


@pytest.mark.parametrize("client_id", ["", "a b", "a.b", "a\nb", "é", "x" * 65])
def test_a_client_id_that_could_be_confused_with_its_neighbours_cannot_sign(client_id: str) -> None:
    with pytest.raises(ValueError, match="client id"):
        Signer(private_key("merchant_private"), client_id)


LETTERS = string.ascii_letters + string.digits
LONGEST = {
    "method": "M" * 16,
    "uri": "/" + "!~" * 1023 + "a",
    "client_id": (LETTERS + "_-" * 2)[-64:],
    "time": "2026-03-02T09:30:00.123456789+08:00azAZ5",
}
"""The parts of a signed message, as long as they may be, with each kind of character."""


def test_every_part_may_be_as_long_as_its_limit_and_no_longer() -> None:
    assert [len(part) for part in LONGEST.values()] == [16, 2048, 64, 40]
    signer = Signer(
        private_key("merchant_private"), LONGEST["client_id"], key_version="azAZ09" + "1" * 10
    )
    parts = {name: LONGEST[name] for name in ("method", "uri", "time")}
    header = signer.signature_header(**parts, body=b"{}")
    _verify(header, **LONGEST)
    for name, longest in LONGEST.items():
        assert _fault(header, **LONGEST | {name: longest + "1"}) is SignatureFault.PARTS_MALFORMED
    for version in ("1" * 17, "é"):
        with pytest.raises(ValueError, match="key version"):
            Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID, key_version=version)


@pytest.mark.parametrize("letters", [string.ascii_lowercase, string.ascii_uppercase, string.digits])
def test_parts_may_hold_every_letter_and_digit(letters: str) -> None:
    signer = Signer(private_key("merchant_private"), letters, key_version=letters[-16:])
    header = signer.signature_header("POST", URI, letters, b"{}")
    _verify(header, client_id=letters, time=letters)


@pytest.mark.parametrize("key_version", ["", "1,signature=x", "1 "])
def test_a_key_version_cannot_break_the_header(key_version: str) -> None:
    with pytest.raises(ValueError, match="key version"):
        Signer(private_key("merchant_private"), SANDBOX_CLIENT_ID, key_version)


@given(body=st.binary(max_size=300), time=st.from_regex(r"[0-9T:Z+.-]{1,40}", fullmatch=True))
def test_what_is_signed_verifies(body: bytes, time: str) -> None:
    header = SIGNER.signature_header("POST", URI, time, body)
    assert _verify(header, body, time=time) == fingerprint(public_key("merchant_public"))


@given(body=st.binary(min_size=1, max_size=60), data=st.data())
def test_no_bit_of_a_body_can_be_flipped(body: bytes, data: st.DataObject) -> None:
    header = SIGNER.signature_header("POST", URI, TIME, body)
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    altered = bytearray(body)
    altered[bit // 8] ^= 1 << bit % 8
    assert _fault(header, body=bytes(altered)) is SignatureFault.MISMATCH


@given(bit=st.integers(0, 2048 - 1))
def test_no_bit_of_a_signature_can_be_flipped(bit: int) -> None:
    signature = bytearray(signature_in(SIGNER.signature_header("POST", URI, TIME, b"{}")))
    signature[bit // 8] ^= 1 << bit % 8
    header = f"signature={quote(base64.b64encode(signature), safe='')}"
    assert _fault(header) is SignatureFault.MISMATCH


@given(place=st.integers(0, 343), bit=st.integers(0, 6))
def test_no_bit_of_the_header_text_can_be_flipped(place: int, bit: int) -> None:
    """Also not the two unused bits of base64's last character."""
    value = bytearray(
        base64.b64encode(signature_in(SIGNER.signature_header("POST", URI, TIME, b"{}")))
    )
    value[place] ^= 1 << bit
    with pytest.raises(SignatureInvalid):
        _verify(f"signature={value.decode()}")


@given(data=st.data(), part=st.sampled_from(["method", "uri", "client_id", "time"]))
def test_no_bit_of_the_other_parts_can_be_flipped(data: st.DataObject, part: str) -> None:
    header = SIGNER.signature_header("POST", URI, TIME, b"{}")
    text = {"method": "POST", "uri": URI, "client_id": SANDBOX_CLIENT_ID, "time": TIME}[part]
    bit = data.draw(st.integers(0, len(text) * 7 - 1))
    altered = bytearray(text.encode())
    altered[bit // 7] ^= 1 << bit % 7
    assert _fault(header, **{part: altered.decode()}) in {
        SignatureFault.MISMATCH,
        SignatureFault.PARTS_MALFORMED,
    }


@given(cut=st.integers(1, 20))
def test_bytes_cannot_move_between_time_and_body(cut: int) -> None:
    """`time.body` is one text when signed: the boundary must not be movable."""
    body = b'{"a":"b.{}","c":1}'
    header = SIGNER.signature_header("POST", URI, TIME, body)
    moved = min(cut, len(body))
    with pytest.raises(SignatureInvalid):
        _verify(header, body[moved:], time=f"{TIME}.{body[:moved].decode()}")


def test_a_signature_made_with_another_digest_is_refused() -> None:
    signed = f"POST {URI}\n{SANDBOX_CLIENT_ID}.{TIME}.".encode() + b"{}"
    for digest in (hashes.SHA1(), hashes.SHA512()):  # noqa: S303
        signature = private_key("merchant_private").sign(signed, PKCS1v15(), digest)
        header = f"signature={base64.b64encode(signature).decode()}"
        assert _fault(header) is SignatureFault.MISMATCH


def test_any_of_several_keys_verifies_and_is_named() -> None:
    verifier = Verifier([public_key("antom_public"), public_key("merchant_public")])
    found = verifier.verify(
        method="POST",
        uri=URI,
        client_id=SANDBOX_CLIENT_ID,
        time=TIME,
        body=b"{}",
        signature_header=SIGNER.signature_header("POST", URI, TIME, b"{}"),
    )
    assert found == fingerprint(public_key("merchant_public"))
    assert len(found) == 16


def test_a_verifier_without_keys_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Verifier([])


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("", SignatureFault.MISSING),
        ("  ", SignatureFault.MISSING),
        ("signature=", SignatureFault.MISSING),
        ("algorithm=RSA256,keyVersion=1", SignatureFault.MISSING),
        ("algorithm=RSA256,\tsignature=AAAA", SignatureFault.MISSING),
        ("algorithm=RSA256,keyVersion=1,signature", SignatureFault.HEADER_MALFORMED),
        ("algorithm=RSA256,,signature=AA==", SignatureFault.HEADER_MALFORMED),
        ("=x,signature=AA==", SignatureFault.HEADER_MALFORMED),
        ("signature=AA==,signature=AA==", SignatureFault.HEADER_MALFORMED),
        ("algorithm=RSA256,algorithm=none,signature=AA==", SignatureFault.HEADER_MALFORMED),
        ("signature=" + "A" * 9000, SignatureFault.HEADER_MALFORMED),
        ("algorithm=RSA1,signature=AA==", SignatureFault.ALGORITHM),
        ("algorithm=none,signature=AA==", SignatureFault.ALGORITHM),
        ("algorithm=,signature=AA==", SignatureFault.ALGORITHM),
        ("signature=A", SignatureFault.ENCODING),
        ("signature=AA", SignatureFault.ENCODING),
        ("signature=A A=", SignatureFault.ENCODING),
        ("signature=AA==AA==", SignatureFault.ENCODING),
        ("signature=AB==", SignatureFault.ENCODING),
        ("signature=AA%3D%3", SignatureFault.ENCODING),
        ("signature=AA%zz", SignatureFault.ENCODING),
        ("signature=AA%253D%253D", SignatureFault.ENCODING),
        ("signature=A-_=", SignatureFault.ENCODING),
        ("signature=é", SignatureFault.ENCODING),
        ("signature=AA==", SignatureFault.MISMATCH),
    ],
)
def test_a_header_is_read_strictly(header: str, fault: SignatureFault) -> None:
    assert _fault(header) is fault


def test_a_header_may_have_8192_characters_and_no_more() -> None:
    header = SIGNER.signature_header("POST", URI, TIME, b"{}") + ",unknown="
    _verify(header.ljust(8192, "x"))
    assert _fault(header.ljust(8193, "x")) is SignatureFault.HEADER_MALFORMED


def test_metrics_and_logs_know_each_fault_by_its_name() -> None:
    assert list(SignatureFault) == [
        "signature_missing",
        "signature_header_malformed",
        "signature_algorithm",
        "signature_encoding",
        "signed_parts_malformed",
        "signature_mismatch",
    ]
    assert str(SignatureInvalid(SignatureFault.MISSING)) == "signature_missing"


@pytest.mark.parametrize(
    "arranged",
    [
        "algorithm=RSA256, keyVersion=1, signature={}",
        "signature={},keyVersion=1,algorithm=RSA256",
        " signature = {} ",
        "signature={},unknown=1",
        "keyVersion=99,signature={}",
    ],
)
def test_a_header_may_be_arranged_as_the_documents_show(arranged: str) -> None:
    header = SIGNER.signature_header("POST", URI, TIME, b"{}")
    _verify(arranged.format(_value(header)))


@pytest.mark.parametrize(
    "parts",
    [
        {"method": "post"},
        {"method": "POST x"},
        {"uri": "ams"},
        {"uri": "https://host/ams"},
        {"uri": f"{URI} x"},
        {"uri": f"{URI}\n"},
        {"client_id": f"{SANDBOX_CLIENT_ID}.x"},
        {"time": ""},
        {"time": "2026-01-02 03:04:05"},
        {"time": "1" * 41},
    ],
)
def test_parts_that_cannot_be_antoms_are_refused_before_any_arithmetic(
    parts: dict[str, str],
) -> None:
    header = SIGNER.signature_header("POST", URI, TIME, b"{}")
    assert _fault(header, **parts) is SignatureFault.PARTS_MALFORMED


def _pem(key: rsa.RSAPrivateKey, form: PrivateFormat) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def _public(key: rsa.RSAPublicKey, encoding: Encoding, form: PublicFormat) -> bytes:
    return key.public_bytes(encoding, form)


def _wrapped(text: str) -> str:
    """As a careful editor leaves it: lines of 64, CRLF, a byte order mark."""
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\ufeff" + "\r\n".join(lines) + "\r\n"


def test_a_private_key_may_come_in_every_form_that_antom_and_its_sdks_use() -> None:
    key, golden = private_key("merchant_private"), keys()
    forms = [
        golden["merchant_private"],
        golden["merchant_private_pkcs1"],
        golden["merchant_private_pem_pkcs8"],
        golden["merchant_private_pem_pkcs8"].replace("\n", "\r\n"),
        _pem(key, PrivateFormat.TraditionalOpenSSL),
        _wrapped(golden["merchant_private"]),
    ]
    for form in forms:
        assert load_private_key(form, setting="S").private_numbers() == key.private_numbers()


def test_a_public_key_may_come_in_every_form_that_antom_and_its_sdks_use() -> None:
    key, golden = public_key("antom_public"), keys()
    forms = [
        golden["antom_public"],
        golden["antom_public_pem"],
        _wrapped(golden["antom_public"]),
        _public(key, Encoding.PEM, PublicFormat.PKCS1).decode(),
        base64.b64encode(_public(key, Encoding.DER, PublicFormat.PKCS1)).decode(),
    ]
    for form in forms:
        assert load_public_key(form, setting="S").public_numbers() == key.public_numbers()


def _refused_private(text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_private_key(text, setting="PRIVATE_SETTING")
    assert refused.value.setting == "PRIVATE_SETTING"
    assert refused.value.__cause__ is None
    return str(refused.value)


def _refused_public(text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_public_key(text, setting="PUBLIC_SETTING")
    assert refused.value.setting == "PUBLIC_SETTING"
    return str(refused.value)


def test_what_is_no_key_is_refused_by_the_name_of_its_setting_and_never_quoted() -> None:
    golden = keys()
    secret = golden["merchant_private"]
    strewn = f"{secret[:100]}!{secret[100:]}"
    none = ("", "   ", "not a key", "é", secret[:-8], secret[100:], "-----BEGIN x", "AAAA", strewn)
    none += (f"X{secret}", f"{secret}X")
    for text in none:
        said = _refused_private(text)
        assert said.startswith("PRIVATE_SETTING: expected an unencrypted RSA private key")
        assert not text.strip() or text[:40] not in said
        assert _refused_public(text).startswith("PUBLIC_SETTING: expected an RSA public key")
    assert secret[200:240] not in _refused_private(secret[:-8])


def test_keys_of_another_kind_are_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    encrypted = private_key("merchant_private").private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    elliptic = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (elliptic, encrypted.decode()):
        assert "unencrypted RSA private key" in _refused_private(text)
    assert "RSA public key" in _refused_public(public.decode())


def test_a_key_in_the_others_place_is_told() -> None:
    assert "found a public one" in _refused_private(keys()["antom_public"])
    assert "found a private one" in _refused_public(keys()["merchant_private"])


def test_short_keys_are_refused() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    assert "2048 to 8192 bits, found 1024" in _refused_private(_pem(short, PrivateFormat.PKCS8))
    pem = _public(short.public_key(), Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert "2048 to 8192 bits, found 1024" in _refused_public(pem.decode())


def test_keys_of_2048_to_8192_bits_are_taken() -> None:
    assert private_key("merchant_private").key_size == MIN_KEY_BITS == 2048
    assert MAX_KEY_BITS == 8192
    for bits in (2048, 8192):
        _refuse_unusable_size(bits, "S")
    for bits in (2047, 8193):
        with pytest.raises(ConfigurationError, match=rf"S: .* 2048 to 8192 bits, found {bits}"):
            _refuse_unusable_size(bits, "S")


def test_the_merchants_own_public_key_in_antoms_place_is_refused() -> None:
    merchant = private_key("merchant_private")
    refuse_own_key(merchant, [public_key("antom_public")], setting="ANTOM_KEYS")
    with pytest.raises(ConfigurationError, match=r"ANTOM_KEYS: .*merchant's own"):
        refuse_own_key(
            merchant,
            [public_key("antom_public"), public_key("merchant_public")],
            setting="ANTOM_KEYS",
        )


def test_the_unsigned_responses_of_the_vectors_are_all_tested_somewhere() -> None:
    """They are about a client's conduct, not about a signature: see test_client."""
    found = json.loads((FOLDER / "signing" / "responses.json").read_text())["unsigned_responses"]
    assert {response["name"] for response in found} == {
        "unsigned_S",
        "unsigned_F_invalid_signature",
        "unsigned_U",
        "only_signature",
        "only_response_time",
        "http_500_html",
    }
