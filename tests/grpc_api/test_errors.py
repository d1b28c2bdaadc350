"""Every error has a status, and none says too much."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from antom_payments import errors
from antom_payments.errors import FieldViolation, InvalidRequest, PaymentsError
from antom_payments.grpc_api.errors import ERRORS, MAX_DETAILS_BYTES, Answer, answer_to
from antom_payments.v1 import error_reason_pb2

CARD = "4111 1111 1111 1111"
MESSAGE = "made for this test"


def leaves(kind: type[PaymentsError] = PaymentsError) -> Iterator[type[PaymentsError]]:
    inner = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    if not inner or kind is errors.StoreUnavailable:
        yield kind
    for sub in inner:
        yield from leaves(sub)


def an(kind: type[PaymentsError]) -> PaymentsError:
    """An error of the kind, whatever its constructor takes."""
    values: dict[str, object] = {
        "violations": [FieldViolation("order.goods[0].goods_name", "is required")],
        "retry_after_seconds": 1.5,
        "after_sequence": 3,
    }
    parameters = inspect.signature(kind).parameters
    return kind(
        **{
            name: values.get(name, f"the {name}")
            for name, parameter in parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
            and (name in values or parameter.default is inspect.Parameter.empty)
        }
    )


def details(answer: Answer, kind: type[Message]) -> list[Message]:
    found = []
    for detail in answer.status.details:
        if detail.Is(kind.DESCRIPTOR):
            message = kind()
            detail.Unpack(message)
            found.append(message)
    return found


def info_of(answer: Answer) -> error_details_pb2.ErrorInfo:
    [info] = details(answer, error_details_pb2.ErrorInfo)
    return info


def test_every_error_has_a_row_and_every_row_is_an_error() -> None:
    assert set(ERRORS) == set(leaves())


def test_every_reason_is_sent_by_some_row() -> None:
    reasons = set(error_reason_pb2.ErrorReason.values())
    assert {reason for _, reason in ERRORS.values()} == reasons - {0}


def test_the_codes_are_those_that_the_contract_documents() -> None:
    """The comment of each reason in error_reason.proto names its code."""
    proto = Path(__file__).parents[2] / "proto/antom_payments/v1/error_reason.proto"
    source = proto.read_text()
    documented: dict[str, str] = {}
    comment = ""
    for line in source.splitlines():
        text = line.strip()
        if text.startswith("//"):
            comment += " " + text.removeprefix("//").strip()
        elif text.startswith("ERROR_REASON_"):
            code = comment.partition("Code ")[2].split(".")[0].split()
            documented[text.split(" ")[0]] = code[0] if code else ""
            comment = ""
    for code, reason in ERRORS.values():
        assert documented[error_reason_pb2.ErrorReason.Name(reason)] == code.name


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.__name__)
def test_every_answer_names_reason_and_domain_and_is_small(kind: type[PaymentsError]) -> None:
    answer = answer_to(an(kind), "Service/Method")
    code, reason = ERRORS[kind]
    info = info_of(answer)
    assert answer.code is code
    assert answer.status.code == code.value[0]
    assert f"ERROR_REASON_{info.reason}" == error_reason_pb2.ErrorReason.Name(reason)
    assert info.domain == "antom-payments"
    assert answer.status.ByteSize() < MAX_DETAILS_BYTES


def test_the_variables_of_an_error_are_metadata() -> None:
    answer = answer_to(errors.PaymentRequestIdReused("order-1", "amount"), "m")
    assert dict(info_of(answer).metadata) == {
        "payment_request_id": "order-1",
        "differing": "amount",
    }


def test_a_retry_is_advised_where_waiting_helps_and_only_there() -> None:
    for kind in leaves():
        error = an(kind)
        retries = details(answer_to(error, "m"), error_details_pb2.RetryInfo)
        assert len(retries) == (error.retry_after_seconds is not None), kind
    [retry] = details(
        answer_to(errors.SessionInFlight("x", 1.25), "m"), error_details_pb2.RetryInfo
    )
    assert retry.retry_delay.ToNanoseconds() == 1_250_000_000  # type: ignore[attr-defined]


def test_wrong_fields_are_named() -> None:
    answer = answer_to(an(InvalidRequest), "m")
    [bad] = details(answer, error_details_pb2.BadRequest)
    [violation] = bad.field_violations  # type: ignore[attr-defined]
    assert (violation.field, violation.description) == ("order.goods[0].goods_name", "is required")


@pytest.mark.parametrize("text", ["x", "é", "\U0001f4b8", "\ud800"])
@pytest.mark.parametrize("count", [1, 20, 5000])
def test_details_stay_below_4_kib_whatever_they_hold(text: str, count: int) -> None:
    violations = [FieldViolation(f"{text * 300}[{n}]", text * 1000) for n in range(count)]
    error = InvalidRequest(violations)
    error.metadata = {f"{n}{text * 100}": text * 1000 for n in range(count)}
    answer = answer_to(error, "m")
    assert answer.status.ByteSize() < MAX_DETAILS_BYTES
    [bad] = details(answer, error_details_pb2.BadRequest)
    told = bad.field_violations  # type: ignore[attr-defined]
    assert 1 <= len(told) <= count
    if len(told) < count:
        assert told[-1].description == f"and {count - len(told) + 1} more"
    status = rpc_status.to_status(answer.status)
    assert len(status.details.encode()) <= 512


def test_an_unknown_exception_is_answered_by_a_fixed_text_and_an_id() -> None:
    one, other = (answer_to(RuntimeError(MESSAGE), "m") for _ in range(2))
    assert one.code is grpc.StatusCode.INTERNAL
    assert MESSAGE not in str(one.status)
    assert one.status.message == other.status.message
    assert len(info_of(one).metadata["error_id"]) == 8
    assert info_of(one).metadata["error_id"] != info_of(other).metadata["error_id"]


@pytest.mark.parametrize(
    "kind", [errors.SchemaOutdated, errors.LogCorrupt, errors.ConfigurationError]
)
def test_the_operators_matters_are_not_told_to_callers(kind: type[PaymentsError]) -> None:
    answer = answer_to(an(kind), "m")
    assert info_of(answer).reason == "INTERNAL"
    assert str(an(kind)) not in str(answer.status)


def test_what_callers_sent_does_not_come_back_as_a_card_number() -> None:
    error = InvalidRequest([FieldViolation(CARD, f"{CARD} is wrong")])
    error.metadata = {"merchant_account": CARD, CARD: "x"}
    assert CARD not in str(answer_to(error, "m").status)
    assert "1111" not in str(answer_to(errors.MerchantNotFound(CARD), "m").status)
