"""Inquiry answers as facts, and the tie between an answer and its question."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from antom.golden import MODELLED, SEED, compact, sample
from antom_payments.antom.messages import (
    InquiryAnswer,
    NotUnderstood,
    inquiry_body,
    is_about,
    parse_inquiry,
    read_message,
)
from antom_payments.fact import Fact, FactKind, Outcome
from antom_payments.money import Money
from antom_payments.payment import Source

SGD_42 = Money("SGD", 4200)
ANSWERED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
PAID = SEED / "05_inquiryPayment_response_success_transactions_null.json"
CAPTURED = MODELLED / "inquiryPayment_response_captured.json"


def _parse(message: object, payment_request_id: str = "") -> InquiryAnswer:
    return parse_inquiry(
        read_message(compact(message)),
        time=ANSWERED,
        merchant_account="shop",
        payment_request_id=payment_request_id,
    )


def _altered(path: Path, **fields: Any) -> dict[str, Any]:
    return dict(sample(path)) | fields


def test_the_question_is_the_seeds() -> None:
    seed = sample(SEED / "04_inquiryPayment_request.json")
    assert inquiry_body(payment_request_id="paymentRequestId01") == compact(seed)
    assert inquiry_body(payment_id="1") == b'{"paymentId":"1"}'
    both = inquiry_body(payment_request_id="a", payment_id="1")
    assert both == b'{"paymentRequestId":"a","paymentId":"1"}'


def test_a_question_names_something() -> None:
    with pytest.raises(ValueError, match="payment_request_id or payment_id"):
        inquiry_body()


def test_the_seeds_answer_with_null_transactions_is_a_success() -> None:
    payment_id = "2019060811401080010018882020035XXXX"
    assert _parse(sample(PAID)) == InquiryAnswer(
        exists=True,
        time=ANSWERED,
        payment_status="SUCCESS",
        payment_id=payment_id,
        payment_request_id="paymentRequestId01",
        facts=(
            Fact(
                merchant_account="shop",
                kind=FactKind.PAYMENT,
                outcome=Outcome.SUCCEEDED,
                payment_id=payment_id,
                fact_id=payment_id,
                source=Source.INQUIRY,
                amount=SGD_42,
                payment_request_id="paymentRequestId01",
                antom_time=datetime(2019, 6, 1, 3, 31, 1, tzinfo=UTC),
                payment_create_time=datetime(2019, 6, 1, 3, 31, 1, tzinfo=UTC),
                payment_time=datetime(2019, 6, 1, 3, 31, 1, tzinfo=UTC),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("name", "outcome", "code"),
    [
        ("authorised_not_captured", Outcome.SUCCEEDED, "SUCCESS"),
        ("auth_expiry_doc_spelling", Outcome.SUCCEEDED, ""),
        ("cancelled_after_pay", Outcome.CANCELLED, "SUCCESS"),
        ("cancelled_unpaid", Outcome.CANCELLED, "SUCCESS"),
        ("fail_balance", Outcome.FAILED, "USER_BALANCE_NOT_ENOUGH"),
        ("fail_closed_unpaid", Outcome.FAILED, "PROCESS_FAIL"),
        ("fully_refunded", Outcome.SUCCEEDED, "SUCCESS"),
        ("pending_no_result_code", Outcome.PENDING, ""),
        ("processing", Outcome.PROCESSING, "PAYMENT_IN_PROCESS"),
    ],
)
def test_each_status_is_its_fact(name: str, outcome: Outcome, code: str) -> None:
    answer = _parse(sample(MODELLED / f"inquiryPayment_response_{name}.json"))
    [fact] = answer.facts
    assert (fact.kind, fact.outcome, fact.result_code) == (FactKind.PAYMENT, outcome, code)
    assert (fact.amount, fact.source) == (SGD_42, Source.INQUIRY)
    assert answer.result_code == code


@pytest.mark.parametrize(
    ("name", "outcome", "code"),
    [
        ("captured", Outcome.SUCCEEDED, "SUCCESS"),
        ("capture_in_process", Outcome.PROCESSING, "PAYMENT_IN_PROCESS"),
        ("partially_refunded", Outcome.SUCCEEDED, "SUCCESS"),
    ],
)
def test_captures_are_facts_of_their_own(name: str, outcome: Outcome, code: str) -> None:
    answer = _parse(sample(MODELLED / f"inquiryPayment_response_{name}.json"))
    payment, capture = answer.facts
    assert payment.outcome is Outcome.SUCCEEDED
    assert payment.capture_expected is True
    assert capture == Fact(
        merchant_account="shop",
        kind=FactKind.CAPTURE,
        outcome=outcome,
        payment_id=payment.payment_id,
        fact_id="20260102194010890100188000000000002",
        source=Source.INQUIRY,
        amount=SGD_42,
        payment_request_id="order-1001-pay-1",
        request_id="order-1001-cap-1",
        result_code=code,
        capture_expected=True,
    )


@pytest.mark.parametrize(
    ("name", "outcome", "code", "time"),
    [
        ("08_inquiryPayment_fragment_capture_success", Outcome.SUCCEEDED, "SUCCESS", None),
        (
            "09_inquiryPayment_fragment_capture_fail",
            Outcome.FAILED,
            "PROCESS_FAIL",
            datetime(2022, 9, 29, 14, 13, 50, tzinfo=UTC),
        ),
        (
            "10_inquiryPayment_fragment_capture_processing",
            Outcome.PROCESSING,
            "PAYMENT_IN_PROCESS",
            None,
        ),
    ],
)
def test_the_seeds_fragments_are_read_by_the_same_code(
    name: str, outcome: Outcome, code: str, time: datetime | None
) -> None:
    [capture] = _parse(sample(SEED / f"{name}.json"), payment_request_id="asked").facts
    assert (capture.kind, capture.outcome, capture.result_code) == (FactKind.CAPTURE, outcome, code)
    assert (capture.fact_id, capture.request_id) == ("2022XXXXXXXX", "test_test_test_XXXX")
    assert (capture.antom_time, capture.payment_request_id) == (time, "asked")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("authorised_not_captured", True),
        ("auth_expiry_doc_spelling", True),
        ("captured", True),
        ("capture_in_process", True),
        ("fully_refunded", None),
        ("processing", None),
    ],
)
def test_a_capture_is_expected_on_evidence_only(name: str, expected: bool | None) -> None:
    answer = _parse(sample(MODELLED / f"inquiryPayment_response_{name}.json"))
    assert answer.facts[0].capture_expected is expected


def test_the_documents_misspelt_transaction_type_is_read() -> None:
    [capture] = sample(CAPTURED)["transactions"]
    capture["transationType"] = capture.pop("transactionType")
    assert _parse(_altered(CAPTURED, transactions=[capture])).facts[1].kind is FactKind.CAPTURE


def test_a_status_that_nobody_knows_gives_no_fact() -> None:
    answer = _parse(_altered(PAID, paymentStatus="SETTLING"))
    assert (answer.exists, answer.payment_status, answer.facts) == (True, "SETTLING", ())


def test_a_capture_of_unknown_status_gives_no_fact_but_is_evidence() -> None:
    [capture] = sample(CAPTURED)["transactions"]
    capture["transactionStatus"] = "MAYBE"
    message = _altered(CAPTURED, transactions=[capture], authExpiryTime=None)
    [payment] = _parse(message).facts
    assert payment.capture_expected is True


def test_a_cancelled_capture_took_nothing() -> None:
    [capture] = sample(CAPTURED)["transactions"]
    capture["transactionStatus"] = "CANCELLED"
    assert _parse(_altered(CAPTURED, transactions=[capture])).facts[1].outcome is Outcome.FAILED


def test_a_capture_in_process_may_have_no_id_yet_but_a_finished_one_has() -> None:
    [capture] = sample(MODELLED / "inquiryPayment_response_capture_in_process.json")["transactions"]
    del capture["transactionId"]
    assert len(_parse(_altered(CAPTURED, transactions=[capture])).facts) == 1
    capture["transactionStatus"] = "SUCCESS"
    with pytest.raises(NotUnderstood, match=r"missing:transactions\[0\]\.transactionId"):
        _parse(_altered(CAPTURED, transactions=[capture]))


def test_an_answer_without_a_payment_id_is_told_apart_by_the_merchants_id() -> None:
    processing = MODELLED / "inquiryPayment_response_processing.json"
    [fact] = _parse(_altered(processing, paymentId=None)).facts
    assert (fact.payment_id, fact.fact_id) == ("", "order-1001-pay-1")


@pytest.mark.parametrize(
    ("asked", "about"),
    [
        ({"payment_request_id": "p-1"}, True),
        ({"payment_id": "1"}, True),
        ({"payment_request_id": "p-1", "payment_id": "1"}, True),
        ({"payment_request_id": "p-2"}, False),
        ({"payment_id": "2"}, False),
        ({"payment_request_id": "p-1", "payment_id": "2"}, False),
        ({"payment_request_id": "p-2", "payment_id": "1"}, False),
    ],
)
def test_an_answer_is_about_what_was_asked_or_refused(asked: dict[str, str], about: bool) -> None:
    message = read_message(b'{"paymentRequestId":"p-1","paymentId":"1"}')
    assert is_about(message, **asked) is about


def test_an_answer_that_names_nothing_is_about_nothing() -> None:
    assert not is_about(read_message(b"{}"), payment_request_id="p-1", payment_id="1")
    assert is_about(read_message(b'{"paymentId":"1"}'), payment_request_id="p-1", payment_id="1")
