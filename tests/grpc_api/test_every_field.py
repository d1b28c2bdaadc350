"""Every field of Antom's createPaymentSession: in the contract, on the wire, in docs/fields.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from antom.golden import MODELLED, sample
from antom_fields import antom_fields
from antom_payments.antom.messages import SessionPolicy, session_body
from antom_payments.antom.messages.rules import RULES
from antom_payments.grpc_api.session_requests import CLASSES, session_request
from antom_payments.v1 import payment_service_pb2 as pb

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
EVERY_FIELD = Path(__file__).parent.parent / "golden" / "contract"
OURS_ALONE = {("CreateSessionRequest", "merchant_account"), ("CreateSessionRequest", "metadata")}
"""Which merchant of ours it is, and the caller's own data: Antom has no word for them."""


def every_field() -> pb.CreateSessionRequest:
    text = (EVERY_FIELD / "create_session_every_field.json").read_text("utf-8")
    return json_format.Parse(text, pb.CreateSessionRequest())


def test_a_request_with_every_field_is_antoms_json_to_the_letter() -> None:
    sent = session_body(session_request(every_field()), policy=SessionPolicy(), now=NOW)
    assert json.loads(sent) == sample(MODELLED / "createPaymentSession_request_every_field.json")


def reachable(message: Descriptor, seen: set[str] | None = None) -> Iterator[tuple[str, str]]:
    """The fields of a message and of all within it, but for times and maps."""
    seen = set() if seen is None else seen
    if message.full_name in seen or message.file.package != "antom_payments.v1":
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield message.name, field.name
        if field.message_type and not field.message_type.GetOptions().map_entry:
            yield from reachable(field.message_type, seen)


def set_in(message: Message) -> Iterator[tuple[str, str]]:
    """The fields that are set, anywhere in a message."""
    for field, value in message.ListFields():
        yield message.DESCRIPTOR.name, field.name
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for one in value if field.is_repeated else [value]:
                yield from set_in(one)


def test_the_golden_request_has_every_field_of_the_contract() -> None:
    assert set(reachable(pb.CreateSessionRequest.DESCRIPTOR)) <= set(set_in(every_field()))


def test_every_field_of_antoms_reference_is_in_the_contract_or_has_a_reason() -> None:
    told = {(field.message.name, field.ours) for field in antom_fields() if field.ours}
    ours = set(reachable(pb.CreateSessionRequest.DESCRIPTOR))
    assert told | OURS_ALONE == ours
    assert all(bool(field.ours) is not bool(field.reason) for field in antom_fields())
    for field in antom_fields():
        in_contract = field.ours in field.message.fields_by_name
        assert in_contract is bool(field.ours), field


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def test_what_is_sent_is_what_the_reference_names() -> None:
    sent = names_in(sample(MODELLED / "createPaymentSession_request_every_field.json"))
    taken = {field.name for field in antom_fields() if field.ours} | {"productCode"}
    assert sent == taken


def test_messages_and_the_domain_have_the_same_fields() -> None:
    for name, kind in CLASSES.items():
        described = pb.CreateSessionRequest.DESCRIPTOR.fields_by_name["order"].message_type.file
        message = described.message_types_by_name[name]
        assert list(kind.__dataclass_fields__) == [field.name for field in message.fields], name


def test_every_text_and_number_has_a_limit() -> None:
    """Or a caller could send any amount of anything to be stored and sent on."""
    for kind in CLASSES.values():
        for name, field in kind.__dataclass_fields__.items():
            limited = name in RULES.get(kind, {})
            is_closed = str(field.type).startswith(("bool", "datetime", "Money"))
            is_object = str(field.type).split(" ")[0].removeprefix("tuple[").rstrip(",") in CLASSES
            assert limited or is_closed or is_object, f"{kind.__name__}.{name}"
