"""The tables. Several merchants from the first row on: `merchant_account` is in every key.

Migrations (`antom_payments/migrations`) are what creates them; a test holds the two together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, always UTC. SQLite has no time zones: it keeps the UTC wall clock."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: they would be read in the server's zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive time")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Aware again."""
        if value is None:
            return None
        found: datetime = value
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


IS_OPEN = text(
    "(state IN ('CREATING', 'AWAITING_BUYER', 'PROCESSING', 'AUTHORIZED') OR inquiry_wanted)"
)
"""Payments that Antom is asked about; word for word the condition of their index."""

payments = Table(
    "payments",
    metadata,
    Column("merchant_account", String(64), primary_key=True),
    Column("payment_request_id", String(64), primary_key=True),
    Column("payment_id", String(64)),
    Column("reference_order_id", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("currency_code", String(3), nullable=False),
    Column("minor_units", BigInteger, nullable=False),
    Column("authorized_minor_units", BigInteger, nullable=False),
    Column("captured_minor_units", BigInteger, nullable=False),
    Column("refunded_minor_units", BigInteger, nullable=False),
    Column("payment_method_type", String(64), nullable=False),
    Column("capture_mode", String(16), nullable=False),
    Column("capture_expected", Boolean),
    Column("result_code", String(64), nullable=False),
    # Few per payment, read and written with it: a list in the row needs no second lock.
    Column("captures", JSON, nullable=False),
    Column("payment_session_expiry_time", UtcTime),
    Column("payment_create_time", UtcTime),
    Column("payment_time", UtcTime),
    Column("auth_expiry_time", UtcTime),
    Column("metadata", JSON, nullable=False),
    Column("traceparent", String(64), nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    # A row that changes moves to the end: what a snapshot of the stream pages by.
    Column("last_sequence", BigInteger, nullable=False),
    Column("inquiry_wanted", Boolean, nullable=False, server_default=false()),
    # Who is asking Antom for this payment's session, and until when.
    Column("lease_token", String(36)),
    Column("lease_until_time", UtcTime),
    UniqueConstraint("merchant_account", "payment_id"),
    Index(None, "merchant_account", "reference_order_id", "create_time"),
    # What may still be asked about, whatever became of millions of others.
    Index(
        "ix_payments_open",
        "merchant_account",
        "payment_request_id",
        postgresql_where=IS_OPEN,
        sqlite_where=IS_OPEN,
    ),
    Index(None, "last_sequence"),
    # What lists page by; the last also for what changed since a time. Without the id: with it, they
    # would be a whole order, and SQLite would rather walk one than look up a reference order.
    Index("ix_payments_created", "merchant_account", "create_time"),
    Index("ix_payments_created_in_state", "merchant_account", "state", "create_time"),
    Index("ix_payments_updated", "merchant_account", "update_time"),
    # Snapshots of merchants.
    Index("ix_payments_told", "merchant_account", "last_sequence"),
)

inquiries = Table(
    "inquiries",
    metadata,
    # A row for whatever Antom is still to be asked about, and none for the rest.
    Column("merchant_account", String(64), primary_key=True),
    # PAYMENT, by the merchant's id; ORPHAN, by Antom's: news of a payment that is not ours (yet).
    Column("kind", String(16), primary_key=True),
    Column("subject_id", String(64), primary_key=True),
    # Which cadence it follows, how many inquiries it had in it, and since when.
    Column("phase", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("since_time", UtcTime, nullable=False),
    # Lower goes first under the merchant's rate.
    Column("priority", Integer, nullable=False),
    Column("due_time", UtcTime, nullable=False),
    # Who asks Antom now, and until when.
    Column("lease_token", String(36)),
    Column("lease_until_time", UtcTime),
    Index(None, "merchant_account", "priority", "due_time"),
    # What waits longest, whoever's it is: looked at each second.
    Index(None, "due_time"),
)

inquiry_rates = Table(
    "inquiry_rates",
    metadata,
    # A token bucket for each merchant, which all replicas draw from.
    Column("merchant_account", String(64), primary_key=True),
    Column("tokens", Float, nullable=False),
    Column("update_time", UtcTime, nullable=False),
)

private_data = Table(
    "private_data",
    metadata,
    Column("merchant_account", String(64), primary_key=True),
    Column("payment_request_id", String(64), primary_key=True),
    # Antom's request body as first sent: what a resend sends again. Encrypted.
    Column("request", LargeBinary, nullable=False),
    # The newest session. Encrypted.
    Column("session", LargeBinary),
    Column("erase_time", UtcTime, nullable=False, index=True),
)

facts = Table(
    "facts",
    metadata,
    # One row per fact, whatever told it and however often.
    Column("merchant_account", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("fact_id", String(64), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("payment_id", String(64), nullable=False),
    Column("payment_request_id", String(64)),
    Column("body", JSON, nullable=False),
    # The one event that tells it. Null while no payment is known for it: an orphan.
    Column("event_id", String(36)),
    # False while its meaning is open: a signed inquiry may conclude it.
    Column("is_conclusive", Boolean, nullable=False),
    Column("orphan_state", String(16)),
    # The stored notification that told it first, if one did.
    Column("notification_id", String(36)),
    Column("told_time", UtcTime, nullable=False),
    # How often it was told again.
    Column("copies", Integer, nullable=False),
    Index(None, "merchant_account", "payment_id"),
    Index(None, "orphan_state", "told_time"),
)

notifications = Table(
    "notifications",
    metadata,
    Column("notification_id", String(36), primary_key=True),
    Column("merchant_account", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    # Why it was not understood, or held back; empty otherwise.
    Column("reason", String(128), nullable=False),
    # The exact bytes that were signed. Encrypted: they may name the buyer.
    Column("body", LargeBinary, nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("client_id", String(64), nullable=False),
    Column("request_time", Text, nullable=False),
    Column("key_fingerprint", String(64), nullable=False),
    Column("received_time", UtcTime, nullable=False),
    # The event that it led to, or that told its fact before.
    Column("event_id", String(36)),
    # How often the same bytes came again.
    Column("copies", Integer, nullable=False),
    # The fact that it tells, when it was understood: what an inquiry must confirm.
    Column("fact_kind", String(16)),
    Column("fact_id", String(64)),
    Column("fact_outcome", String(16)),
    Column("payment_id", String(64)),
    UniqueConstraint("merchant_account", "body_sha256"),
    Index(None, "outcome", "received_time"),
    Index(None, "merchant_account", "payment_id"),
)

events = Table(
    "events",
    metadata,
    # Dense, in commit order. Not partitioned: see DECISIONS.md.
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("merchant_account", String(64), nullable=False),
    Column("payment_request_id", String(64), nullable=False),
    Column("payment_version", BigInteger, nullable=False),
    Column("type", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("append_time", UtcTime, nullable=False, index=True),
    Column("body", JSON, nullable=False),
    UniqueConstraint("merchant_account", "payment_request_id", "payment_version"),
    Index(None, "merchant_account", "sequence"),
    Index(None, "payment_request_id", "merchant_account", "sequence"),
)

audit_records = Table(
    "audit_records",
    metadata,
    # What operators did by command, written in the transaction that does it.
    Column("audit_id", String(36), primary_key=True),
    Column("record_time", UtcTime, nullable=False, index=True),
    Column("actor", String(128), nullable=False),
    # The command, as in `quarantine discard`.
    Column("action", String(64), nullable=False),
    Column("merchant_account", String(64), nullable=False),
    # Ids only, no personal data: what it was done to, and with which words.
    Column("subject_id", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
)

log_identity = Table(
    "log_identity",
    metadata,
    # One row, made with the schema: cursors of another log do not open here.
    Column("log_id", String(36), primary_key=True),
    Column("cursor_key", LargeBinary, nullable=False),
    Column("create_time", UtcTime, nullable=False),
)
