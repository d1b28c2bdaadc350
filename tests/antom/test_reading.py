"""Reading Antom's JSON: tolerant where Antom varies, strict about money and identity."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom.golden import MODELLED, SEED
from antom_payments.antom.messages.reading import (
    JsonObject,
    NotUnderstood,
    Result,
    ResultStatus,
    parse_time,
    read_message,
)
from antom_payments.antom.messages.shape import amount_fields
from antom_payments.money import MAX_MINOR_UNITS, Money


def _reason(body: bytes) -> str:
    with pytest.raises(NotUnderstood) as refused:
        read_message(body)
    return refused.value.reason


def _field_reason(read: Any, fields: dict[str, Any]) -> str:
    with pytest.raises(NotUnderstood) as refused:
        read(JsonObject(fields))
    return refused.value.reason


@pytest.mark.parametrize("path", sorted([*SEED.glob("*.json"), *MODELLED.glob("*.json")]))
def test_every_sample_can_be_read(path: Any) -> None:
    message = read_message(path.read_bytes())
    if "result" in json.loads(path.read_text()):
        assert message.result().code


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"<html>", "not_json"),
        (b'{"a":NaN}', "not_json"),
        (b'{"a":-Infinity}', "not_json"),
        (b'{"a":"\x01"}', "not_json"),
        (b'{"a":' + b"9" * 5000 + b"}", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"a":"\xff"}', "not_utf8"),
        (b'{"a":"\xed\xa0\x80"}', "not_utf8"),
        (b"[]", "not_an_object"),
        (b'"x"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'{"result":{"resultStatus":"F","resultStatus":"S"}}', "duplicate_key"),
        (b'{"a":"\\u0000"}', "unstorable_text"),
        (b'{"a":["x",{"b":"\\ud800"}]}', "unstorable_text"),
        (b'{"\\udfff":1}', "unstorable_text"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested_too_deep"),
    ],
)
def test_a_body_that_is_ambiguous_or_unstorable_is_not_understood(body: bytes, reason: str) -> None:
    assert _reason(body) == reason


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert read_message(b'{"a":"\\ud83d\\ude00"}').text("a") == "\N{GRINNING FACE}"


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_read_or_not_understood(body: bytes) -> None:
    with contextlib.suppress(NotUnderstood):
        read_message(body)


def test_absent_null_and_empty_are_the_same() -> None:
    for fields in ({}, {"x": None}, {"x": ""}):
        node = JsonObject(fields)
        assert not node.has("x")
        assert node.text("x") == ""
        assert node.object("x") is None
        assert list(node.objects("x")) == []
        assert node.money("x") is None
        assert node.time("x") is None


def test_scalars_may_come_as_text_or_not() -> None:
    node = JsonObject({"number": 20, "text": "20", "yes": True, "no": False})
    assert [node.text(name) for name in ("number", "text", "yes", "no")] == [
        *("20", "20", "true", "false")
    ]


def test_a_second_spelling_is_read() -> None:
    assert JsonObject({"authExpirytime": "x"}).text("authExpiryTime", "authExpirytime") == "x"


def test_text_of_another_type_or_beyond_its_length_is_not_understood() -> None:
    assert _field_reason(lambda node: node.text("x"), {"x": {}}) == "wrong_type:x"
    assert _field_reason(lambda node: node.text("x"), {"x": 1.5}) == "wrong_type:x"
    assert _field_reason(lambda node: node.text("x"), {"x": "a" * 65}) == "too_long:x"
    assert _field_reason(lambda node: node.required_text("x"), {"x": ""}) == "missing:x"


def test_lists_may_be_null_hold_null_or_be_a_single_object() -> None:
    node = JsonObject({"none": None, "some": [None, {"a": "1"}], "one": {"a": "2"}})
    assert list(node.objects("none")) == []
    assert [item.text("a") for item in node.objects("some")] == ["1"]
    assert [item.text("a") for item in node.objects("one")] == ["2"]


def test_a_list_of_something_else_is_not_understood() -> None:
    assert _field_reason(lambda node: list(node.objects("x")), {"x": ["a"]}) == "wrong_type:x"
    assert _field_reason(lambda node: node.object("x"), {"x": "a"}) == "wrong_type:x"


@given(
    value=st.integers(0, 10**16 - 1),
    as_text=st.booleans(),
    currency=st.sampled_from(["SGD", "JPY", "KWD"]),
)
def test_an_integer_amount_is_read_exactly(value: int, as_text: bool, currency: str) -> None:
    amount = {"currency": currency, "value": str(value) if as_text else value}
    assert JsonObject({"x": amount}).money("x") == Money(currency, value)


@given(
    minor_units=st.integers(0, MAX_MINOR_UNITS),
    currency=st.from_regex(r"[A-Z]{3}", fullmatch=True),
)
def test_an_amount_that_we_write_is_read_back(minor_units: int, currency: str) -> None:
    money = Money(currency, minor_units)
    written = json.dumps({"x": amount_fields(money)}).encode()
    assert read_message(written).money("x") == money


@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(max_value=-1),
        st.integers(min_value=10**16),
        st.booleans(),
        st.text(max_size=20).filter(lambda text: not (text.isascii() and text.isdigit())),
        st.sampled_from(
            ["4200.00", "4,200", "4e3", "+4200", "-1", " 4200", "4200\n", "٤٢٠٠", "1_0"]
        ),
    )
)
def test_an_amount_that_is_no_integer_is_never_understood(value: object) -> None:
    fields = {"x": {"currency": "SGD", "value": value}}
    assert _field_reason(lambda node: node.money("x"), fields) in {
        "not_an_integer:x.value",
        "wrong_type:x.value",
        "too_long:x.value",
    }


@pytest.mark.parametrize("currency", ["", "sgd", "SG", "SGDX", "\uff33\uff27\uff24", None])
def test_an_amount_without_a_currency_is_not_understood(currency: str | None) -> None:
    fields = {"x": {"currency": currency, "value": "1"}}
    assert _field_reason(lambda node: node.money("x"), fields) == "not_a_currency:x.currency"


@pytest.mark.parametrize("amount", ["4200", 4200, ["SGD", "4200"]])
def test_an_amount_that_is_no_object_is_not_understood(amount: object) -> None:
    assert _field_reason(lambda node: node.money("x"), {"x": amount}) == "wrong_type:x"


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T11:04:06+08:00",
        "2026-01-02T11:34:06+08:30",
        "2026-01-02T03:04:06Z",
        "2026-01-02T03:04:06.0000000Z",
        "2026-01-01T20:04:06-07:00",
        "2026-01-02T11:04:06+0800",
        "2026-01-02T11:04:06+08",
        "2026-01-02 11:04:06+08:00",
        "1767323046000",
    ],
)
def test_a_time_of_any_offset_form_becomes_utc(text: str) -> None:
    time = parse_time(text)
    assert time == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert time.tzinfo is UTC


@given(
    st.datetimes(
        timezones=st.timezones(),
        min_value=datetime(1970, 1, 2),
        max_value=datetime(8999, 12, 31),
    )
)
def test_a_time_keeps_its_instant(time: datetime) -> None:
    read = parse_time(time.isoformat())
    assert read == time
    assert read is not None
    assert read.utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2026-01-02T03:04:06", "2026-13-02T03:04:06Z", "1" * 30),
        *("0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00"),
    ],
)
def test_a_time_that_cannot_be_read_is_none(text: str) -> None:
    assert parse_time(text) is None
    assert JsonObject({"x": text}).time("x") is None


def test_a_time_of_another_type_is_none() -> None:
    assert JsonObject({"x": {}}).time("x") is None
    assert JsonObject({"x": 1767323046000}).time("x") == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)


def _result(fields: dict[str, Any]) -> Result:
    return JsonObject({"result": fields}).result()


def test_a_result_is_read_by_its_letter() -> None:
    assert _result({"resultStatus": "S", "resultCode": "SUCCESS"}) == Result(
        ResultStatus.SUCCESS, "SUCCESS"
    )
    assert _result({"resultStatus": "F", "resultMsg": "x"}) == Result(ResultStatus.FAILED, "")
    assert _result({"resultStatus": "A"}).status is ResultStatus.UNKNOWN


@pytest.mark.parametrize("code", ["4111 1111 1111 1111", "a\nb", "x" * 65, 7, {}, "<script>"])
def test_a_result_code_that_is_no_code_is_not_repeated(code: object) -> None:
    assert _result({"resultStatus": "F", "resultCode": code}).code == ""


def test_a_result_that_says_nothing_is_not_understood() -> None:
    assert _field_reason(lambda node: node.result(), {}) == "missing:result"
    for status in ("", "X", "s", None):
        fields = {"result": {"resultStatus": status}}
        reason = _field_reason(lambda node: node.result(), fields)
        assert reason == "unknown_value:result.resultStatus"
