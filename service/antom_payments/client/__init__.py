"""The Python client: sessions, payments, lists, and events that resume by themselves.

It needs `antom_payments.v1`, grpcio, googleapis-common-protos and opentelemetry-api, and nothing
else of this distribution.
"""

from antom_payments.client.backoff import Backoff
from antom_payments.client.connection import PLAINTEXT, SERVICE_CONFIG, Payments, connect
from antom_payments.client.cursor_store import CursorStore, FileCursorStore, MemoryCursorStore
from antom_payments.client.errors import (
    CallFailed,
    ClientError,
    ConnectionClosed,
    CursorExpired,
    CursorInvalid,
    CursorUnusable,
    FieldViolation,
    InvalidRequest,
    LogRewound,
    NewPaymentRequestIdNeeded,
    NotFound,
    PaymentRequestIdReused,
    SessionRefused,
    TryAgain,
)
from antom_payments.client.following import (
    AfterCursor,
    AtTime,
    Batch,
    Earliest,
    Following,
    Latest,
    Snapshot,
)
from antom_payments.client.listing import EventList, PaymentList

__all__ = [
    "PLAINTEXT",
    "SERVICE_CONFIG",
    "AfterCursor",
    "AtTime",
    "Backoff",
    "Batch",
    "CallFailed",
    "ClientError",
    "ConnectionClosed",
    "CursorExpired",
    "CursorInvalid",
    "CursorStore",
    "CursorUnusable",
    "Earliest",
    "EventList",
    "FieldViolation",
    "FileCursorStore",
    "Following",
    "InvalidRequest",
    "Latest",
    "LogRewound",
    "MemoryCursorStore",
    "NewPaymentRequestIdNeeded",
    "NotFound",
    "PaymentList",
    "PaymentRequestIdReused",
    "Payments",
    "SessionRefused",
    "Snapshot",
    "TryAgain",
    "connect",
]
