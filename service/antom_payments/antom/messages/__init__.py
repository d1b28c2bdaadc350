"""Antom's messages as our types: one module each for what is asked, told and answered."""

from antom_payments.antom.messages.inquiry import (
    InquiryAnswer,
    inquiry_body,
    is_about,
    parse_inquiry,
)
from antom_payments.antom.messages.notification import parse_notification
from antom_payments.antom.messages.reading import NotUnderstood, parse_time, read_message
from antom_payments.antom.messages.session import (
    SessionPolicy,
    parse_session,
    session_body,
    with_expiry_of,
)

__all__ = [
    "InquiryAnswer",
    "NotUnderstood",
    "SessionPolicy",
    "inquiry_body",
    "is_about",
    "parse_inquiry",
    "parse_notification",
    "parse_session",
    "parse_time",
    "read_message",
    "session_body",
    "with_expiry_of",
]
