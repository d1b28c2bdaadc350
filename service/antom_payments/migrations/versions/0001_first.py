"""The first schema: payments, private data, facts, notifications, events and the log's identity."""

import secrets
import uuid
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Only add: the version before this one goes on running while it is applied."""
    _create_payments()
    _create_facts()
    _create_log()


def _create_payments() -> None:
    op.create_table(
        "payments",
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("payment_request_id", sa.String(64), nullable=False),
        sa.Column("payment_id", sa.String(64)),
        sa.Column("reference_order_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("currency_code", sa.String(3), nullable=False),
        sa.Column("minor_units", sa.BigInteger, nullable=False),
        sa.Column("authorized_minor_units", sa.BigInteger, nullable=False),
        sa.Column("captured_minor_units", sa.BigInteger, nullable=False),
        sa.Column("refunded_minor_units", sa.BigInteger, nullable=False),
        sa.Column("payment_method_type", sa.String(64), nullable=False),
        sa.Column("capture_mode", sa.String(16), nullable=False),
        sa.Column("capture_expected", sa.Boolean),
        sa.Column("result_code", sa.String(64), nullable=False),
        sa.Column("captures", sa.JSON, nullable=False),
        sa.Column("payment_session_expiry_time", _TIME),
        sa.Column("payment_create_time", _TIME),
        sa.Column("payment_time", _TIME),
        sa.Column("auth_expiry_time", _TIME),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("inquiry_wanted", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("lease_token", sa.String(36)),
        sa.Column("lease_until_time", _TIME),
        sa.PrimaryKeyConstraint("merchant_account", "payment_request_id", name="pk_payments"),
        sa.UniqueConstraint(
            "merchant_account", "payment_id", name="uq_payments_merchant_account_payment_id"
        ),
    )
    op.create_index(
        "ix_payments_merchant_account_reference_order_id_create_time",
        "payments",
        ["merchant_account", "reference_order_id", "create_time"],
    )
    op.create_index("ix_payments_last_sequence", "payments", ["last_sequence"])
    op.create_table(
        "private_data",
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("payment_request_id", sa.String(64), nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("session", sa.LargeBinary),
        sa.Column("erase_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("merchant_account", "payment_request_id", name="pk_private_data"),
    )
    op.create_index("ix_private_data_erase_time", "private_data", ["erase_time"])


def _create_facts() -> None:
    op.create_table(
        "facts",
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("fact_id", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("payment_id", sa.String(64), nullable=False),
        sa.Column("payment_request_id", sa.String(64)),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("event_id", sa.String(36)),
        sa.Column("is_conclusive", sa.Boolean, nullable=False),
        sa.Column("orphan_state", sa.String(16)),
        sa.Column("notification_id", sa.String(36)),
        sa.Column("told_time", _TIME, nullable=False),
        sa.Column("copies", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("merchant_account", "kind", "fact_id", "outcome", name="pk_facts"),
    )
    op.create_index(
        "ix_facts_merchant_account_payment_id", "facts", ["merchant_account", "payment_id"]
    )
    op.create_index("ix_facts_orphan_state_told_time", "facts", ["orphan_state", "told_time"])
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.String(36), nullable=False),
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(128), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("request_time", sa.Text, nullable=False),
        sa.Column("key_fingerprint", sa.String(64), nullable=False),
        sa.Column("received_time", _TIME, nullable=False),
        sa.Column("event_id", sa.String(36)),
        sa.Column("copies", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("notification_id", name="pk_notifications"),
        sa.UniqueConstraint(
            "merchant_account", "body_sha256", name="uq_notifications_merchant_account_body_sha256"
        ),
    )
    op.create_index(
        "ix_notifications_outcome_received_time", "notifications", ["outcome", "received_time"]
    )


def _create_log() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("merchant_account", sa.String(64), nullable=False),
        sa.Column("payment_request_id", sa.String(64), nullable=False),
        sa.Column("payment_version", sa.BigInteger, nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("append_time", _TIME, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_events"),
        sa.UniqueConstraint("event_id", name="uq_events_event_id"),
        sa.UniqueConstraint(
            "merchant_account",
            "payment_request_id",
            "payment_version",
            name="uq_events_merchant_account_payment_request_id_payment_version",
        ),
    )
    op.create_index("ix_events_append_time", "events", ["append_time"])
    op.create_index(
        "ix_events_merchant_account_sequence", "events", ["merchant_account", "sequence"]
    )
    op.create_index(
        "ix_events_payment_request_id_merchant_account_sequence",
        "events",
        ["payment_request_id", "merchant_account", "sequence"],
    )
    identity = op.create_table(
        "log_identity",
        sa.Column("log_id", sa.String(36), nullable=False),
        sa.Column("cursor_key", sa.LargeBinary, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("log_id", name="pk_log_identity"),
    )
    now = datetime.now(UTC)
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    op.bulk_insert(
        identity,
        [
            {
                "log_id": str(uuid.uuid4()),
                "cursor_key": secrets.token_bytes(64),
                "create_time": now.replace(tzinfo=None) if on_sqlite else now,
            }
        ],
    )
