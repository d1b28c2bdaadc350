"""Notifications as facts: the golden ones exactly, and everything else set aside with a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom.golden import MODELLED, SEED, compact, sample, vectors
from antom_payments.antom.messages import NotUnderstood, parse_notification
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import Source

SGD_42 = Money("SGD", 4200)


def _parse(message: object) -> Fact:
    return parse_notification(compact(message), merchant_account="shop")


def _reason(message: object) -> str:
    with pytest.raises(NotUnderstood) as refused:
        _parse(message)
    return refused.value.reason


def _altered(path: Path, **fields: Any) -> dict[str, Any]:
    return dict(sample(path)) | fields


PAID = SEED / "03_notifyPayment_PAYMENT_RESULT_success.json"
CAPTURED = SEED / "06_notifyCapture_CAPTURE_RESULT_success.json"
PENDING = MODELLED / "notifyPayment_pending.json"


def test_the_seeds_payment_result_is_a_success() -> None:
    assert parse_notification(PAID.read_bytes(), merchant_account="shop") == Fact(
        merchant_account="shop",
        kind=FactKind.PAYMENT,
        outcome=Outcome.SUCCEEDED,
        payment_id="2020010123456789XXXX",
        fact_id="2020010123456789XXXX",
        source=Source.NOTIFICATION,
        amount=SGD_42,
        payment_request_id="paymentRequestId01",
        result_code="SUCCESS",
        antom_time=datetime(2020, 1, 1, 3, 31, 1, tzinfo=UTC),
        payment_create_time=datetime(2020, 1, 1, 3, 31, tzinfo=UTC),
        payment_time=datetime(2020, 1, 1, 3, 31, 1, tzinfo=UTC),
    )


def test_the_seeds_capture_result_names_no_payment_request_id() -> None:
    assert parse_notification(CAPTURED.read_bytes(), merchant_account="shop") == Fact(
        merchant_account="shop",
        kind=FactKind.CAPTURE,
        outcome=Outcome.SUCCEEDED,
        payment_id="2022XXXXXXX",
        fact_id="2022XXXXXXX",
        source=Source.NOTIFICATION,
        amount=SGD_42,
        payment_request_id=None,
        request_id="captureRequestId01",
        result_code="SUCCESS",
        antom_time=datetime(2022, 11, 10, 8, 34, 52, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("path", "kind", "outcome", "code"),
    [
        (
            SEED / "07_notifyCapture_CAPTURE_RESULT_failed.json",
            FactKind.CAPTURE,
            Outcome.FAILED,
            "PROCESS_FAIL",
        ),
        (
            MODELLED / "notifyCapture_failed_auth_expired.json",
            FactKind.CAPTURE,
            Outcome.FAILED,
            "AUTH_EXPIRED",
        ),
        (
            MODELLED / "notifyCapture_with_acquirer_reference.json",
            FactKind.CAPTURE,
            Outcome.SUCCEEDED,
            "SUCCESS",
        ),
        (
            MODELLED / "notifyPayment_card_authorised.json",
            FactKind.PAYMENT,
            Outcome.SUCCEEDED,
            "SUCCESS",
        ),
        # That nobody paid is concluded by an inquiry, not by this (EXPIRED is ours).
        (
            MODELLED / "notifyPayment_failed_order_closed.json",
            FactKind.PAYMENT,
            Outcome.FAILED,
            "ORDER_IS_CLOSED",
        ),
        (PENDING, FactKind.PAYMENT, Outcome.PENDING, "SUCCESS"),
        (
            MODELLED / "notifyPayment_unknown_extra_fields.json",
            FactKind.PAYMENT,
            Outcome.SUCCEEDED,
            "SUCCESS",
        ),
        (
            MODELLED / "notifyPayment_wallet_psp_customer.json",
            FactKind.PAYMENT,
            Outcome.SUCCEEDED,
            "SUCCESS",
        ),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)
def test_each_sample_is_its_fact(path: Path, kind: FactKind, outcome: Outcome, code: str) -> None:
    fact = parse_notification(path.read_bytes(), merchant_account="shop")
    assert (fact.kind, fact.outcome, fact.result_code, fact.amount) == (kind, outcome, code, SGD_42)
    assert fact.source is Source.NOTIFICATION


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (MODELLED / "notifyRefund_failed.json", "unsupported_type:REFUND_RESULT"),
        (
            MODELLED / "notifyVaulting_success_doc_spelling_resultMsg.json",
            "unsupported_type:VAULTING",
        ),
        (MODELLED / "notifyDispute_created.json", "unsupported_type:DISPUTE"),
        (SEED / "13_notification_acknowledgement.json", "unsupported_type:NONE"),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)
def test_other_notifications_are_set_aside_by_their_type(path: Path, reason: str) -> None:
    assert _reason(sample(path)) == reason


def test_an_authorization_notification_is_told_by_its_own_field() -> None:
    assert _reason({"authorizationNotifyType": "TOKEN_CREATED"}) == "unsupported_type:AUTHORIZATION"


@pytest.mark.parametrize("notify_type", ["payment_result", "4111 1111", "X" * 41, "a\nb"])
def test_a_strange_type_is_not_repeated_in_the_reason(notify_type: str) -> None:
    assert _reason({"notifyType": notify_type}) == "unsupported_type:OTHER"


def test_every_verified_golden_notification_is_read_or_set_aside() -> None:
    for vector in vectors("notifications"):
        message = json.loads(vector["body"])
        if not vector["expected_valid"]:
            continue
        if message["notifyType"] == "REFUND_RESULT":
            assert _reason(message) == "unsupported_type:REFUND_RESULT"
        elif "result" not in message:  # one vector is about bytes, not about a payment
            assert vector["name"] in {"unicode_body", "body_with_whitespace"}
            assert _reason(message) == "missing:result"
        else:
            fact = parse_notification(vector["body"], merchant_account="shop")
            assert fact.payment_id == message["paymentId"]


@pytest.mark.parametrize("status", ["U", "A"])
def test_an_undecided_payment_result_is_processing(status: str) -> None:
    result = {"resultStatus": status, "resultCode": "PAYMENT_IN_PROCESS"}
    assert _parse(_altered(PAID, result=result)).outcome is Outcome.PROCESSING
    assert _parse(_altered(CAPTURED, result=result)).outcome is Outcome.PROCESSING
    assert _parse(_altered(PENDING, result=result)).outcome is Outcome.PENDING


def test_a_failed_pending_is_not_guessed_at() -> None:
    failed = _altered(PENDING, result={"resultStatus": "F", "resultCode": "X"})
    assert _reason(failed) == "unsupported_status:PAYMENT_PENDING.F"


def test_a_failure_may_come_without_an_amount_and_nothing_is_guessed() -> None:
    closed = MODELLED / "notifyPayment_failed_order_closed.json"
    assert _parse(_altered(closed, paymentAmount=None)).amount is None


def test_an_authorisations_end_shows_that_a_capture_is_expected() -> None:
    until = "2026-01-09T11:05:00+08:00"
    for spelling in ("authExpiryTime", "authExpirytime"):
        fact = _parse(_altered(PAID, **{spelling: until}))
        assert fact.capture_expected is True
        assert fact.auth_expiry_time == datetime(2026, 1, 9, 3, 5, tzinfo=UTC)
    assert _parse(sample(PAID)).capture_expected is None


def test_a_capture_result_that_names_the_payment_request_is_believed() -> None:
    assert _parse(_altered(CAPTURED, paymentRequestId="p-1")).payment_request_id == "p-1"


def test_numbers_may_come_as_numbers() -> None:
    paid = _altered(PAID, paymentId=12345, paymentAmount={"currency": "SGD", "value": 4200})
    fact = _parse(paid)
    assert (fact.payment_id, fact.amount) == ("12345", SGD_42)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("paymentId", None, "missing:paymentId"),
        ("paymentId", "", "missing:paymentId"),
        ("paymentId", "x" * 65, "too_long:paymentId"),
        ("paymentId", {}, "wrong_type:paymentId"),
        ("paymentId", "a\x00b", "unstorable_text"),
        ("paymentId", "a\ud800b", "unstorable_text"),
        ("paymentRequestId", None, "missing:paymentRequestId"),
        ("paymentAmount", "4200", "wrong_type:paymentAmount"),
        ("paymentAmount", {"currency": "SGD"}, "not_an_integer:paymentAmount.value"),
        (
            "paymentAmount",
            {"currency": "SGD", "value": "42.00"},
            "not_an_integer:paymentAmount.value",
        ),
        ("paymentAmount", {"currency": "SGD", "value": 42.0}, "wrong_type:paymentAmount.value"),
        ("paymentAmount", {"value": "4200"}, "not_a_currency:paymentAmount.currency"),
        ("result", None, "missing:result"),
        ("result", {"resultStatus": "?"}, "unknown_value:result.resultStatus"),
        ("result", "S", "wrong_type:result"),
    ],
)
def test_what_matters_and_cannot_be_read_is_set_aside(field: str, value: Any, reason: str) -> None:
    message = _altered(PAID, **{field: value})
    body = json.dumps(message).encode()
    with pytest.raises(NotUnderstood) as refused:
        parse_notification(body, merchant_account="shop")
    assert refused.value.reason == reason


def test_a_capture_without_its_ids_is_set_aside() -> None:
    assert _reason(_altered(CAPTURED, captureId=None)) == "missing:captureId"
    assert _reason(_altered(CAPTURED, paymentId=None)) == "missing:paymentId"


def test_a_key_that_comes_twice_is_set_aside() -> None:
    body = compact(sample(PAID))[:-1] + b',"paymentId":"another"}'
    with pytest.raises(NotUnderstood, match="duplicate_key"):
        parse_notification(body, merchant_account="shop")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(field=st.sampled_from(sorted(sample(PAID))), value=JSON)
def test_no_value_of_any_field_does_anything_but_be_read_or_set_aside(
    field: str, value: object
) -> None:
    body = json.dumps(_altered(PAID, **{field: value})).encode()
    try:
        fact = parse_notification(body, merchant_account="shop")
    except NotUnderstood:
        return
    assert fact.merchant_account == "shop"
    assert fact.amount is None or fact.amount.minor_units >= 0
